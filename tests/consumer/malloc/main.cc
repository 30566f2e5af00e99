// A program that links weft::weft and weft::malloc.
#include <malloc.h>
#include <weft/weft.h>

#include <cstdlib>
#include <memory>
#include <vector>

int main() {
  return weft::run([] {
    weft::wait_group tasks;
    std::vector<std::unique_ptr<char[]>> blocks(100);
    for (auto& block : blocks) tasks.go([&] { block = std::make_unique<char[]>(100'000); });
    tasks.wait();
    return blocks[99] != nullptr && malloc_usable_size(blocks[99].get()) >= 100'000 ? 0 : 1;
  });
}
