// A cache whose entries live for a minute, and its test: fake time, and a thousand schedules.
#include <weft/test.h>
#include <weft/weft.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <optional>
#include <string>

using namespace std::chrono_literals;

class ttl_cache {
 public:
  explicit ttl_cache(std::chrono::nanoseconds ttl) : ttl_(ttl) {}

  void put(const std::string& key, std::string value) {
    std::lock_guard hold(lock_);
    entries_[key] = {std::move(value), weft::now() + ttl_};
  }
  std::optional<std::string> get(const std::string& key) {
    std::lock_guard hold(lock_);
    auto found = entries_.find(key);
    if (found == entries_.end() || found->second.dies <= weft::now()) return std::nullopt;
    return found->second.value;
  }
  size_t size() {
    std::lock_guard hold(lock_);
    return entries_.size();
  }

  // Throws dead entries away every `period` until `ctx` is cancelled.
  void sweep(const weft::context& ctx, std::chrono::nanoseconds period) {
    while (weft::this_task::sleep_for(ctx, period)) {
      std::lock_guard hold(lock_);
      std::erase_if(entries_, [](const auto& e) { return e.second.dies <= weft::now(); });
    }
  }

 private:
  struct entry {
    std::string value;
    std::chrono::steady_clock::time_point dies;
  };
  std::chrono::nanoseconds ttl_;
  weft::mutex lock_;
  std::map<std::string, entry> entries_;
};

void expect(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

void entries_die_and_are_swept() {
  ttl_cache cache(1min);
  weft::task_group sweeper;
  sweeper.go([&](const weft::context& ctx) { cache.sweep(ctx, 10s); });
  for (int i = 0; i < 3; ++i) {
    weft::go([&, i] { cache.put("key" + std::to_string(i), "value"); });
  }
  weft::test::wait();  // all three have been put, and the sweeper waits for its next turn
  weft::this_task::sleep_for(59s);  // takes no time
  expect(cache.get("key1").has_value(), "an entry lives for a minute");
  weft::this_task::sleep_for(1s);
  expect(!cache.get("key1").has_value(), "and no longer");
  weft::test::wait();  // the sweeper's turn at 60 s is over
  expect(cache.size() == 0, "the sweeper throws it away");
  sweeper.cancel();
}

int main() {
  auto once = weft::test::run({.seed = 42}, entries_die_and_are_swept);
  std::printf("a minute of the cache's life: %lld s on its clock\n",
              static_cast<long long>(once.elapsed / 1s));
  // Prints a seed and throws if any of them fails; WEFT_TEST_SEED=… then replays it.
  auto schedules = weft::test::explore({.seeds = 1000}, entries_die_and_are_swept);
  std::printf("many orders of events tried: %s\n", schedules > 100 ? "yes" : "no");
}
