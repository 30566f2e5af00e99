#pragma once
// Starting the runtime.
//
//   int main() {
//     return weft::run([] { ...; return 0; });
//   }
#include <weft/detail/spawn.h>

#include <functional>
#include <type_traits>
#include <utility>

namespace weft {

struct options {
  // How many tasks execute at the same time, 1 to 1024. 0: WEFT_MAXPROCS, else the CPUs that the
  // affinity mask and the cgroup quota grant.
  int max_procs = 0;
  // How many threads may exist to run tasks, those in blocking calls included, 1 to 1 000 000; a
  // program that needs more ends with "thread exhaustion". 0: what set_max_threads() said, else
  // WEFT_MAXTHREADS, else 10 000.
  int max_threads = 0;
};

namespace detail {
void run_main(const options& o, const body_ops& ops, void* callable);
}

// Starts the process-wide runtime, runs `main` as the main task (id 1) and returns its result (0
// for a void main) when that task returns. As in Go, the other tasks are not waited for: they stop
// where they are and never run again, unless run() is called again, which lets them go on. An
// exception that escapes `main` ends the process like any uncaught one. Blocks the calling thread,
// which must not be a task; one run() at a time, otherwise panic_error.
template <class F>
int run(const options& o, F&& main) {
  using result_type = std::invoke_result_t<std::decay_t<F>>;
  static_assert(std::is_void_v<result_type> || std::is_convertible_v<result_type, int>,
                "main must return int or void");
  int status = 0;
  auto body = [&status, fn = std::decay_t<F>(std::forward<F>(main))]() mutable {
    static_cast<void>(status);  // clang warns of the capture when main returns void
    if constexpr (std::is_void_v<result_type>)
      std::invoke(fn);
    else
      status = std::invoke(fn);
  };
  detail::run_main(o, detail::body_ops_for<decltype(body)>, &body);
  return status;
}

template <class F>
requires std::is_invocable_v<std::decay_t<F>>
int run(F&& main) { return run(options{}, std::forward<F>(main)); }

}  // namespace weft
