#pragma once
// stop_signal: a context that SIGINT and SIGTERM cancel.
//
//   int main() {
//     example::stop_signal stop;               // before the first thread: all inherit the mask
//     return weft::run([&] { serve_until_cancelled(stop.context()); });
//   }
#include <weft/context.h>

#include <atomic>
#include <thread>
#include <utility>

namespace example {

// One at a time. The two signals are blocked in the constructing thread and in every thread it
// starts later; a thread of its own waits for them. The first cancels context(); the second ends
// the process at once with status 130, for a user who does not want to wait for the orderly end.
class stop_signal {
 public:
  stop_signal();
  ~stop_signal();
  stop_signal(const stop_signal&) = delete;

  const weft::context& context() const noexcept { return cancellable_.first; }

 private:
  void wait();

  const std::pair<weft::context, weft::cancel_function> cancellable_ =
      weft::with_cancel(weft::background());
  std::atomic<bool> leaving_{false};
  std::thread thread_;
};

}  // namespace example
