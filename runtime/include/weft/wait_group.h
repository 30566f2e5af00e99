#pragma once
// wait_group: waits for a number of tasks to finish. Go's sync.WaitGroup.
//
//   weft::wait_group wg;
//   for (auto& url : urls) wg.go([&] { fetch(url); });
//   wg.wait();
#include <weft/detail/waiter.h>
#include <weft/task.h>

#include <cstdint>
#include <utility>

namespace weft {

class wait_group {
 public:
  wait_group() = default;
  wait_group(const wait_group&) = delete;
  ~wait_group() = default;  // nobody may wait any more

  // Changes the counter by n; at 0 all waiters go on. Throws panic_error ("sync: negative WaitGroup
  // counter") when it would become negative. Any thread.
  void add(int64_t n);
  void done() { add(-1); }

  // Parks until the counter is 0 ("sync.WaitGroup.Wait"). Any number of waiters, reusable
  // afterwards. The object may be destroyed as soon as wait() has returned and no other call is
  // under way.
  void wait();

  // add(1), run f in a new task, done() when it returns. An exception that escapes f ends the
  // process.
  template <class F>
  WEFT_ALWAYS_INLINE void go(F&& f) {
    add(1);
    weft::go(body<std::decay_t<F>>{this, std::forward<F>(f)});
  }

 private:
  template <class F>
  struct body {
    wait_group* group;
    F fn;
    void operator()() {
      fn();
      group->done();
    }
    const void* completes() const noexcept { return group; }
  };

  detail::small_lock lock_;
  int64_t count_ = 0;
  detail::waiter_list waiters_;
};

}  // namespace weft
