#pragma once
// wait_group: waits for a number of tasks to finish. Go's sync.WaitGroup.
//
//   weft::wait_group wg;
//   for (auto& url : urls) wg.go([&] { fetch(url); });
//   wg.wait();
#include <weft/detail/waiter.h>
#include <weft/task.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace weft {

class wait_group {
 public:
  wait_group() = default;
  wait_group(const wait_group&) = delete;
  ~wait_group() = default;  // nobody may wait any more

  // Changes the counter by n; at 0 all waiters go on. Any thread. Throws panic_error, and changes
  // nothing, when the counter would become negative ("sync: negative WaitGroup counter"), and when
  // a new round begins, by n > 0 at a counter of 0, before all waiters of the last one have
  // returned ("sync: WaitGroup is reused before previous Wait has returned"). Go's third panic,
  // for an Add that races with the first Wait of a round, has no counterpart: here each sees the
  // other or not.
  void add(int64_t n);
  void done() { add(-1); }

  // Parks until the counter is 0 ("sync.WaitGroup.Wait"). Any number of waiters, reusable
  // afterwards. The object may be destroyed as soon as wait() has returned and no other call is
  // under way.
  void wait();
  // As wait, with a limit; false when it was reached before the counter was 0. A limit in the past
  // only asks. A cancelled context ends the wait at once, whatever the counter is.
  [[nodiscard]] bool wait_for(std::chrono::nanoseconds d);
  [[nodiscard]] bool wait_until(std::chrono::steady_clock::time_point t);
  [[nodiscard]] bool wait(const context& ctx);

  // add(1), run f in a new task; done() once it has returned, and its function and task-locals are
  // destroyed. An exception that escapes f ends the process.
  template <class F>
  WEFT_ALWAYS_INLINE void go(F&& f) {
    start(std::forward<F>(f), {});
  }
  template <class F>
  WEFT_ALWAYS_INLINE void go(const spawn_options& options, F&& f) {
    start(std::forward<F>(f), detail::params_of(options));
  }

 private:
  friend struct detail::debug_offsets;

  bool wait_within(const detail::wait_limit& limit) noexcept;
  bool is_zero() noexcept;

  template <class F>
  struct body {
    wait_group* group;
    std::optional<F> fn;
    void operator()() {
      std::invoke(*fn);
      fn.reset();
      std::exchange(group, nullptr)->task_ended();
    }
    const void* completes() const noexcept { return group; }
  };

  template <class F>
  WEFT_ALWAYS_INLINE void start(F&& f, const detail::spawn_params& params) {
    using body_type = body<std::decay_t<F>>;
    body_type b{this, std::forward<F>(f)};  // may throw, and nothing is counted then
    add(1);
    try {
      detail::spawn_task(detail::body_ops_for<body_type>, &b, params);
    } catch (...) {
      done();  // no memory, no task
      throw;
    }
  }
  void task_ended();

  detail::small_lock lock_;
  int64_t count_ = 0;
  int64_t returning_ = 0;  // waiters that were released and have not returned
  detail::waiter_list waiters_;
};

}  // namespace weft
