// Every operator new and delete, as malloc and free in functions.cc. What the standard asks for
// when there is no memory is done here: Debian's mimalloc is compiled as C, and its own forms
// abort.
#include <mimalloc.h>

#include <new>

#include "weft/malloc/mimalloc_aligned.h"
#include "weft/malloc/sampler.h"

using weft::heap::counts_out;
using weft::heap::is_sampled;
using weft::heap::really_aligned;
using weft::heap::sample_allocation;
using weft::heap::sampled_free;

namespace {

void release(void* p) noexcept {
  if (is_sampled(p)) [[unlikely]]
    return sampled_free(p);
  mi_free(p);
}

// Asks the new handler until `allocate` finds memory; throws when there is none.
template <class F>
[[gnu::noinline]] void* after_failure(F allocate) {
  for (;;) {
    std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
    if (void* p = allocate()) return p;
  }
}

template <class F>
[[gnu::noinline]] void* after_failure_nothrow(F allocate) noexcept {
  try {
    return after_failure(allocate);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// `allocate` does not throw.
template <class F>
void* or_throw(F allocate) {
  void* p = allocate();
  if (p == nullptr) [[unlikely]]
    return after_failure(allocate);
  return p;
}

template <class F>
void* or_null(F allocate) noexcept {
  void* p = allocate();
  if (p == nullptr) [[unlikely]]
    return after_failure_nothrow(allocate);
  return p;
}

void* aligned(size_t size, size_t alignment) noexcept {
  return really_aligned(size, alignment, [=](size_t n) { return mi_malloc_aligned(n, alignment); });
}

}  // namespace

// clang 14 declares the sized forms only with -fsized-deallocation, so <new> does not make them
// visible: libraries would call libmimalloc's.
#pragma GCC visibility push(default)

[[gnu::weak]] void* operator new(size_t size) {
  if (counts_out(size)) [[unlikely]] {
    if (void* p = sample_allocation(size, 16, false)) return p;
  }
  return or_throw([=] { return mi_malloc(size); });
}

[[gnu::weak]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  if (counts_out(size)) [[unlikely]] {
    if (void* p = sample_allocation(size, 16, false)) return p;
  }
  return or_null([=] { return mi_malloc(size); });
}

[[gnu::weak]] void* operator new(size_t size, std::align_val_t wanted) {
  const auto alignment = static_cast<size_t>(wanted);
  if (counts_out(size)) [[unlikely]] {
    if (void* p = sample_allocation(size, alignment, false)) return p;
  }
  return or_throw([=] { return aligned(size, alignment); });
}

[[gnu::weak]] void* operator new(size_t size, std::align_val_t wanted,
                                 const std::nothrow_t&) noexcept {
  const auto alignment = static_cast<size_t>(wanted);
  if (counts_out(size)) [[unlikely]] {
    if (void* p = sample_allocation(size, alignment, false)) return p;
  }
  return or_null([=] { return aligned(size, alignment); });
}

[[gnu::weak]] void* operator new[](size_t size) { return operator new(size); }
[[gnu::weak]] void* operator new[](size_t size, const std::nothrow_t& t) noexcept {
  return operator new(size, t);
}
[[gnu::weak]] void* operator new[](size_t size, std::align_val_t a) {
  return operator new(size, a);
}
[[gnu::weak]] void* operator new[](size_t size, std::align_val_t a,
                                   const std::nothrow_t& t) noexcept {
  return operator new(size, a, t);
}

[[gnu::weak]] void operator delete(void* p) noexcept { release(p); }
[[gnu::weak]] void operator delete(void* p, const std::nothrow_t&) noexcept { release(p); }
[[gnu::weak]] void operator delete(void* p, size_t) noexcept { release(p); }
[[gnu::weak]] void operator delete(void* p, std::align_val_t) noexcept { release(p); }
[[gnu::weak]] void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept {
  release(p);
}
[[gnu::weak]] void operator delete(void* p, size_t, std::align_val_t) noexcept { release(p); }
[[gnu::weak]] void operator delete[](void* p) noexcept { release(p); }
[[gnu::weak]] void operator delete[](void* p, const std::nothrow_t&) noexcept { release(p); }
[[gnu::weak]] void operator delete[](void* p, size_t) noexcept { release(p); }
[[gnu::weak]] void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
[[gnu::weak]] void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept {
  release(p);
}
[[gnu::weak]] void operator delete[](void* p, size_t, std::align_val_t) noexcept { release(p); }

#pragma GCC visibility pop

// For functions.cc.
extern "C" const char weft_new_linked;
const char weft_new_linked = 1;
