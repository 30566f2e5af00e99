// Replaces one function of libbacktrace, its sort, to mend its search.
//
// Problem    libbacktrace finds the compilation unit of a pc by a binary search over address
//            ranges, looking only at ranges that start at the nearest lower address. GNU ld gives
//            every unit that instantiated a template or inline function the range of the one copy
//            it kept, while libbacktrace joins adjacent ranges of one unit. So a unit's long range
//            often has another unit's short range nested in it, and every pc behind the short one,
//            up to the end of the long one, has no line and no inlined frames: in a debug build of
//            weft's own tests a quarter of all functions.
// Remedy     The ranges are sorted once per module, by backtrace_qsort, an ordinary symbol of the
//            archive's sort.o; a definition that comes earlier in the link replaces it. This one
//            sorts and then replaces each nested range by the one around it, so the search finds
//            that. Both units describe the same source, so the answer is the right one.
// Limits     With a shared libbacktrace nothing is replaced and such pcs have a name but no line.
// Not done   A DWARF reader of our own (1000 lines); libdw (a dependency that is slow without an
//            index of one's own); a patched copy of libbacktrace (10 000 lines of C to keep).
// Tests      tests/unit/profiler/symbolize_test.cc, BacktraceSort.*
#include "profiler/backtrace_sort.h"

#include <cstdlib>
#include <span>

namespace {

// libbacktrace's struct unit_addrs; struct function_addrs has the same shape and the same order.
struct address_range {
  uintptr_t low;
  uintptr_t high;
  void* owner;
};

// The arrays of lines and symbols have elements of the same size, but other orders: only address
// ranges with the same low end are sorted by falling high ends.
bool sorts_address_ranges(size_t size, int (*compare)(const void*, const void*)) {
  if (size != sizeof(address_range)) return false;
  const address_range shorter{1, 2, nullptr}, longer{1, 3, nullptr}, later{2, 3, nullptr};
  return compare(&shorter, &longer) > 0 && compare(&longer, &shorter) < 0 &&
         compare(&longer, &later) < 0 && compare(&later, &longer) > 0;
}

}  // namespace

extern "C" void backtrace_qsort(void* base, size_t count, size_t size,
                                int (*compare)(const void*, const void*)) {
  if (count < 2) return;
  std::qsort(base, count, size, compare);
  if (!sorts_address_ranges(size, compare)) return;
  std::span ranges(static_cast<address_range*>(base), count);
  address_range widest = ranges.front();
  bool replaced = false;
  for (address_range& range : ranges) {
    if (range.low > widest.low && range.high <= widest.high) {
      range = widest;
      replaced = true;
    } else if (range.high > widest.high) {
      widest = range;
    }
  }
  if (replaced) std::qsort(base, count, size, compare);
}
