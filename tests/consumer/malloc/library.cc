// A shared library that brings weft::malloc into a program that knows nothing of it.
#include <malloc.h>

#include <cstdlib>
#include <string>

extern "C" char* library_text(size_t size);
extern "C" void library_free(void* block);
extern "C" size_t library_usable(void* block);

// To be freed by who calls.
extern "C" char* library_text(size_t size) {
  const std::string text(size, 'x');
  auto* copy = static_cast<char*>(std::malloc(size + 1));
  if (copy != nullptr) text.copy(copy, size);
  if (copy != nullptr) copy[size] = 0;
  return copy;
}
extern "C" void library_free(void* block) { std::free(block); }
extern "C" size_t library_usable(void* block) { return malloc_usable_size(block); }
