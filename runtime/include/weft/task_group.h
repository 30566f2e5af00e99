#pragma once
// task_group: tasks that belong together and end before their scope does. Go's errgroup,
// structured.
//
//   weft::task_group g(ctx);
//   for (const url& u : urls) g.go([&, u] { fetch(u, weft::this_task::context()); });
//   g.wait();                                  // all have ended; rethrows the first exception
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/task.h>
#include <weft/wait_group.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace weft {

// The group's tasks run under a context of their own (ctx(), this_task::context() inside them): it
// is cancelled when one of them throws, with that exception as its cause, when wait() returns, and
// when the parent is. So siblings that wait under it end early; a task that ignores it is waited
// for all the same.
//
// go(), try_go(), cancel() and ctx() may be called by any task or thread, the group's own included;
// set_limit(), wait() and the destructor by the owner. A group is used once: after wait() its
// context stays cancelled.
class task_group {
 public:
  // The parent context; without one the calling task's.
  task_group() : task_group(this_task::context()) {}
  explicit task_group(const context& parent) : task_group(with_cancel_cause(parent)) {}
  task_group(const task_group&) = delete;

  // Waits for the tasks. If the scope is left by an exception, cancels them first, and exceptions
  // of theirs are dropped in its favour. Else an exception that no wait() has rethrown ends the
  // process, as one that escapes go() does.
  ~task_group();

  // At most n tasks of the group at a time; go() then waits for one to end. Throws panic_error
  // while tasks of the group are running, std::invalid_argument for 0. Without a call: no limit.
  void set_limit(std::size_t n);

  // Runs f(), or f(ctx()), in a new task of the group. f returns void: report a failure by
  // throwing.
  template <class F>
  WEFT_ALWAYS_INLINE void go(F&& f) {
    body<std::decay_t<F>> b{this, std::forward<F>(f)};
    if (slots_) slots_->send({});
    start(place{this}, b, {});
  }
  template <class F>
  WEFT_ALWAYS_INLINE void go(const spawn_options& options, F&& f) {
    const detail::spawn_params params = detail::params_of(options);
    body<std::decay_t<F>> b{this, std::forward<F>(f)};
    if (slots_) slots_->send({});
    start(place{this}, b, params);
  }

  // As go, but false, without waiting, if the limit is reached. f is moved from only on success.
  template <class F>
  [[nodiscard]] WEFT_ALWAYS_INLINE bool try_go(F&& f) {
    return try_start(std::forward<F>(f), {});
  }
  template <class F>
  [[nodiscard]] WEFT_ALWAYS_INLINE bool try_go(const spawn_options& options, F&& f) {
    return try_start(std::forward<F>(f), detail::params_of(options));
  }

  // Waits until all tasks have ended, their functions and task-locals destroyed, then cancels the
  // context and rethrows the first exception, if there was one. Once; a second call returns at
  // once.
  void wait();
  // As wait, with a limit; false when it was reached before all tasks had ended: they go on, and
  // the group can be waited for again.
  [[nodiscard]] bool wait_for(std::chrono::nanoseconds d);
  [[nodiscard]] bool wait_until(std::chrono::steady_clock::time_point t);
  [[nodiscard]] bool wait(const context& limit);

  // Asks the tasks to end. Not a failure: wait() does not throw for it.
  void cancel() const noexcept { cancel_(); }

  const context& ctx() const noexcept { return ctx_; }

 private:
  explicit task_group(std::pair<context, cancel_cause_function> own);

  template <class F>
  struct body {
    task_group* group;
    std::optional<F> fn;
    void operator()() noexcept {
      group->run(*fn);
      // The callable dies before the group counts its task as ended.
      fn.reset();
      std::exchange(group, nullptr)->end();
    }
    const void* completes() const noexcept { return group != nullptr ? &group->tasks_ : nullptr; }
  };

  // One of the tasks that the limit allows, given back unless a task has taken it over.
  struct place {
    task_group* group;
    explicit place(task_group* g) noexcept : group(g) {}
    place(place&& o) noexcept : group(std::exchange(o.group, nullptr)) {}
    ~place() {
      if (group != nullptr) group->give_place_back();
    }
  };

  template <class Body>
  WEFT_ALWAYS_INLINE void start(place p, Body& b, const detail::spawn_params& params) {
    tasks_.add(1);
    detail::context_scope scope(ctx_);
    try {
      detail::spawn_task(detail::body_ops_for<Body>, &b, params);
    } catch (...) {
      tasks_.done();  // no memory, no task; ~place gives the place back
      throw;
    }
    p.group = nullptr;
  }

  template <class F>
  WEFT_ALWAYS_INLINE bool try_start(F&& f, const detail::spawn_params& params) {
    if (slots_ && !slots_->try_send({})) return false;
    place p(this);
    body<std::decay_t<F>> b{this, std::forward<F>(f)};
    start(std::move(p), b, params);
    return true;
  }

  template <class F>
  void run(F& fn) noexcept {
    try {
      if constexpr (std::is_invocable_v<F&, const context&>) {
        static_assert(
            std::is_void_v<std::invoke_result_t<F&, const context&>>,
            "task_group::go: the function returns void and reports a failure by throwing");
        std::invoke(fn, ctx_);
      } else {
        static_assert(
            std::is_void_v<std::invoke_result_t<F&>>,
            "task_group::go: the function returns void and reports a failure by throwing");
        std::invoke(fn);
      }
    } catch (...) {
      fail(std::current_exception());
    }
  }

  void fail(std::exception_ptr e) noexcept;
  void end() noexcept;
  void give_place_back() noexcept;

  context ctx_;
  cancel_cause_function cancel_;
  wait_group tasks_;
  std::optional<chan<std::monostate>> slots_;  // one value per running task
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // written by whoever set failed_, read after tasks_.wait()
  int exceptions_at_start_;
};

}  // namespace weft
