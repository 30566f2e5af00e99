#include "gc/cage.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <weft/detail/config.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "gc/span.h"

namespace weft::gc {

cage g_cage;

namespace {

constexpr size_t gib = size_t{1} << 30;
constexpr size_t least = size_t{64} << 20;
#if WEFT_ASAN || WEFT_TSAN
constexpr size_t most = 8 * gib;  // each has tables of its own for what is reserved
#else
constexpr size_t most = 256 * gib;
#endif

size_t limit_of_address_space() noexcept {
  rlimit r{};
  if (::getrlimit(RLIMIT_AS, &r) != 0 || r.rlim_cur == RLIM_INFINITY) return most;
  return std::min<size_t>(most, r.rlim_cur / 4);
}

size_t table_bytes(size_t pages) noexcept {
  return pages * (sizeof(uint32_t) + 4 * words_per_page * sizeof(bit_word) + sizeof(span));
}

void* reserve(size_t bytes) noexcept {
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p != MAP_FAILED ? p : nullptr;
}

}  // namespace

void* reserve_table(size_t bytes) noexcept { return reserve(bytes); }

void reserve_cage() noexcept {
  size_t bytes = most;
  while (bytes > least && bytes > limit_of_address_space()) bytes /= 2;
  for (;; bytes /= 2) {
    if (bytes < least)
      base::fatalf(
          "the collected heap cannot reserve %zu MiB of address space; check RLIMIT_AS (ulimit -v) "
          "and vm.overcommit_memory",
          least >> 20);
    const size_t pages = bytes / page_size;
    // One mapping: if the tables do not fit, the heap has to be smaller.
    const size_t tables = table_bytes(pages);
    auto* p = static_cast<char*>(reserve(bytes + page_size + tables));
    if (p == nullptr) continue;
    const auto at = (reinterpret_cast<uintptr_t>(p) + page_size - 1) & ~(page_size - 1);
    g_cage.base = at;
    g_cage.pages = pages;
    char* next = p + (at - reinterpret_cast<uintptr_t>(p)) + bytes;
    const auto take = [&](size_t n) { return std::exchange(next, next + n); };
    g_cage.spans = reinterpret_cast<span*>(take(pages * sizeof(span)));
    const size_t bits = pages * words_per_page * sizeof(bit_word);
    g_cage.allocated = reinterpret_cast<bit_word*>(take(bits));
    g_cage.marked = reinterpret_cast<bit_word*>(take(bits));
    g_cage.checked = reinterpret_cast<bit_word*>(take(bits));
    g_cage.armed = reinterpret_cast<bit_word*>(take(bits));
    g_cage.page_span = reinterpret_cast<std::atomic<uint32_t>*>(take(pages * sizeof(uint32_t)));
    // Huge pages would be filled with zeros for the sake of one object.
    ::madvise(p, bytes + page_size + tables, MADV_NOHUGEPAGE);
    return;
  }
}

}  // namespace weft::gc
