#pragma once
#include <pthread.h>

#include <cstddef>
#include <cstdint>

#include "profiler/unwind.h"

namespace weft::prof::test {

// Of the calling thread, as the system made it.
inline stack_range own_stack() {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* base = nullptr;
  size_t size = 0;
  pthread_attr_getstack(&attributes, &base, &size);
  pthread_attr_destroy(&attributes);
  const auto low = reinterpret_cast<uintptr_t>(base);
  return {low, low + size};
}

}  // namespace weft::prof::test
