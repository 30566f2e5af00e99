// The heap profile.
//
// Buckets    One per stack, label set and tag; the tag is the heap, the class of the object's size
//            (eight to a doubling) and the mean rate at which it was sampled. Scaling is not linear
//            in the size, so sizes must not be mixed freely, and what was sampled before a change
//            of the rate keeps its weight.
// Tokens     A sampled object holds its bucket by the bucket's index and its own size, 64 bits.
// Ordinary   Allocations and frees count at once: two sums of each.
// Collected  An object that died is found by a collection some time later, so "allocated less
//            freed" would show garbage. As in Go, what happens between two mark terminations is set
//            aside: allocations of cycle N are published with the frees that the sweep after cycle
//            N + 1 finds. Three sets of sums rotate: `cycle + 2` takes allocations, `cycle + 1`
//            frees, `cycle` has been published. Before any collection has ended everything is
//            shown.
//            Publishing walks all buckets, so it is done when a sweep has ended or a profile is
//            read and not at mark termination, when the world waits; a fourth set is there for
//            that.
// Depends    Sums are atomics, the tables take leaf spinlocks, stacks come from stack_here(): this
//            is called in the middle of allocations.
#include "profiler/heap_profile.h"

#include <weft/gc/gc.h>
#include <weft/mem_stats.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <mutex>
#include <ostream>
#include <string>
#include <vector>

#include "base/alloc_sampling.h"
#include "base/options.h"
#include "gc/heap.h"
#include "profiler/goroutine_profile.h"
#include "profiler/pprof_encoder.h"
#include "profiler/stack_here.h"
#include "profiler/text_format.h"
#include "profiler/unwind.h"
#include "scheduler/task.h"
#include "scheduler/thread.h"

namespace weft::prof {
namespace {

using base::heap_kind;

// Four sums; the collected heap's buckets have one such group published and three in rotation.
enum sum : size_t { alloc_objects, alloc_bytes, free_objects, free_bytes, sums };
constexpr size_t rotation = 4;

constinit bucket_table g_ordinary(sums);
constinit bucket_table g_collected(sums*(1 + rotation));

constexpr size_t group(uint64_t cycle) { return sums * (1 + cycle % rotation); }

// Mark terminations so far, and the sums of which cycles have been published: those below the
// second. The flag: something has been.
constinit std::atomic<uint64_t> g_cycle{0};
std::mutex g_publish;
uint64_t g_published = 0;  // under g_publish
constinit std::atomic<bool> g_any_published{false};

// ---- tags and tokens ---------------------------------------------------------------------------

constexpr uint32_t class_bits = 9;
constexpr int64_t most_rate = int64_t{1} << 54;

uint32_t size_class(size_t size) noexcept {
  if (size <= 16) return static_cast<uint32_t>(size);
  const auto doubling = static_cast<uint32_t>(std::bit_width(size - 1)) - 1;
  const auto eighth = static_cast<uint32_t>((size - 1) >> (doubling - 3)) & 7;
  return 17 + (doubling - 4) * 8 + eighth;
}

uint64_t tag_of(size_t size, int64_t rate) noexcept {
  const auto r = static_cast<uint64_t>(std::clamp<int64_t>(rate, 1, most_rate));
  return r << class_bits | size_class(size);
}

int64_t rate_of(uint64_t tag) noexcept { return static_cast<int64_t>(tag >> class_bits); }

// A token's lowest bit says which heap, then 17 bits of index, 46 of size.
constexpr uint32_t index_bits = 17;
constexpr size_t most_size = (size_t{1} << 46) - 1;

void* token_of(uint32_t index, size_t size, heap_kind kind) noexcept {
  const uint64_t word = uint64_t{std::min(size, most_size)} << (index_bits + 1) |
                        uint64_t{index} << 1 | (kind == heap_kind::collected ? 1 : 0);
  return reinterpret_cast<void*>(word);
}

// ---- the port ----------------------------------------------------------------------------------

const weft::detail::label_node* current_labels() noexcept {
  sched::thread* th = sched::self_or_null();
  if (th == nullptr) return nullptr;
  sched::task* t = th->current.load(std::memory_order_relaxed);
  if (t == nullptr) t = th->own_task;
  if (t == nullptr) return nullptr;
  // The task is the caller, and only it changes its labels.
  return static_cast<const weft::detail::label_node*>(t->labels.load(std::memory_order_relaxed));
}

void* allocated(size_t size, heap_kind kind, int64_t rate) noexcept {
  uintptr_t pcs[probe_depth];
  const captured_stack stack = stack_here(pcs);
  const bool collected = kind == heap_kind::collected;
  bucket_table& table = collected ? g_collected : g_ordinary;
  bucket* b = table.acquire(
      {std::span(pcs, stack.depth), stack.truncated, current_labels(), tag_of(size, rate)});
  const size_t at = collected ? group(g_cycle.load(std::memory_order_relaxed) + 2) : 0;
  b->add(at + alloc_objects, 1);
  b->add(at + alloc_bytes, static_cast<int64_t>(size));
  return token_of(b->index(), size, kind);
}

void freed(void* token) noexcept {
  const auto word = reinterpret_cast<uintptr_t>(token);
  const bool collected = (word & 1) != 0;
  bucket_table& table = collected ? g_collected : g_ordinary;
  bucket* b = table.at(static_cast<uint32_t>(word >> 1) & ((1u << index_bits) - 1));
  const size_t at = collected ? group(g_cycle.load(std::memory_order_relaxed) + 1) : 0;
  b->add(at + free_objects, 1);
  b->add(at + free_bytes, static_cast<int64_t>(word >> (index_bits + 1)));
  table.release(b);
}

// Adds what was set aside for the cycles up to `last` to the published sums. Nobody counts there
// any more.
void publish_up_to(uint64_t last) {
  std::lock_guard hold(g_publish);
  for (; g_published <= last; ++g_published) {
    // Sums further behind than there are sets have been added to by later cycles: take them once.
    if (last - g_published >= rotation) continue;
    const size_t from = group(g_published);
    g_collected.for_each([&](bucket& b) {
      for (size_t i = 0; i < sums; ++i) {
        const int64_t amount = b.take(from + i);
        b.add(i, amount);
        if (amount != 0) g_any_published.store(true, std::memory_order_relaxed);
      }
    });
  }
}

void cycle_ended() noexcept { g_cycle.fetch_add(1, std::memory_order_acq_rel); }

// The frees of this sweep and the allocations before the mark that it followed are complete.
void sweep_ended() noexcept {
  publish_up_to(g_cycle.load(std::memory_order_acquire) + 1);
  // The place where programs that only use the collected heap get tables for their samples' stacks.
  unwind_refresh();
}

uint64_t table_bytes() noexcept { return g_ordinary.stats().bytes + g_collected.stats().bytes; }

constexpr base::alloc_port port{
    .allocated = allocated, .freed = freed, .cycle_ended = cycle_ended, .sweep_ended = sweep_ended};

// ---- reading -----------------------------------------------------------------------------------

// A bucket as it is: what was sampled.
struct record {
  const bucket* b;
  heap_kind kind;
  heap_amount all;
  heap_amount live;
};

record read(const bucket& b, heap_kind kind) {
  // Frees first: an object that is freed meanwhile was allocated before.
  int64_t v[sums] = {};
  const bool unpublished =
      kind == heap_kind::collected && !g_any_published.load(std::memory_order_relaxed);
  for (size_t i = sums; i-- > 0;) {
    v[i] = b.get(i);
    for (size_t g = 1; unpublished && g <= rotation; ++g) v[i] += b.get(g * sums + i);
  }
  return {&b,
          kind,
          {v[alloc_objects], v[alloc_bytes]},
          {std::max<int64_t>(v[alloc_objects] - v[free_objects], 0),
           std::max<int64_t>(v[alloc_bytes] - v[free_bytes], 0)}};
}

void for_each_record(const std::function<void(const record&)>& f) {
  g_ordinary.for_each([&](bucket& b) { f(read(b, heap_kind::ordinary)); });
  publish_up_to(g_cycle.load(std::memory_order_acquire));
  g_collected.for_each([&](bucket& b) { f(read(b, heap_kind::collected)); });
}

int64_t class_bytes(uint32_t cls) noexcept {
  if (cls <= 16) return cls;
  const uint32_t doubling = (cls - 17) / 8 + 4;
  return (int64_t{8} + (cls - 17) % 8 + 1) << (doubling - 3);
}

// The samples of a profile, each record's amounts put through `amounts`.
template <class F>
std::vector<sample> samples_of(F amounts) {
  sample_set set(4);
  label_list labels;
  for_each_record([&](const record& r) {
    if (r.all.objects <= 0) return;
    labels.clear();
    if (r.b->labels() != nullptr) labels = *r.b->labels();
    const char* heap = r.kind == heap_kind::collected ? "gc" : "malloc";
    labels.insert(std::ranges::upper_bound(labels, "heap", {}, &label_list::value_type::first),
                  {"heap", heap});
    // As Go's, the rounded size: it stays the same from one reading to the next.
    const numeric_label bytes{
        "bytes", class_bytes(static_cast<uint32_t>(r.b->tag() & ((1u << class_bits) - 1))), ""};
    const heap_amount all = amounts(r.all, rate_of(r.b->tag()));
    const heap_amount live = amounts(r.live, rate_of(r.b->tag()));
    const int64_t values[] = {all.objects, all.bytes, live.objects, live.bytes};
    set.add({r.b->stack(), &labels, std::span(&bytes, 1), r.b->is_other() ? "[other]" : ""},
            values);
  });
  return set.take();
}

double scale_of(heap_amount sampled, int64_t rate) {
  const double average = static_cast<double>(sampled.bytes) / static_cast<double>(sampled.objects);
  return 1 / (1 - std::exp(-average / static_cast<double>(rate)));
}

// What readers of the text, who scale by `shown`, must find there of samples taken at `rate`. What
// is less than half a sample to them is left out.
heap_amount as_if_sampled_at(heap_amount sampled, int64_t rate, int64_t shown) {
  if (rate == shown || sampled.objects == 0 || sampled.bytes == 0) return sampled;
  const double up = rate <= 1 ? 1 : scale_of(sampled, rate);
  const double down = shown <= 1 ? 1 : scale_of(sampled, shown);
  const int64_t objects = std::llround(static_cast<double>(sampled.objects) * up / down);
  if (objects == 0) return {0, 0};
  return {objects, std::llround(static_cast<double>(sampled.bytes) * up / down)};
}

class heap_source final : public profile_source {
 public:
  explicit heap_source(bool allocations) : allocations_(allocations) {}

  std::string_view name() const noexcept override { return allocations_ ? "allocs" : "heap"; }
  std::string_view description() const noexcept override {
    return allocations_ ? "A sampling of all past memory allocations"
                        : "A sampling of memory allocations of live objects. You can specify the "
                          "gc GET parameter to run GC before taking the heap sample.";
  }
  int64_t count() const noexcept override {
    return g_ordinary.stats().buckets + int64_t{g_collected.stats().buckets};
  }

  profile_data collect(const collect_options& options) const override {
    prepare(options);
    return heap_profile(samples_of(scale_heap_sample), base::mem_profile_rate(), allocations_,
                        wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int, const collect_options& options) const override {
    // The statistics first, before this has allocated anything but what the collection took.
    if (options.gc) prepare(options);
    const std::string trailer = mem_stats_text(read_mem_stats());
    unwind_refresh();
    const int64_t shown = std::max<int64_t>(base::mem_profile_rate(), 1);
    std::vector<sample> samples = samples_of(
        [&](heap_amount sampled, int64_t rate) { return as_if_sampled_at(sampled, rate, shown); });
    return write_heap_text(sink, {shown, trailer}, samples);
  }

 private:
  void prepare(const collect_options& options) const {
    if (options.gc && !allocations_ && gc::stats().allocated_objects != 0) gc::collect();
    // Samples in libraries loaded since the last time are quicker from now on.
    unwind_refresh();
  }

  const bool allocations_;
};

}  // namespace

heap_amount scale_heap_sample(heap_amount sampled, int64_t rate) noexcept {
  if (sampled.objects == 0 || sampled.bytes == 0) return {0, 0};
  if (rate <= 1) return sampled;
  const double scale = scale_of(sampled, rate);
  return {static_cast<int64_t>(static_cast<double>(sampled.objects) * scale),
          static_cast<int64_t>(static_cast<double>(sampled.bytes) * scale)};
}

profile_source& heap_profile_source() {
  static heap_source profile(false);
  return profile;
}

profile_source& allocs_profile_source() {
  static heap_source profile(true);
  return profile;
}

void install_heap_profile() noexcept {
  base::set_alloc_port(port);
  gc::set_profile_table_bytes(table_bytes);
}

void heap_profile_from_environment() {
  // Once: what the program sets later stays.
  static std::atomic_flag read;
  if (read.test_and_set()) return;
  const int64_t seed = base::debug_number("memprofileseed", 0, -1);
  if (seed >= 0) base::seed_sample_rngs(static_cast<uint64_t>(seed));
  const int64_t rate = base::debug_number("memprofilerate", 0, -1);
  if (rate >= 0) base::set_mem_profile_rate(rate);
}

bucket_table::statistics heap_profile_statistics(base::heap_kind kind) noexcept {
  return (kind == heap_kind::collected ? g_collected : g_ordinary).stats();
}

}  // namespace weft::prof
