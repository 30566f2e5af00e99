#pragma once
// See backtrace_sort.cc. Declared so that the symbolizer can refer to it, which makes the linker
// take this definition out of weft's archive before it comes to libbacktrace's.
#include <cstddef>
#include <cstdint>

extern "C" void backtrace_qsort(void* base, size_t count, size_t size,
                                int (*compare)(const void*, const void*));
