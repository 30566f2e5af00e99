#include "base/events.h"

#include "base/spinlock.h"

namespace weft::base {
namespace {

// A slot is published by its mask: the sink and context are written before it, and a slot is reused
// only for a new sink, never moved, so a reader needs no lock.
struct slot {
  std::atomic<uint32_t> mask{0};
  std::atomic<event_sink> sink{nullptr};
  std::atomic<void*> context{nullptr};
};

slot g_slots[8];
spinlock g_lock;

void refresh_mask() noexcept {
  uint32_t all = 0;
  for (slot& s : g_slots) all |= s.mask.load(std::memory_order_relaxed);
  detail::g_event_mask.store(all, std::memory_order_release);
}

}  // namespace

namespace detail {

std::atomic<uint32_t> g_event_mask{0};

void emit_slow(event_kind kind, uint64_t a, uint64_t b) noexcept {
  event e{kind, a, b};
  for (slot& s : g_slots) {
    // [ord event.slot] acquire pairs with the release of the mask in add_sink.
    if ((s.mask.load(std::memory_order_acquire) >> static_cast<int>(kind)) & 1)
      s.sink.load(std::memory_order_relaxed)(e, s.context.load(std::memory_order_relaxed));
  }
}

}  // namespace detail

bool add_sink(uint32_t mask, event_sink sink, void* context) noexcept {
  g_lock.lock();
  for (slot& s : g_slots) {
    if (s.mask.load(std::memory_order_relaxed) != 0) continue;
    s.sink.store(sink, std::memory_order_relaxed);
    s.context.store(context, std::memory_order_relaxed);
    s.mask.store(mask, std::memory_order_release);  // [ord event.slot] publishes sink and context
    refresh_mask();
    g_lock.unlock();
    return true;
  }
  g_lock.unlock();
  return false;
}

void remove_sink(event_sink sink, void* context) noexcept {
  g_lock.lock();
  for (slot& s : g_slots) {
    if (s.sink.load(std::memory_order_relaxed) == sink &&
        s.context.load(std::memory_order_relaxed) == context)
      s.mask.store(0, std::memory_order_release);
  }
  refresh_mask();
  g_lock.unlock();
}

const char* event_name(event_kind kind) noexcept {
  static constexpr const char* names[] = {
#define WEFT_EVENT(name, a, b, sentence) #name,
#include "base/events.def"
#undef WEFT_EVENT
  };
  return names[static_cast<int>(kind)];
}

}  // namespace weft::base
