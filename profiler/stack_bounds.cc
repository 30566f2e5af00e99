#include "profiler/stack_bounds.h"

#include <pthread.h>

namespace weft::prof {

stack_range unknown_thread_range() {
  pthread_attr_t attr;
  if (::pthread_getattr_np(::pthread_self(), &attr) != 0) return {0, 0};
  void* lo = nullptr;
  size_t size = 0;
  ::pthread_attr_getstack(&attr, &lo, &size);
  ::pthread_attr_destroy(&attr);
  auto base = reinterpret_cast<uintptr_t>(lo);
  return {base, base + size};
}

}  // namespace weft::prof
