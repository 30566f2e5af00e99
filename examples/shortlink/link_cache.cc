#include "examples/shortlink/link_cache.h"

#include <mutex>
#include <utility>

namespace shortlink {

std::shared_ptr<const cached_link> link_cache::find(std::string_view code) {
  std::lock_guard held(mutex_);
  auto found = by_code_.find(code);
  if (found == by_code_.end()) {
    ++misses_;
    return nullptr;
  }
  ++hits_;
  recent_.splice(recent_.begin(), recent_, found->second);
  return found->second->value;
}

uint64_t link_cache::removals() {
  std::lock_guard held(mutex_);
  return removals_;
}

void link_cache::insert(std::string_view code, cached_link value, uint64_t as_of) {
  if (capacity_ == 0) return;
  auto shared = std::make_shared<const cached_link>(std::move(value));
  std::lock_guard held(mutex_);
  if (removals_ != as_of || by_code_.contains(code)) return;
  if (recent_.size() == capacity_) {
    by_code_.erase(recent_.back().code);
    recent_.pop_back();
    ++evictions_;
  }
  recent_.push_front({std::string(code), std::move(shared)});
  by_code_.emplace(recent_.front().code, recent_.begin());
}

void link_cache::remove(std::string_view code) {
  std::lock_guard held(mutex_);
  ++removals_;
  auto found = by_code_.find(code);
  if (found == by_code_.end()) return;
  auto position = found->second;
  by_code_.erase(found);
  recent_.erase(position);
}

link_cache::statistics link_cache::stats() {
  std::lock_guard held(mutex_);
  return {recent_.size(), capacity_, hits_, misses_, evictions_};
}

}  // namespace shortlink
