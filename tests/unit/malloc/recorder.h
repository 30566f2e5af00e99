#pragma once
// Listens to the samples of weft::malloc in place of the heap profile, for one test. Keeps its
// records in an array, since it must not allocate.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/alloc_sampling.h"
#include "weft/malloc/sampled_store.h"

namespace weft::heap {

class recorder {
 public:
  // Sampling at `rate` until the destructor, which restores what was before.
  explicit recorder(int64_t rate)
      : before_(base::current_alloc_port()), rate_before_(base::mem_profile_rate()) {
    base::set_mem_profile_rate(0);
    base::set_alloc_port(port);
    // Blocks that the last recorder sampled may still come: they are not this one's.
    epoch.fetch_add(1);
    objects.store(0);
    bytes.store(0);
    frees.store(0);
    base::set_mem_profile_rate(rate);
  }
  ~recorder() {
    base::set_mem_profile_rate(0);
    base::set_alloc_port(before_);
    base::set_mem_profile_rate(rate_before_);
  }
  recorder(const recorder&) = delete;

  int64_t sampled_objects() const { return objects.load(); }
  int64_t sampled_bytes() const { return bytes.load(); }
  int64_t live_objects() const { return objects.load() - frees.load(); }
  // Whether `p` is a sampled block that this one was told of.
  bool live(const void* p) const {
    return is_sampled(p) && token_epoch(store_token(p)) == epoch.load();
  }
  // What it was told of a live block.
  static size_t size_of(const void* p) { return token_size(store_token(p)); }
  static int64_t rate_of(int64_t index) { return rates[index % kept].load(); }

 private:
  // A token is the epoch and the size, made odd, so that it is no pointer.
  static void* allocated(size_t size, base::heap_kind, int64_t rate) noexcept {
    rates[objects.fetch_add(1) % kept].store(rate);
    bytes.fetch_add(static_cast<int64_t>(size));
    return reinterpret_cast<void*>(epoch.load() << 48 | size << 1 | 1);
  }
  static void freed(void* token) noexcept {
    if (token_epoch(token) == epoch.load()) frees.fetch_add(1);
  }
  static uintptr_t token_epoch(const void* t) { return reinterpret_cast<uintptr_t>(t) >> 48; }
  static size_t token_size(const void* t) {
    return (reinterpret_cast<uintptr_t>(t) & ((uintptr_t{1} << 48) - 1)) >> 1;
  }

  static constexpr base::alloc_port port{.allocated = allocated, .freed = freed};
  static constexpr int64_t kept = 1024;
  static inline std::atomic<int64_t> rates[kept];
  static inline std::atomic<uintptr_t> epoch{0};
  static inline std::atomic<int64_t> objects{0}, bytes{0}, frees{0};

  const base::alloc_port& before_;
  int64_t rate_before_;
};

}  // namespace weft::heap
