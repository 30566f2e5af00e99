#pragma once
// Where probes add up what they see: a bounded table of counters by stack, labels and tag.
// bucket_table.cc has the design.
//
//   static constinit bucket_table table(2);                         // two counters per bucket
//   bucket* b = table.acquire({pcs, truncated, labels, tag});       // in the probe
//   b->add(0, 1);
//   table.release(b);                                               // or keep it for a live object
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/spinlock.h"
#include "profiler/sample_set.h"
#include "runtime/label_node.h"

namespace weft::prof {

struct bucket_key {
  std::span<const uintptr_t> pcs;  // return addresses, leaf first
  bool truncated = false;
  const weft::detail::label_node* labels = nullptr;  // the caller keeps it alive during the call
  uint64_t tag = 0;                                  // whatever else the profile tells apart
};

class bucket {
 public:
  void add(size_t counter, int64_t amount) noexcept {
    counters()[counter].fetch_add(amount, std::memory_order_relaxed);
  }
  int64_t get(size_t counter) const noexcept {
    return counters()[counter].load(std::memory_order_relaxed);
  }
  // Takes what is there and leaves 0.
  int64_t take(size_t counter) noexcept {
    return counters()[counter].exchange(0, std::memory_order_relaxed);
  }

  // What the bucket is about; constant while the bucket is acquired.
  uint64_t tag() const noexcept { return tag_; }
  stack_view stack() const noexcept { return {{pcs(), depth_}, false, truncated_}; }
  const label_list* labels() const noexcept {
    return labels_ != nullptr ? &labels_->pairs : nullptr;
  }
  // True for the bucket that took what found no room: its stack is empty.
  bool is_other() const noexcept { return other_; }
  // 1 to 2^17 - 1: a name of the bucket in fewer bits than its address.
  uint32_t index() const noexcept { return index_; }

 private:
  friend class bucket_table;

  // Counters and then return addresses follow the object.
  std::atomic<int64_t>* counters() noexcept {
    return reinterpret_cast<std::atomic<int64_t>*>(this + 1);
  }
  const std::atomic<int64_t>* counters() const noexcept {
    return reinterpret_cast<const std::atomic<int64_t>*>(this + 1);
  }
  const uintptr_t* pcs() const noexcept {
    return reinterpret_cast<const uintptr_t*>(counters() + counter_count_);
  }

  bucket* next_ = nullptr;  // in the shard's chain, or the list of free ones
  uint64_t hash_ = 0;       // of stack and tag
  uint64_t label_hash_ = 0;
  uint64_t tag_ = 0;
  const weft::detail::label_node* labels_ = nullptr;  // holds a reference
  std::atomic<uint32_t> refs_{0};
  uint32_t index_ = 0;
  uint16_t depth_ = 0;
  uint16_t room_ = 0;  // for so many return addresses
  uint8_t counter_count_ = 0;
  bool truncated_ = false;
  bool other_ = false;
};

class bucket_table {
 public:
  struct limits {
    uint32_t buckets = 64 * 1024;   // at most 100'000
    uint32_t labelled = 16 * 1024;  // of these, with labels
  };

  // Constant-initialised: a table may be used before main. `counters` is 1 to 64. Lives for ever.
  constexpr explicit bucket_table(uint8_t counters) : bucket_table(counters, limits{}) {}
  constexpr bucket_table(uint8_t counters, limits l) : counter_count_(counters), limits_(l) {}
  bucket_table(const bucket_table&) = delete;

  // The bucket of `key`, found or made, with one reference that the caller gives back. Never null:
  // where there is no room it is the one without the labels, or the "other" one of the tag. Never
  // parks, takes a leaf spinlock; memory comes from the kernel. May end the life of a label set
  // that nothing else refers to. Any thread, not in signal handlers.
  bucket* acquire(const bucket_key& key) noexcept;
  void release(bucket* b) noexcept { b->refs_.fetch_sub(1, std::memory_order_release); }
  void retain(bucket* b) noexcept { b->refs_.fetch_add(1, std::memory_order_relaxed); }

  // The bucket of an index() whose bucket is acquired.
  bucket* at(uint32_t index) const noexcept {
    return directory_.load(std::memory_order_relaxed)[index];
  }

  // Calls f for every bucket there is at the time of the call, acquired. Allocates; normal threads
  // and tasks only.
  void for_each(const std::function<void(bucket&)>& f);

  struct statistics {
    uint32_t buckets;
    uint32_t labelled;
    uint64_t folded;   // buckets whose labels were dropped to make room for others
    uint64_t no_room;  // acquire() calls that got a bucket without the labels, or an "other" one
    size_t bytes;      // memory taken from the kernel
  };
  statistics stats() const noexcept;

 private:
  static constexpr size_t shard_count = 64;
  static constexpr size_t heads_per_shard = 1024;
  static constexpr size_t room_classes = 17;  // for 0, 8, 16 … 128 return addresses

  struct shard {
    base::spinlock lock;
    bucket** heads = nullptr;
  };

  bucket* find(shard& s, const bucket_key& key, uint64_t hash, uint64_t label_hash,
               bool other) noexcept;
  // Null when there are no names left.
  bucket* make(shard& s, const bucket_key& key, uint64_t hash, uint64_t label_hash,
               bool other) noexcept;
  bucket* evict_labelled(shard& s, const weft::detail::label_node** dropped) noexcept;
  void* allocate(size_t bytes) noexcept;

  const uint8_t counter_count_;
  const limits limits_;
  shard shards_[shard_count];

  // The arena, under its own lock, which is taken inside a shard's.
  base::spinlock arena_lock_;
  char* arena_next_ = nullptr;
  char* arena_end_ = nullptr;
  bucket* free_[room_classes] = {};
  uint32_t index_count_ = 0;
  std::atomic<bucket**> directory_{nullptr};

  std::atomic<uint32_t> buckets_{0}, labelled_{0};
  std::atomic<uint64_t> folded_{0}, no_room_{0};
  std::atomic<size_t> bytes_{0};
};

}  // namespace weft::prof
