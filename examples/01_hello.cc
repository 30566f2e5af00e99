// Tasks: start some, wait for them, use their results.
#include <weft/weft.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>

int main() {
  using namespace std::chrono_literals;
  return weft::run([] {
    // A task is a function that runs beside its caller. They cost little: start as many as there
    // are things to wait for.
    weft::wait_group sleepers;
    for (int i = 0; i < 1000; ++i) sleepers.go([] { weft::this_task::sleep_for(10ms); });
    sleepers.wait();
    std::printf("1000 tasks slept\n");

    // spawn() keeps a handle on the result; an exception comes out of join().
    auto answer = weft::spawn([] { return 6 * 7; });
    auto failing = weft::spawn([]() -> int { throw std::runtime_error("no luck"); });
    std::printf("the answer is %d\n", answer.join());
    try {
      failing.join();
    } catch (const std::runtime_error& error) {
      std::printf("the other task said: %s\n", error.what());
    }

    // A call that blocks its thread goes into blocking(), so that it holds up nobody else.
    std::string line = weft::blocking([] {
      char text[64] = "";
      if (std::FILE* file = std::fopen("/proc/self/comm", "r")) {
        if (std::fgets(text, sizeof text, file) == nullptr) text[0] = '\0';
        std::fclose(file);
      }
      return std::string(text);
    });
    std::printf("this program is called %s", line.c_str());
  });
}
