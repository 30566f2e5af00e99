#pragma once
// The event gate: how the layers below tell the ones above what happens.
//
// Off costs one relaxed load and an untaken branch. A sink runs on the thread that emits, inside
// the runtime's critical sections: it must not park, take a lock that user code can hold, or
// allocate.
#include <atomic>
#include <cstdint>

namespace weft::base {

enum class event_kind : uint8_t {
#define WEFT_EVENT(name, a, b, sentence) name,
#include "base/events.def"
#undef WEFT_EVENT
  count
};

struct event {
  event_kind kind;
  uint64_t a;
  uint64_t b;
};

using event_sink = void (*)(const event&, void* context) noexcept;

// Adds a sink for the kinds of `mask` (bit n = event_kind n). At most 8 sinks exist at a time;
// returns false when there is no room. Thread-safe. Events that are under way may still reach a
// removed sink, so its context must outlive the process or be checked by the sink.
bool add_sink(uint32_t mask, event_sink sink, void* context) noexcept;
void remove_sink(event_sink sink, void* context) noexcept;

const char* event_name(event_kind kind) noexcept;

namespace detail {
extern std::atomic<uint32_t> g_event_mask;
void emit_slow(event_kind kind, uint64_t a, uint64_t b) noexcept;
}  // namespace detail

inline bool wants(event_kind kind) noexcept {
  return (detail::g_event_mask.load(std::memory_order_relaxed) >> static_cast<int>(kind)) & 1;
}

inline void emit(event_kind kind, uint64_t a, uint64_t b) noexcept {
  if (wants(kind)) [[unlikely]]
    detail::emit_slow(kind, a, b);
}

}  // namespace weft::base
