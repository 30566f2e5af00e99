#pragma once
#include <cstddef>
#include <cstdint>

namespace weft::test {

// Touches every page of `bytes` of stack, one kilobyte a frame, and sums what it wrote on the way
// back. Each frame is seen by the next one, so that no compiler makes a loop of it.
[[gnu::noinline]] inline uint64_t descend(size_t bytes,
                                          const volatile unsigned char* above = nullptr) {
  volatile unsigned char frame[1024];
  frame[0] = above != nullptr ? above[1023] : 1;
  frame[1023] = 1;
  if (bytes <= sizeof frame) return frame[0];
  return descend(bytes - sizeof frame, frame) + frame[1023];
}

}  // namespace weft::test
