// malloc and its relatives, by mimalloc, with sampling.
//
// Every function that a program or libmimalloc.so itself may take for the process's allocator is
// here, because a block of the sampled store must never reach mimalloc. strdup, getline and the
// like need nothing: libc allocates through these. The file is compiled with -fno-builtin, or the
// compiler would make calloc of malloc and memset, and call itself.
#include <malloc.h>
#include <mimalloc.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "weft/malloc/mimalloc_aligned.h"
#include "weft/malloc/sampler.h"

using weft::heap::counts_out;
using weft::heap::is_sampled;
using weft::heap::really_aligned;
using weft::heap::sample_allocation;
using weft::heap::sampled_free;
using weft::heap::sampled_realloc;

namespace {

constexpr size_t page = 4096;

void* aligned(size_t alignment, size_t size) noexcept {
  const bool out = counts_out(size);
  if (!std::has_single_bit(alignment)) return mi_memalign(alignment, size);  // an error
  if (out) [[unlikely]] {
    if (void* p = sample_allocation(size, alignment, false)) return p;
  }
  return really_aligned(size, alignment, [=](size_t n) { return mi_memalign(alignment, n); });
}

void* zeroed(size_t count, size_t size) noexcept {
  size_t total = 0;
  if (!__builtin_mul_overflow(count, size, &total) && counts_out(total)) [[unlikely]] {
    if (void* p = sample_allocation(total, 16, true)) return p;
  }
  return mi_calloc(count, size);
}

[[gnu::noinline]] void* realloc_counted_out(void* p, size_t size) noexcept {
  void* sampled = sample_allocation(size, 16, false);
  if (sampled == nullptr) return mi_realloc(p, size);
  if (p != nullptr) {
    __builtin_memcpy(sampled, p, std::min(size, mi_usable_size(p)));
    mi_free(p);
  }
  return sampled;
}

void* resized(void* p, size_t size) noexcept {
  const bool out = counts_out(size);
  if (is_sampled(p)) [[unlikely]]
    return sampled_realloc(p, size, out);
  if (out) [[unlikely]]
    return realloc_counted_out(p, size);
  return mi_realloc(p, size);
}

void* resized_array(void* p, size_t count, size_t size) noexcept {
  size_t total = 0;
  if (__builtin_mul_overflow(count, size, &total)) {
    errno = ENOMEM;
    return nullptr;
  }
  return resized(p, total);
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

void* malloc(size_t size) noexcept {
  if (counts_out(size)) [[unlikely]] {
    if (void* p = sample_allocation(size, 16, false)) return p;
  }
  return mi_malloc(size);
}

void free(void* p) noexcept {
  if (is_sampled(p)) [[unlikely]]
    return sampled_free(p);
  mi_free(p);
}

void* calloc(size_t count, size_t size) noexcept { return zeroed(count, size); }
void* realloc(void* p, size_t size) noexcept { return resized(p, size); }
void* reallocarray(void* p, size_t count, size_t size) noexcept {
  return resized_array(p, count, size);
}

// BSD's: the old block is freed when there is no memory for the new one.
void* reallocf(void* p, size_t size) noexcept {
  void* resized_block = resized(p, size);
  if (resized_block == nullptr) free(p);
  return resized_block;
}

// NetBSD's: *p is changed, the result is an error number.
int reallocarr(void* p, size_t count, size_t size) noexcept {
  auto* where = static_cast<void**>(p);
  void* resized_block = resized_array(*where, count, size);
  if (resized_block == nullptr) return errno;
  *where = resized_block;
  return 0;
}

int posix_memalign(void** result, size_t alignment, size_t size) noexcept {
  if (!std::has_single_bit(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const int saved_errno = errno;
  void* p = aligned(alignment, size);
  errno = saved_errno;
  if (p == nullptr) return ENOMEM;
  *result = p;
  return 0;
}

void* memalign(size_t alignment, size_t size) noexcept { return aligned(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) noexcept { return aligned(alignment, size); }
void* valloc(size_t size) noexcept { return aligned(page, size); }
void* pvalloc(size_t size) noexcept {
  if (size > SIZE_MAX - page) {
    errno = ENOMEM;
    return nullptr;
  }
  return aligned(page, (size + page - 1) & ~(page - 1));
}

size_t malloc_usable_size(void* p) noexcept {
  return is_sampled(p) ? weft::heap::sampled_usable_size(p) : mi_usable_size(p);
}

// Other names of the same, which libmimalloc.so defines too.
size_t malloc_size(void* p) noexcept { return malloc_usable_size(p); }
void cfree(void* p) noexcept { free(p); }
void vfree(void* p) noexcept { free(p); }
void* _aligned_malloc(size_t alignment, size_t size) noexcept { return aligned(alignment, size); }
void* __libc_malloc(size_t size) noexcept { return malloc(size); }
void* __libc_calloc(size_t count, size_t size) noexcept { return zeroed(count, size); }
void* __libc_realloc(void* p, size_t size) noexcept { return resized(p, size); }
void __libc_free(void* p) noexcept { free(p); }
void __libc_cfree(void* p) noexcept { free(p); }
void* __libc_memalign(size_t alignment, size_t size) noexcept { return aligned(alignment, size); }
void* __libc_valloc(size_t size) noexcept { return valloc(size); }
void* __libc_pvalloc(size_t size) noexcept { return pvalloc(size); }
int __posix_memalign(void** result, size_t alignment, size_t size) noexcept {
  return posix_memalign(result, alignment, size);
}

// The target's link option asks for this name, so that a static link takes these functions though
// nothing refers to them; and it takes new_delete.cc, to which nothing may refer either.
extern const char weft_new_linked;
extern const char* const weft_malloc_linked;
const char* const weft_malloc_linked = &weft_new_linked;

}  // extern "C"
#pragma GCC visibility pop
