#pragma once
// Calls that block a thread: file reads, getaddrinfo, third-party libraries.
#include <functional>
#include <type_traits>
#include <utility>

namespace weft {
namespace detail {

class blocking_scope {
 public:
  blocking_scope() noexcept;
  ~blocking_scope();
  blocking_scope(const blocking_scope&) = delete;
};

}  // namespace detail

// Runs f() on this thread while another thread takes over the processor, so that no other task
// waits for it; afterwards the task waits for a processor if all are busy. Returns f's result;
// exceptions pass through. Costs two short locks when other work waits, and at most one thread
// wake-up. f may use any weft function; from then on it holds a processor again. From a thread that
// is no task it just calls f.
template <class F>
auto blocking(F&& f) -> std::invoke_result_t<F> {
  detail::blocking_scope scope;
  return std::invoke(std::forward<F>(f));
}

}  // namespace weft
