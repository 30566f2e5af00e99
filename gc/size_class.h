#pragma once
// How large slots are, and how many pages their spans have. Everything is constexpr.
//
// A span of fixed-size objects holds one type, so its slots are exactly as large as the type; no
// rounding to classes. Arrays, whose size is known at run time only, use classes in steps of an
// eighth of a power of two.
#include <bit>
#include <cstddef>
#include <cstdint>

#include "gc/cage.h"

namespace weft::gc {

inline constexpr size_t largest_small = size_t{32} << 10;  // larger objects have a span each

struct slot_shape {
  uint32_t stride;
  uint32_t pages;  // of a span
  uint32_t slots;
  uint32_t magic;  // slot = offset * magic >> 32, for every offset in the span
};

// The smallest span that wastes at most an eighth of itself.
constexpr slot_shape shape_for(size_t stride) noexcept {
  size_t pages = 1;
  while (pages * page_size < stride || (pages * page_size) % stride > pages * page_size / 8)
    ++pages;
  return {static_cast<uint32_t>(stride), static_cast<uint32_t>(pages),
          static_cast<uint32_t>(pages * page_size / stride),
          static_cast<uint32_t>(((uint64_t{1} << 32) + stride - 1) / stride)};
}

// Of one object of this size; alignments up to the page size come by themselves, because a size is
// a multiple of its alignment.
constexpr size_t stride_for(size_t size) noexcept {
  size_t rounded = (size + 7) & ~size_t{7};
  return rounded < smallest_slot ? smallest_slot : rounded;
}

// Arrays: 16, 32, …, 128, then eighths: 144, 160, …, 256, 288, …
inline constexpr int array_classes = 8 + 8 * 8;  // up to 32 KiB

constexpr size_t class_size(int c) noexcept {
  if (c < 8) return 16 * static_cast<size_t>(c + 1);
  const int octave = (c - 8) / 8, step = (c - 8) % 8;
  return (size_t{128} << octave) + static_cast<size_t>(step + 1) * (size_t{16} << octave);
}

constexpr int class_for(size_t bytes) noexcept {
  if (bytes <= 128) return bytes == 0 ? 0 : static_cast<int>((bytes - 1) / 16);
  const int octave = std::bit_width(bytes - 1) - 8;
  return 8 + octave * 8 + static_cast<int>((bytes - 1 - (size_t{128} << octave)) >> (4 + octave));
}
static_assert(class_size(array_classes - 1) == largest_small);
static_assert([] {
  for (size_t n = 1; n <= largest_small; ++n) {
    const int c = class_for(n);
    if (class_size(c) < n || (c > 0 && class_size(c - 1) >= n)) return false;
  }
  return true;
}());
static_assert([] {
  for (size_t stride = smallest_slot; stride <= 4096; stride += 8) {
    const slot_shape s = shape_for(stride);
    for (uint64_t slot = 0; slot < s.slots; ++slot) {
      if (slot * stride * s.magic >> 32 != slot ||
          (slot * stride + stride - 1) * s.magic >> 32 != slot)
        return false;
    }
  }
  return true;
}());

}  // namespace weft::gc
