#include <weft/error.h>
#include <weft/task_group.h>

#include <stdexcept>

#include "runtime/task_locals.h"

namespace weft {

task_group::task_group(std::pair<context, cancel_cause_function> own)
    : ctx_(std::move(own.first)),
      cancel_(std::move(own.second)),
      exceptions_at_start_(std::uncaught_exceptions()) {}

task_group::~task_group() {
  const bool unwinding = std::uncaught_exceptions() > exceptions_at_start_;
  if (unwinding) cancel_();
  tasks_.wait();
  cancel_();
  // Leaving a destructor by an exception ends the process, with the exception in the report.
  if (error_ != nullptr && !unwinding) std::rethrow_exception(std::move(error_));
}

void task_group::set_limit(std::size_t n) {
  if (n == 0) throw std::invalid_argument("task_group::set_limit: a limit of 0 lets nothing run");
  if (slots_ && slots_->size() != 0)
    throw panic_error("task_group: set_limit while tasks of the group are running");
  if (!tasks_.wait_for(std::chrono::nanoseconds(0)))
    throw panic_error("task_group: set_limit while tasks of the group are running");
  slots_.emplace(n);
}

void task_group::wait() {
  tasks_.wait();
  cancel_();
  if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
}

bool task_group::wait_for(std::chrono::nanoseconds d) {
  if (!tasks_.wait_for(d)) return false;
  wait();
  return true;
}

bool task_group::wait_until(std::chrono::steady_clock::time_point t) {
  if (!tasks_.wait_until(t)) return false;
  wait();
  return true;
}

bool task_group::wait(const context& limit) {
  if (!tasks_.wait(limit)) return false;
  wait();
  return true;
}

void task_group::fail(std::exception_ptr e) noexcept {
  if (failed_.exchange(true, std::memory_order_relaxed)) return;
  error_ = e;
  cancel_(std::move(e));
}

void task_group::give_place_back() noexcept {
  if (slots_) slots_->try_recv();
}

void task_group::end() noexcept {
  detail::destroy_task_locals();
  give_place_back();
  tasks_.done();  // the last touch: the group may be gone
}

}  // namespace weft
