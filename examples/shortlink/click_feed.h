#pragma once
// click_feed: tells whoever waits for the next click on a link. Thread-safe.
#include <weft/chan.h>
#include <weft/mutex.h>

#include <atomic>
#include <cstdint>
#include <unordered_map>

namespace shortlink {

struct click {
  int64_t link_id = 0;
  int64_t time_ms = 0;  // Unix time in milliseconds
};

class click_feed {
 public:
  // One waiter. next() receives the first click after the construction.
  class watcher {
   public:
    watcher(click_feed& feed, int64_t link_id);
    ~watcher();
    watcher(const watcher&) = delete;
    const weft::chan<click>& next() const noexcept { return next_; }

   private:
    friend class click_feed;
    click_feed& feed_;
    const int64_t link_id_;
    weft::chan<click> next_{1};
  };

  // Hands the click to all who watch its link. Never waits for them.
  void publish(const click& c);

  // Watchers that exist now.
  int64_t watching() const noexcept { return watching_.load(std::memory_order_relaxed); }

 private:
  weft::mutex mutex_;
  std::unordered_multimap<int64_t, watcher*> watchers_;
  std::atomic<int64_t> watching_{0};  // watchers_.size(), readable without the lock
};

}  // namespace shortlink
