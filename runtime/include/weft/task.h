#pragma once
// Starting tasks and waiting for their results.
//
//   weft::go([] { log("fire and forget"); });
//   auto h = weft::spawn([] { return compute(); });
//   use(h.join());
#include <weft/detail/join_state.h>
#include <weft/detail/kept_result.h>
#include <weft/detail/spawn.h>
#include <weft/result.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace weft {

enum class stack_class : uint8_t {
  standard,  // may recurse tens of MiB deep; about 8.6 KB of memory while idle
  compact,   // 60 KiB at most; about 4.4 KB while idle
};

struct spawn_options {
  std::string name{};  // shown in dumps
  stack_class stack = stack_class::standard;
  // Address space for the stack in bytes, in place of what `stack` says: 0, or 4096 to 1 GiB. It is
  // rounded up to 64 or 256 KiB, 1, 8, 64 or 256 MiB, or 1 GiB. 64 KiB of it (4 KiB of the
  // smallest) are the guard, and memory is used only as the task descends. Other values make go()
  // and spawn() throw std::invalid_argument.
  size_t stack_size = 0;
};

namespace detail {

// sched::stack_class for spawn_options::stack_size.
uint8_t stack_class_for_size(size_t bytes);

template <class F>
WEFT_ALWAYS_INLINE void go_impl(F&& f, const spawn_params& params) {
  using body = std::decay_t<F>;
  body copy(std::forward<F>(f));
  spawn_task(body_ops_for<body>, &copy, params);
}

inline spawn_params params_of(const spawn_options& o) {
  const uint8_t cls =
      o.stack_size != 0 ? stack_class_for_size(o.stack_size) : static_cast<uint8_t>(o.stack);
  return {o.name.empty() ? nullptr : o.name.c_str(), cls, false, false};
}

}  // namespace detail

// Starts a task that runs f(args...) on decayed copies, like Go's go statement. Returns at once;
// the task runs when a processor gets to it. An exception that escapes f ends the process with a
// report, exit status 2. Callable from tasks and from any other thread, also before weft::run (the
// task then waits). Moving f and the arguments must not throw: a move that does ends
// the process.
template <class F, class... Args>
requires std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...> WEFT_ALWAYS_INLINE void go(
    F&& f, Args&&... args) {
  if constexpr (sizeof...(Args) == 0) {
    detail::go_impl(std::forward<F>(f), {});
  } else {
    detail::go_impl(
        [fn = std::decay_t<F>(std::forward<F>(f)),
         bound = std::tuple<std::decay_t<Args>...>(std::forward<Args>(args)...)]() mutable {
          std::apply(std::move(fn), std::move(bound));
        },
        {});
  }
}

template <class F>
requires std::is_invocable_v<std::decay_t<F>> WEFT_ALWAYS_INLINE void go(
    const spawn_options& options, F&& f) {
  detail::go_impl(std::forward<F>(f), detail::params_of(options));
}

// The result of a spawned task. Movable, not copyable. Dropping it without join() detaches the
// task; an exception that nobody joined then ends the process, as one escaping go() does. A result
// that is a pointer to a collected object, or has gc::refs in it, keeps the object alive until
// join() has returned it; raw pointers inside other results do not.
template <class T>
class [[nodiscard]] join_handle {
 public:
  join_handle() = default;

  // Waits until the task has ended and returns its result or rethrows its exception. At most once;
  // a second call or one on an empty handle throws panic_error. From a task it parks ("task join"),
  // from another thread it blocks.
  T join() {
    auto shared = std::exchange(state_, nullptr);
    if (shared == nullptr) detail::throw_empty_join();
    shared->wait();
    shared->rethrow_if_failed();
    if constexpr (!std::is_void_v<T>) return shared->value.take();
  }

  // The same with a limit: errc::timed_out or the context's error when that is reached before the
  // task has ended. The handle then still is joinable and the task goes on.
  [[nodiscard]] result<T> join_for(std::chrono::nanoseconds d) { return join_within(d); }
  [[nodiscard]] result<T> join_until(std::chrono::steady_clock::time_point t) {
    return join_within(t);
  }
  [[nodiscard]] result<T> join(const context& ctx) { return join_within(ctx); }

  // True until join() or a move.
  bool joinable() const noexcept { return state_ != nullptr; }
  // True once the task has ended. Does not wait.
  bool done() const noexcept { return state_ != nullptr && state_->done(); }

 private:
  struct state : detail::join_state {
    [[no_unique_address]] detail::kept_result<T> value;
  };
  template <class F>
  friend auto spawn(const spawn_options&, F&&)
      -> join_handle<std::invoke_result_t<std::decay_t<F>>>;
  template <class F>
  friend auto spawn(F&&) -> join_handle<std::invoke_result_t<std::decay_t<F>>>;

  template <class Limit>
  result<T> join_within(const Limit& limit) {
    if (state_ == nullptr) detail::throw_empty_join();
    if (error_code e = state_->wait(limit))
      return result<T>(boost::system::in_place_error, e);  // T may be error_code
    if constexpr (std::is_void_v<T>) {
      join();
      return {};
    } else {
      return result<T>(boost::system::in_place_value, join());
    }
  }

  explicit join_handle(std::shared_ptr<state> s) : state_(std::move(s)) {}
  std::shared_ptr<state> state_;
};

namespace detail {
// What a spawned task runs.
template <class State, class Result, class F>
struct spawn_body {
  std::shared_ptr<State> shared;
  std::optional<F> fn;

  void operator()() {
    try {
      if constexpr (std::is_void_v<Result>)
        std::invoke(*fn);
      else
        shared->value.set(std::invoke(*fn));
    } catch (...) {
      shared->fail();
    }
    fn.reset();  // as std::thread: who joins may rely on its end
    shared->finish();
  }
  const void* completes() const noexcept { return static_cast<const join_state*>(shared.get()); }
};
}  // namespace detail

// Starts a task like go() and returns a handle for its result.
template <class F>
WEFT_ALWAYS_INLINE auto spawn(const spawn_options& options, F&& f)
    -> join_handle<std::invoke_result_t<std::decay_t<F>>> {
  using result_type = std::invoke_result_t<std::decay_t<F>>;
  using state_type = typename join_handle<result_type>::state;
  auto shared = std::make_shared<state_type>();
  detail::go_impl(
      detail::spawn_body<state_type, result_type, std::decay_t<F>>{shared, std::forward<F>(f)},
      detail::params_of(options));
  return join_handle<result_type>(std::move(shared));
}

template <class F>
WEFT_ALWAYS_INLINE auto spawn(F&& f) -> join_handle<std::invoke_result_t<std::decay_t<F>>> {
  return spawn(spawn_options{}, std::forward<F>(f));
}

// Tasks that exist now: executing, runnable or waiting, the caller included; the runtime's own are
// not counted. Go's NumGoroutine.
int64_t num_tasks() noexcept;

// Sets the number of tasks that execute at the same time and returns the previous number; n <= 0
// only reads. Above 1024 throws std::invalid_argument. Stops all tasks for some microseconds.
// Without effect while no run() is under way: its options set the number.
int set_max_procs(int n);

// Sets how many threads may exist to run tasks and returns the previous limit; n <= 0 only reads.
// Threads beyond max_procs are those of tasks in blocking calls (declared or not) or locked to
// their threads; a thread that is not needed any more waits to be reused and still counts. A
// program that needs more than the limit ends with "thread exhaustion", exit status 2, at once if
// it has more already. Above 1 000 000 throws std::invalid_argument. Go's debug.SetMaxThreads.
int set_max_threads(int n);

// From now on the calling task runs on the thread it runs on now, and no other task does, until
// unlock_os_thread() was called as often as lock_os_thread(); more calls of unlock_os_thread() have
// no effect. For libraries that keep state per thread, such as OpenGL, or for changing the thread's
// own settings (priority, namespaces). Tasks that it starts are not locked. If the task ends
// locked, the thread ends too, with its thread-locals destroyed, so that altered state goes to
// nobody. Every park and yield of a locked task hands the processor to another thread and back:
// some 10 to 50 microseconds. From a thread that is no task both do nothing. As in Go, but that
// weft::run's own thread runs no tasks.
void lock_os_thread() noexcept;
void unlock_os_thread() noexcept;

namespace this_task {

// Lets other runnable tasks go first.
void yield();

// Pauses the task for at least d, without occupying a thread. d <= 0 returns at once. From a thread
// that is no task it blocks the thread.
void sleep_for(std::chrono::nanoseconds d);
void sleep_until(std::chrono::steady_clock::time_point t);

// The same until the context is cancelled at the latest. True if the whole time has passed.
[[nodiscard]] bool sleep_for(const weft::context& ctx, std::chrono::nanoseconds d);
[[nodiscard]] bool sleep_until(const weft::context& ctx, std::chrono::steady_clock::time_point t);

// The task's id: unique, never reused; the main task's is 1.
uint64_t id() noexcept;

// The name shown in dumps; "" when none was given.
std::string name();
void set_name(const std::string& name);

}  // namespace this_task
}  // namespace weft
