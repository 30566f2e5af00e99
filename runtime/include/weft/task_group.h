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
#include <cstddef>
#include <exception>
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
  void go(F&& f) {
    std::decay_t<F> body(std::forward<F>(f));
    if (slots_) slots_->send({});
    start(std::move(body));
  }

  // As go, but false, without waiting, if the limit is reached. f is moved from only on success.
  template <class F>
  [[nodiscard]] bool try_go(F&& f) {
    if (slots_ && !slots_->try_send({})) return false;
    start(std::forward<F>(f));
    return true;
  }

  // Waits until all tasks have ended, then cancels the context and rethrows the first exception, if
  // there was one. Once; a second call returns at once.
  void wait();

  // Asks the tasks to end. Not a failure: wait() does not throw for it.
  void cancel() const noexcept { cancel_(); }

  const context& ctx() const noexcept { return ctx_; }

 private:
  explicit task_group(std::pair<context, cancel_cause_function> own);

  template <class F>
  void start(F&& f) {
    using body = std::decay_t<F>;
    tasks_.add(1);
    with_context(ctx_, [&] {
      weft::go([this, fn = body(std::forward<F>(f))]() mutable {
        // The callable dies before the group counts its task as ended.
        run(std::optional<body>(std::move(fn)));
        end();
      });
    });
  }

  template <class F>
  void run(std::optional<F> fn) noexcept {
    try {
      if constexpr (std::is_invocable_v<F&, const context&>) {
        static_assert(
            std::is_void_v<std::invoke_result_t<F&, const context&>>,
            "task_group::go: the function returns void and reports a failure by throwing");
        (*fn)(ctx_);
      } else {
        static_assert(
            std::is_void_v<std::invoke_result_t<F&>>,
            "task_group::go: the function returns void and reports a failure by throwing");
        (*fn)();
      }
    } catch (...) {
      fail(std::current_exception());
    }
  }

  void fail(std::exception_ptr e) noexcept;
  void end() noexcept;

  context ctx_;
  cancel_cause_function cancel_;
  wait_group tasks_;
  std::optional<chan<std::monostate>> slots_;  // one value per running task
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // written by whoever set failed_, read after tasks_.wait()
  int exceptions_at_start_;
};

}  // namespace weft
