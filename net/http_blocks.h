#pragma once
// The 16 KB blocks that connections borrow while they serve.
#include <mutex>
#include <new>

#include "base/spinlock.h"
#include "net/http/environment.h"
#include "scheduler/park.h"

namespace weft::net {

// Stacks of free blocks, one per processor as far as the shards go: the block that was given back
// last is the one whose bytes are still in this core's cache.
class block_pool final : public http::detail::buffer_pool {
 public:
  block_pool() = default;
  block_pool(const block_pool&) = delete;
  block_pool& operator=(const block_pool&) = delete;
  ~block_pool() override {
    for (shard& s : shards_) {
      while (s.count > 0) ::operator delete(s.free[--s.count]);
    }
  }

  char* acquire() override {
    {
      sched::critical c;
      shard& s = mine();
      std::lock_guard hold(s.lock);
      if (s.count > 0) return s.free[--s.count];
    }
    return static_cast<char*>(::operator new(http::detail::block_size));
  }

  void release(char* block) noexcept override {
    {
      sched::critical c;
      shard& s = mine();
      std::lock_guard hold(s.lock);
      if (s.count < kept) {
        s.free[s.count++] = block;
        return;
      }
    }
    ::operator delete(block);
  }

 private:
  static constexpr int shard_count = 16;
  static constexpr int kept = 32;

  struct alignas(64) shard {
    base::spinlock lock;
    int count = 0;
    char* free[kept];
  };

  // Inside a critical section. Records of processors are 128 bytes apart at least.
  shard& mine() noexcept {
    auto p = reinterpret_cast<uintptr_t>(sched::self()->p.load(std::memory_order_relaxed));
    return shards_[(p >> 7 ^ p >> 12) % shard_count];
  }

  shard shards_[shard_count];
};

}  // namespace weft::net
