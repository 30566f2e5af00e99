#pragma once
// The inner loop of the head parser: how far does a run of harmless bytes reach? Sixteen bytes a
// step with SSE2 (every x86-64 has it), one elsewhere; a test compares the two.
#include <cstddef>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace weft::http::detail {

inline bool is_value_byte(char c) {
  auto u = static_cast<unsigned char>(c);
  return (u >= 0x20 && u != 0x7f) || u == '\t';
}

inline const char* skip_value_bytes_portable(const char* p, const char* end) {
  while (p != end && is_value_byte(*p)) ++p;
  return p;
}

#if defined(__SSE2__)
// First byte in [p, end) that may not stand in a field value: a control other than HTAB, or DEL.
inline const char* skip_value_bytes(const char* p, const char* end) {
  const __m128i control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
  while (end - p >= 16) {
    __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    __m128i bad = _mm_cmpeq_epi8(_mm_min_epu8(x, control), x);
    bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, tab), bad), _mm_cmpeq_epi8(x, del));
    int mask = _mm_movemask_epi8(bad);
    if (mask != 0) return p + __builtin_ctz(static_cast<unsigned>(mask));
    p += 16;
  }
  return skip_value_bytes_portable(p, end);
}
#else
inline const char* skip_value_bytes(const char* p, const char* end) {
  return skip_value_bytes_portable(p, end);
}
#endif

}  // namespace weft::http::detail
