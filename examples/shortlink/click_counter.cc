#include "examples/shortlink/click_counter.h"

#include <weft/time.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <unordered_map>
#include <utility>

namespace shortlink {

click_counter::click_counter(store& db, click_feed& feed) : db_(db), feed_(feed) {
  collector_ = weft::spawn({.name = "click collector"}, [this] { collect(); });
  writer_ = weft::spawn({.name = "click writer"}, [this] { write(); });
}

void click_counter::count(int64_t link_id) {
  using namespace std::chrono;
  auto now = duration_cast<milliseconds>(system_clock::now().time_since_epoch());
  clicks_.send({link_id, now.count()});
  received_.fetch_add(1, std::memory_order_relaxed);
}

void click_counter::stop() {
  clicks_.close();
  collector_.join();
  writer_.join();
}

void click_counter::collect() {
  std::unordered_map<int64_t, click_sum> sums;
  size_t collected = 0;
  constexpr auto never = std::chrono::steady_clock::time_point::max();
  auto due = never;

  auto pass_on = [&] {
    if (collected == 0) return;
    auto next = std::make_unique<std::vector<click_sum>>();
    next->reserve(sums.size());
    for (const auto& [id, sum] : sums) next->push_back(sum);
    batches_.send(std::move(next));
    sums.clear();
    collected = 0;
    due = never;
  };
  auto add = [&](const click& c) {
    feed_.publish(c);
    click_sum& sum = sums[c.link_id];
    sum.link_id = c.link_id;
    sum.clicks += 1;
    sum.last_ms = std::max(sum.last_ms, c.time_ms);
    if (++collected == 1) due = weft::now() + batch_age;
    if (collected == batch_size) pass_on();
  };

  for (;;) {
    // First, because a click stream without a pause, which never times out, must not starve the age
    // limit.
    if (weft::now() >= due) pass_on();
    weft::result<click> next = clicks_.recv_until(due);
    if (next) {
      add(*next);
    } else if (next.error() == weft::errc::channel_closed) {
      break;
    }
  }
  pass_on();
  batches_.close();
}

void click_counter::write() {
  for (batch& next : batches_) {
    uint64_t clicks = 0;
    for (const click_sum& sum : *next) clicks += static_cast<uint64_t>(sum.clicks);
    try {
      db_.add_clicks(*next);
      stored_.fetch_add(clicks, std::memory_order_relaxed);
      batches_stored_.fetch_add(1, std::memory_order_relaxed);
    } catch (const std::exception& error) {
      batches_failed_.fetch_add(1, std::memory_order_relaxed);
      std::fprintf(stderr, "shortlink: %llu clicks lost: %s\n",
                   static_cast<unsigned long long>(clicks), error.what());
    }
  }
}

click_counter::statistics click_counter::stats() const {
  return {received_.load(std::memory_order_relaxed), stored_.load(std::memory_order_relaxed),
          batches_stored_.load(std::memory_order_relaxed),
          batches_failed_.load(std::memory_order_relaxed), clicks_.size()};
}

}  // namespace shortlink
