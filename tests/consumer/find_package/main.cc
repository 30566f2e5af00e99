// A program that uses the core alone: tasks and channels, neither net nor profiles.
#include <weft/weft.h>

int main() {
  return weft::run([] {
    weft::chan<int> numbers(1);
    weft::go([numbers] { numbers.send(42); });
    return numbers.recv().value() == 42 ? 0 : 1;
  });
}
