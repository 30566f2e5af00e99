#include <weft/blocking.h>
#include <weft/error.h>
#include <weft/task.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "base/clock.h"
#include "scheduler/park.h"
#include "scheduler/runtime_control.h"

namespace weft {
namespace detail {

void throw_empty_join() { throw panic_error("join of an empty or already joined handle"); }

sched::task* join_state::finished() noexcept {
  static sched::task mark;
  return &mark;
}

join_state::~join_state() {
  // Nobody will ever see it: it is as uncaught as if it had escaped go(). Leaving this destructor
  // by an exception ends the process, with the exception in the report.
  if (error_ != nullptr) std::rethrow_exception(std::move(error_));
}

void join_state::finish() noexcept {
  sched::critical in_runtime;
  // [ord join.done] release: publishes the result; acquire: the joiner's wait
  sched::task* waiting = waiter_.exchange(finished(), std::memory_order_acq_rel);
  if (waiting != nullptr) sched::ready(waiting);
}

bool join_state::commit_wait(sched::task* t, void* self) {
  sched::task* nobody = nullptr;
  return static_cast<join_state*>(self)->waiter_.compare_exchange_strong(nobody, t,
                                                                         std::memory_order_acq_rel);
}

void join_state::wait() noexcept {
  if (done()) return;
  sched::critical in_runtime;
  sched::park(sched::wait_reason::join, this, commit_wait, this);
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

void wake_sleeper(sched::timer* t, int64_t) noexcept {
  sched::ready(static_cast<sched::task*>(t->arg));
}

bool commit_sleep(sched::task* self, void* timer) {
  auto* t = static_cast<sched::timer*>(timer);
  t->arg = self;
  sched::add_timer(*t);  // the last touch: the sleeper may be awake already
  return true;
}

void sleep_until_ns(int64_t when_ns) noexcept {
  sched::critical in_runtime;
  sched::timer t;
  t.when_ns = when_ns;
  t.fire = wake_sleeper;
  sched::park(sched::wait_reason::sleep, nullptr, commit_sleep, &t);
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
