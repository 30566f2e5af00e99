// Counters by stack, labels and tag.
//
// Shape      64 shards, each a chained hash table under a spinlock that is held for a lookup.
//            Buckets are made of mmap'ed memory that is never given back, and are named by an index
//            too. A bucket's counters are atomics: who has acquired it adds without the lock.
// Bounds     Labels can be as many as requests, so buckets with labels have a limit of their own.
//            When it is reached, one of the same shard that nobody holds gives up its labels: its
//            counts are added to the bucket of the same stack and tag without labels. So no count
//            is lost or moves to another stack, and labels stay as long as there is room. Beyond
//            the limit of all buckets counts go to one bucket per tag that has no stack.
// Order      A shard is chosen by stack and tag, not by labels: a bucket and the one that it gives
//            its counts to are under the same lock. The arena's lock is taken inside a shard's.
//            Label sets are dropped with no lock held, since that may free memory, and the
//            allocator may have something to count.
#include "profiler/bucket_table.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <vector>

#include "base/check.h"
#include "base/leak_roots.h"

namespace weft::prof {
namespace {

constexpr size_t block_size = 1 << 20;
constexpr size_t most_indices = 1 << 17;
constexpr size_t indices_for_others = 4096;
constexpr size_t most_depth = 128;

uint64_t mix(uint64_t hash, uint64_t value) noexcept {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 32);
}

uint64_t text_hash(uint64_t hash, std::string_view text) noexcept {
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(hash, text.size());
}

uint64_t stack_hash(const bucket_key& key) noexcept {
  uint64_t hash = mix(key.truncated ? 2 : 1, key.tag);
  for (uintptr_t pc : key.pcs) hash = mix(hash, pc);
  return hash;
}

uint64_t labels_hash(const weft::detail::label_node* labels) noexcept {
  if (labels == nullptr) return 0;
  uint64_t hash = 1;
  for (const auto& [name, value] : labels->pairs) hash = text_hash(text_hash(hash, name), value);
  return hash;
}

void* map(size_t bytes) noexcept {
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  // As everywhere where the kernel has no memory left, and a profile is no reason to go on.
  if (p == MAP_FAILED) base::fatal("out of memory for a profile's table");
  base::keeps_pointers(p, bytes);
  return p;
}

}  // namespace

void* bucket_table::allocate(size_t bytes) noexcept {
  if (static_cast<size_t>(arena_end_ - arena_next_) < bytes) {
    arena_next_ = static_cast<char*>(map(block_size));
    arena_end_ = arena_next_ + block_size;
    bytes_.fetch_add(block_size, std::memory_order_relaxed);
  }
  void* p = arena_next_;
  arena_next_ += bytes;
  return p;
}

bucket* bucket_table::find(shard& s, const bucket_key& key, uint64_t hash, uint64_t label_hash,
                           bool other) noexcept {
  for (bucket* b = s.heads[hash / shard_count % heads_per_shard]; b != nullptr; b = b->next_) {
    if (b->hash_ != hash || b->label_hash_ != label_hash || b->tag_ != key.tag) continue;
    if (b->other_ != other || b->truncated_ != key.truncated) continue;
    if (!std::ranges::equal(b->stack().pcs, key.pcs)) continue;
    const bool same_labels =
        b->labels_ == key.labels ||
        (b->labels_ != nullptr && key.labels != nullptr && b->labels_->pairs == key.labels->pairs);
    if (same_labels) return b;
  }
  return nullptr;
}

bucket* bucket_table::make(shard& s, const bucket_key& key, uint64_t hash, uint64_t label_hash,
                           bool other) noexcept {
  const size_t room = (key.pcs.size() + 7) / 8;
  arena_lock_.lock();
  bucket** directory = directory_.load(std::memory_order_relaxed);
  if (directory == nullptr) {
    directory = static_cast<bucket**>(map(most_indices * sizeof(bucket*)));
    directory_.store(directory, std::memory_order_relaxed);
  }
  bucket* b = free_[room];
  uint32_t index = 0;
  if (b != nullptr) {
    free_[room] = b->next_;
    index = b->index_;
  } else {
    // Folded buckets wait for stacks of their own depth, so there may be more names than buckets.
    if (index_count_ + 1 >= (other ? most_indices : most_indices - indices_for_others)) {
      arena_lock_.unlock();
      return nullptr;
    }
    index = ++index_count_;
    b = static_cast<bucket*>(
        allocate(sizeof(bucket) + sizeof(int64_t) * counter_count_ + sizeof(uintptr_t) * room * 8));
    directory[index] = b;
  }
  arena_lock_.unlock();

  new (b) bucket;
  b->index_ = index;
  b->hash_ = hash;
  b->label_hash_ = label_hash;
  b->tag_ = key.tag;
  b->labels_ = weft::detail::retain_labels(key.labels);
  b->depth_ = static_cast<uint16_t>(key.pcs.size());
  b->room_ = static_cast<uint16_t>(room);
  b->counter_count_ = counter_count_;
  b->truncated_ = key.truncated;
  b->other_ = other;
  for (size_t i = 0; i < counter_count_; ++i) new (&b->counters()[i]) std::atomic<int64_t>(0);
  std::ranges::copy(key.pcs, reinterpret_cast<uintptr_t*>(b->counters() + counter_count_));
  bucket*& head = s.heads[hash / shard_count % heads_per_shard];
  b->next_ = head;
  head = b;
  buckets_.fetch_add(1, std::memory_order_relaxed);
  if (key.labels != nullptr) labelled_.fetch_add(1, std::memory_order_relaxed);
  return b;
}

// Makes room for one bucket with labels in the shard, whose lock is held. Null if all are in use.
bucket* bucket_table::evict_labelled(shard& s, const weft::detail::label_node** dropped) noexcept {
  for (size_t i = 0; i < heads_per_shard; ++i) {
    for (bucket** link = &s.heads[i]; *link != nullptr; link = &(*link)->next_) {
      bucket* b = *link;
      // [ord bucket.refs] acquire: what the last holder added is seen.
      if (b->labels_ == nullptr || b->refs_.load(std::memory_order_acquire) != 0) continue;
      bucket_key plain{b->stack().pcs, b->truncated_, nullptr, b->tag_};
      bucket* heir = find(s, plain, b->hash_, 0, false);
      if (heir == nullptr) heir = make(s, plain, b->hash_, 0, false);
      if (heir == nullptr) return nullptr;
      for (size_t c = 0; c < counter_count_; ++c) heir->add(c, b->take(c));
      // make() puts buckets at the head of a chain: the link may be another one now.
      link = &s.heads[i];
      while (*link != b) link = &(*link)->next_;
      *link = b->next_;
      *dropped = b->labels_;
      labelled_.fetch_sub(1, std::memory_order_relaxed);
      buckets_.fetch_sub(1, std::memory_order_relaxed);
      folded_.fetch_add(1, std::memory_order_relaxed);
      arena_lock_.lock();
      b->next_ = free_[b->room_];
      free_[b->room_] = b;
      arena_lock_.unlock();
      return heir;
    }
  }
  return nullptr;
}

bucket* bucket_table::acquire(const bucket_key& wanted) noexcept {
  bucket_key key = wanted;
  if (key.pcs.size() > most_depth) {
    key.pcs = key.pcs.first(most_depth);
    key.truncated = true;
  }
  if (key.labels != nullptr && key.labels->pairs.empty()) key.labels = nullptr;
  const uint64_t hash = stack_hash(key);
  const uint64_t label_hash = labels_hash(key.labels);
  const weft::detail::label_node* dropped = nullptr;
  shard& s = shards_[hash % shard_count];
  s.lock.lock();
  if (s.heads == nullptr) {
    s.heads = static_cast<bucket**>(map(heads_per_shard * sizeof(bucket*)));
    bytes_.fetch_add(heads_per_shard * sizeof(bucket*), std::memory_order_relaxed);
  }
  bucket* b = find(s, key, hash, label_hash, false);
  if (b == nullptr && key.labels != nullptr) {
    const bool room = labelled_.load(std::memory_order_relaxed) < limits_.labelled &&
                      buckets_.load(std::memory_order_relaxed) < limits_.buckets;
    if (room || evict_labelled(s, &dropped) != nullptr) b = make(s, key, hash, label_hash, false);
  }
  bool refused = b == nullptr && key.labels != nullptr;
  if (b == nullptr) b = find(s, {key.pcs, key.truncated, nullptr, key.tag}, hash, 0, false);
  if (b == nullptr && buckets_.load(std::memory_order_relaxed) < limits_.buckets)
    b = make(s, {key.pcs, key.truncated, nullptr, key.tag}, hash, 0, false);
  if (b != nullptr) b->refs_.fetch_add(1, std::memory_order_relaxed);
  s.lock.unlock();
  weft::detail::drop_labels(dropped);
  if (b == nullptr) {
    // One per tag, outside the limit, or there would be nowhere to count.
    const bucket_key none{{}, false, nullptr, key.tag};
    const uint64_t none_hash = stack_hash(none);
    shard& o = shards_[none_hash % shard_count];
    o.lock.lock();
    if (o.heads == nullptr) o.heads = static_cast<bucket**>(map(heads_per_shard * sizeof(bucket*)));
    b = find(o, none, none_hash, 0, true);
    if (b == nullptr) b = make(o, none, none_hash, 0, true);
    WEFT_CHECK(b != nullptr);  // a profile has few tags
    b->refs_.fetch_add(1, std::memory_order_relaxed);
    o.lock.unlock();
    refused = true;
  }
  if (refused) no_room_.fetch_add(1, std::memory_order_relaxed);
  return b;
}

void bucket_table::for_each(const std::function<void(bucket&)>& f) {
  std::vector<bucket*> pinned;
  for (;;) {
    // No allocation under a shard's lock: the allocator may be the one that wants to count.
    const size_t room = buckets_.load(std::memory_order_relaxed) + size_t{64};
    pinned.reserve(room + room / 8);
    bool all = true;
    for (shard& s : shards_) {
      s.lock.lock();
      for (size_t i = 0; s.heads != nullptr && i < heads_per_shard; ++i) {
        for (bucket* b = s.heads[i]; b != nullptr && all; b = b->next_) {
          all = pinned.size() < pinned.capacity();
          if (!all) break;
          b->refs_.fetch_add(1, std::memory_order_relaxed);
          pinned.push_back(b);
        }
      }
      s.lock.unlock();
    }
    if (all) break;
    for (bucket* b : pinned) release(b);
    pinned.clear();
  }
  struct releases {
    bucket_table& table;
    std::vector<bucket*>& buckets;
    ~releases() {
      for (bucket* b : buckets) table.release(b);
    }
  } scope{*this, pinned};
  for (bucket* b : pinned) f(*b);
}

bucket_table::statistics bucket_table::stats() const noexcept {
  return {buckets_.load(std::memory_order_relaxed), labelled_.load(std::memory_order_relaxed),
          folded_.load(std::memory_order_relaxed), no_room_.load(std::memory_order_relaxed),
          bytes_.load(std::memory_order_relaxed)};
}

}  // namespace weft::prof
