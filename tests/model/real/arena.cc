#include "tests/model/real/arena.h"

namespace weft::model {
namespace {

constexpr size_t arena_size = size_t{4} << 20;
constexpr unsigned char nonsense = 0xdd;

alignas(4096) char g_arena[arena_size];
size_t g_arena_used = 0;
bool g_use_arena = false;
std::vector<range>& g_freed = *new std::vector<range>;

void* take_memory(size_t size, size_t align) {
  if (!g_use_arena) {
    void* p = std::aligned_alloc(align, (size + align - 1) / align * align);
    if (p == nullptr) std::abort();
    return p;
  }
  g_arena_used = (g_arena_used + align - 1) / align * align;
  if (g_arena_used + size > arena_size) std::abort();
  void* p = g_arena + g_arena_used;
  g_arena_used += size;
  return p;
}

// Whoever reads it afterwards finds nonsense, and who writes leaves a trace.
void give_back(void* p, size_t size) noexcept {
  if (p == nullptr) return;
  if (place_in_arena(p) < 0) {
    std::free(p);
  } else if (size > 0) {
    std::memset(p, nonsense, size);
    own_memory hold;
    g_freed.push_back({p, size});
  }
}

}  // namespace

bool use_arena(bool yes) noexcept { return std::exchange(g_use_arena, yes); }

void clear_arena() noexcept {
  g_arena_used = 0;
  g_freed.clear();
}

ptrdiff_t place_in_arena(const void* p) noexcept {
  const auto* at = static_cast<const char*>(p);
  const bool inside = std::greater_equal<const char*>()(at, g_arena) &&
                      std::less<const char*>()(at, g_arena + arena_size);
  return inside ? at - g_arena : -1;
}

bool freed_memory_was_written() noexcept {
  for (const range& r : g_freed) {
    const auto* bytes = static_cast<const unsigned char*>(r.from);
    if (std::any_of(bytes, bytes + r.size, [](unsigned char b) { return b != nonsense; }))
      return true;
  }
  return false;
}

}  // namespace weft::model

void* operator new(size_t n) { return weft::model::take_memory(n, 16); }
void* operator new[](size_t n) { return weft::model::take_memory(n, 16); }
void* operator new(size_t n, std::align_val_t a) {
  return weft::model::take_memory(n, std::max<size_t>(16, static_cast<size_t>(a)));
}
void operator delete(void* p) noexcept { weft::model::give_back(p, 0); }
void operator delete[](void* p) noexcept { weft::model::give_back(p, 0); }
void operator delete(void* p, size_t n) noexcept { weft::model::give_back(p, n); }
void operator delete[](void* p, size_t n) noexcept { weft::model::give_back(p, n); }
void operator delete(void* p, std::align_val_t) noexcept { weft::model::give_back(p, 0); }
void operator delete(void* p, size_t n, std::align_val_t) noexcept { weft::model::give_back(p, n); }
