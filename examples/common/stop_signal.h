#pragma once
// stop_signal: SIGINT and SIGTERM as a channel.
//
//   int main() {
//     example::stop_signal stop;               // before the first thread: all inherit the mask
//     return weft::run([&] {
//       weft::select(weft::on_recv(stop.requested()), weft::on_recv(finished));
//     });
//   }
#include <weft/chan.h>

#include <atomic>
#include <thread>

namespace example {

// One at a time. The two signals are blocked in the constructing thread and in every thread it
// starts later; a thread of its own waits for them. The first closes requested(); the second ends
// the process at once with status 130, for a user who does not want to wait for the orderly end.
class stop_signal {
 public:
  stop_signal();
  ~stop_signal();
  stop_signal(const stop_signal&) = delete;

  weft::recv_chan<char> requested() const { return requested_; }

 private:
  void wait();

  weft::chan<char> requested_{0};
  std::atomic<bool> leaving_{false};
  std::thread thread_;
};

}  // namespace example
