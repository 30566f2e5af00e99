// A Google Benchmark program whose main is weft::bench_main.
#include <benchmark/benchmark.h>
#include <weft/weft.h>

namespace {

[[gnu::noinline]] void burns_processor_time() {
  for (int i = 0; i < 100'000; ++i) asm volatile("");
}

void burn(benchmark::State& state) {
  weft::run([&] {
    for (auto round : state) {
      static_cast<void>(round);
      burns_processor_time();
    }
  });
}
BENCHMARK(burn);

}  // namespace
