// Channels and select: a pipeline of tasks, and a wait for whichever comes first.
#include <weft/weft.h>

#include <chrono>
#include <cstdio>
#include <optional>

namespace {

// Sends 2, 3, 4, … until nobody wants more.
void count(weft::send_chan<int> out, weft::recv_chan<char> enough) {
  bool going = true;
  for (int i = 2; going; ++i) {
    weft::select(weft::on_send(out, i), weft::on_recv(enough, [&] { going = false; }));
  }
}

// Passes on what `prime` does not divide.
void filter(weft::recv_chan<int> in, weft::send_chan<int> out, int prime,
            weft::recv_chan<char> enough) {
  bool going = true;
  while (going) {
    std::optional<int> n;
    weft::select(weft::on_recv(in, [&](std::optional<int> v) { n = v; }),
                 weft::on_recv(enough, [&] { going = false; }));
    if (!n || *n % prime == 0) continue;
    weft::select(weft::on_send(out, *n), weft::on_recv(enough, [&] { going = false; }));
  }
}

}  // namespace

int main() {
  using namespace std::chrono_literals;
  return weft::run([] {
    // The sieve of Eratosthenes: one task per prime, each fed by the one before.
    weft::chan<char> enough(0);
    weft::wait_group tasks;
    weft::chan<int> stream(0);
    tasks.go([=] { count(stream, enough); });
    for (int i = 0; i < 10; ++i) {
      int prime = *stream.recv();
      std::printf("%d ", prime);
      weft::chan<int> filtered(0);
      tasks.go([=] { filter(stream, filtered, prime, enough); });
      stream = filtered;
    }
    std::printf("\n");
    enough.close();  // everyone who waits on it goes on: closing is how to tell many at once
    tasks.wait();

    // A buffered channel decouples sender and receiver; a range-for ends when it is closed and
    // empty.
    weft::chan<int> squares(4);
    weft::go([squares] {
      for (int i = 1; i <= 5; ++i) squares.send(i * i);
      squares.close();
    });
    int sum = 0;
    for (int square : squares) sum += square;
    std::printf("sum of squares: %d\n", sum);

    // A wait with a limit.
    weft::chan<int> silent(0);
    weft::select(weft::on_recv(silent, [] { std::printf("not reached\n"); }),
                 weft::on_timeout(10ms, [] { std::printf("nothing came\n"); }));
  });
}
