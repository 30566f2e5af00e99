#include "examples/shortlink/click_feed.h"

#include <mutex>

namespace shortlink {

click_feed::watcher::watcher(click_feed& feed, int64_t link_id) : feed_(feed), link_id_(link_id) {
  std::lock_guard held(feed_.mutex_);
  feed_.watchers_.emplace(link_id_, this);
  feed_.watching_.fetch_add(1, std::memory_order_relaxed);
}

click_feed::watcher::~watcher() {
  std::lock_guard held(feed_.mutex_);
  auto [first, last] = feed_.watchers_.equal_range(link_id_);
  while (first->second != this) ++first;
  feed_.watchers_.erase(first);
  feed_.watching_.fetch_sub(1, std::memory_order_relaxed);
}

void click_feed::publish(const click& c) {
  // Clicks are many and watchers few. A watcher that registers at this moment gets the next click.
  if (watching() == 0) return;
  std::lock_guard held(mutex_);
  auto [first, last] = watchers_.equal_range(c.link_id);
  // A full channel means that its watcher has not yet picked up an earlier click: that one is
  // enough.
  for (; first != last; ++first) first->second->next_.try_send(c);
}

}  // namespace shortlink
