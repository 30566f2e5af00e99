#include <weft/blocking.h>
#include <weft/context.h>
#include <weft/error.h>
#include <weft/task.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/clock.h"
#include "runtime/task_locals.h"
#include "runtime/timed_wait.h"
#include "scheduler/park.h"
#include "scheduler/runtime_control.h"

namespace weft {
namespace detail {

uint8_t stack_class_for_size(size_t bytes) {
  using sched::stack_class;
  constexpr size_t least = 4096;
  constexpr std::pair<size_t, stack_class> classes[] = {
      {size_t{64} << 10, stack_class::compact},  {size_t{256} << 10, stack_class::kib_256},
      {size_t{1} << 20, stack_class::mib_1},     {size_t{8} << 20, stack_class::mib_8},
      {size_t{64} << 20, stack_class::standard}, {size_t{256} << 20, stack_class::mib_256},
      {size_t{1} << 30, stack_class::gib_1},
  };
  for (const auto& [size, cls] : classes) {
    if (bytes >= least && bytes <= size) return static_cast<uint8_t>(cls);
  }
  throw std::invalid_argument("spawn_options::stack_size is " + std::to_string(bytes) +
                              " bytes; it must be 0 or " + std::to_string(least) +
                              " to 1073741824 (1 GiB)");
}

void throw_empty_join() { throw panic_error("join of an empty or already joined handle"); }

join_state::~join_state() {
  // Nobody will ever see it: it is as uncaught as if it had escaped go(). Leaving this destructor
  // by an exception ends the process, with the exception in the report.
  if (error_ != nullptr) std::rethrow_exception(std::move(error_));
}

void join_state::finish() noexcept {
  destroy_task_locals();
  sched::critical in_runtime;
  lock_.lock();
  done_.store(true, std::memory_order_release);  // [ord join.done] publishes the result
  waiter* w = joiner_;
  if (w != nullptr && w->select != nullptr && !w->select->claim(w)) w = nullptr;
  lock_.unlock();
  if (w != nullptr) sched::ready(w->task);
}

bool join_state::wait_within(const wait_limit& limit) noexcept {
  if (done()) return true;  // [ord join.done]
  sched::critical in_runtime;
  lock_.lock();
  if (done()) {
    lock_.unlock();
    return true;
  }
  waiter w;
  w.task = sched::current_task();
  joiner_ = &w;
  if (wait_until(w, limit, sched::wait_reason::join, this, lock_)) return true;
  joiner_ = nullptr;
  lock_.unlock();
  return done();
}

void join_state::wait() noexcept { wait_within({}); }

error_code join_state::wait(std::chrono::nanoseconds d) noexcept {
  return wait_within(limit_after(d)) ? error_code() : errc::timed_out;
}

error_code join_state::wait(std::chrono::steady_clock::time_point t) noexcept {
  return wait_within(limit_at(t)) ? error_code() : errc::timed_out;
}

error_code join_state::wait(const context& ctx) {
  const wait_limit limit = limit_of(ctx);
  return !limit.cancelled() && wait_within(limit) ? error_code() : ctx.err();
}

void join_state::rethrow_if_failed() {
  if (error_ == nullptr) return;
  std::exception_ptr e = std::move(error_);
  error_ = nullptr;
  std::rethrow_exception(e);
}

blocking_scope::blocking_scope() noexcept {
  sched::enter();
  sched::begin_blocking();
}

blocking_scope::~blocking_scope() {
  sched::enter();
  sched::leave();
}

}  // namespace detail

namespace {

void sleep_until_ns(int64_t when_ns) noexcept {
  sched::critical in_runtime;
  sched::sleep_until(when_ns);
}

// A waiter on no list: only a limit ends its wait.
bool sleep_within(const detail::wait_limit& limit) noexcept {
  if (limit.cancellation == nullptr) {
    sleep_until_ns(limit.deadline_ns);
    return true;
  }
  sched::critical in_runtime;
  detail::small_lock lock;
  detail::waiter w;
  w.task = sched::current_task();
  lock.lock();
  const auto end = wait_within(w, limit, sched::wait_reason::sleep, nullptr, lock);
  return end == detail::wait_end::timed_out;
}

}  // namespace

int64_t num_tasks() noexcept { return sched::live_tasks(); }

int set_max_procs(int n) {
  int before = sched::current_max_procs();
  if (n <= 0) return before;
  if (n > 1024) throw std::invalid_argument("set_max_procs: more than 1024 processors asked for");
  sched::resize(n);
  return before;
}

int set_max_threads(int n) {
  int before = sched::thread_limit();
  if (n <= 0) return before;
  if (n > 1'000'000)
    throw std::invalid_argument("set_max_threads: more than 1000000 threads asked for");
  sched::set_thread_limit(n);
  return before;
}

void lock_os_thread() noexcept {
  sched::critical in_runtime;
  sched::lock_thread();
}

void unlock_os_thread() noexcept {
  sched::critical in_runtime;
  sched::unlock_thread();
}

namespace this_task {

void yield() { sched::leave(sched::yield_now(sched::enter())); }

void sleep_for(std::chrono::nanoseconds d) {
  if (d.count() <= 0) return;
  sleep_until_ns(sched::deadline_after(base::now_ns(), d.count()));
}

void sleep_until(std::chrono::steady_clock::time_point t) {
  int64_t when = t.time_since_epoch().count();
  if (when > base::now_ns()) sleep_until_ns(when);
}

bool sleep_for(const weft::context& ctx, std::chrono::nanoseconds d) {
  detail::wait_limit limit = detail::limit_of(ctx);
  if (limit.cancelled()) return false;
  if (d.count() <= 0) return true;
  limit.deadline_ns = sched::deadline_after(base::now_ns(), d.count());
  return sleep_within(limit);
}

bool sleep_until(const weft::context& ctx, std::chrono::steady_clock::time_point t) {
  detail::wait_limit limit = detail::limit_of(ctx);
  if (limit.cancelled()) return false;
  limit.deadline_ns = t.time_since_epoch().count();
  return limit.deadline_ns <= base::now_ns() || sleep_within(limit);
}

uint64_t id() noexcept {
  sched::critical in_runtime;
  return sched::current_task()->id;
}

std::string name() {
  sched::critical in_runtime;
  const char* n = sched::current_task()->name;
  return n != nullptr ? n : "";
}

void set_name(const std::string& name) {
  char* copy = name.empty() ? nullptr : ::strdup(name.c_str());
  sched::critical in_runtime;
  sched::set_task_name(*sched::current_task(), copy);
}

}  // namespace this_task
}  // namespace weft
