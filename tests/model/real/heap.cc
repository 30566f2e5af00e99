// The collected heap's part in a world without one: channels of references are not explored, but
// the channels' code names these.
#include <weft/gc/detail/heap.h>

#include <cstdlib>
#include <new>

namespace weft::gc::detail {

std::atomic<uint32_t> marking{0};
void shade(const void*) noexcept {}

void* allocate_traced(size_t bytes) {
  void* p = std::calloc(1, bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void free_traced(void* p) noexcept { std::free(p); }

}  // namespace weft::gc::detail
