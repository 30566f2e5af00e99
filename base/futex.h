#pragma once
// Thin wrappers over futex(2): private, 32-bit, no errno left behind.
#include <atomic>
#include <cstdint>

namespace weft::base {

// Sleeps while `word` == expected, at most `timeout_ns` (negative: forever). Returns false when it
// timed out; true for wake-ups, spurious ones included.
bool futex_wait(std::atomic<uint32_t>& word, uint32_t expected, int64_t timeout_ns) noexcept;
void futex_wake(std::atomic<uint32_t>& word, int count) noexcept;

}  // namespace weft::base
