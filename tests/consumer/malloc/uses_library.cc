// Blocks cross the border between program and library both ways: one allocator serves both, and it
// is the library's.
#include <dlfcn.h>
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

extern "C" char* library_text(size_t size);
extern "C" void library_free(void* block);
extern "C" size_t library_usable(void* block);

namespace {

bool comes_from_the_library(const char* name) {
  Dl_info info{};
  void* function = dlsym(RTLD_DEFAULT, name);
  if (function != nullptr && dladdr(function, &info) != 0 &&
      std::strstr(info.dli_fname, "libbrings_malloc") != nullptr)
    return true;
  std::fprintf(stderr, "%s comes from %s\n", name,
               info.dli_fname != nullptr ? info.dli_fname : "?");
  return false;
}

bool cross() {
  for (size_t size : {size_t{1}, size_t{100}, size_t{5000}, size_t{300'000}, size_t{2'000'000}}) {
    char* theirs = library_text(size);
    if (theirs == nullptr || std::strlen(theirs) != size) return false;
    if (malloc_usable_size(theirs) != library_usable(theirs)) return false;
    std::free(theirs);
    void* ours = std::malloc(size);
    if (library_usable(ours) < size || library_usable(ours) != malloc_usable_size(ours))
      return false;
    library_free(ours);
  }
  return true;
}

}  // namespace

int main() {
  bool right = true;
  for (const char* name :
       {"malloc", "free", "calloc", "realloc", "posix_memalign", "_Znwm", "_ZdlPv"})
    right = comes_from_the_library(name) && right;
  std::vector<std::thread> threads;
  std::vector<char> fine(4);
  for (size_t i = 0; i < fine.size(); ++i) {
    threads.emplace_back([&fine, i] {
      for (int n = 0; n < 50; ++n) fine[i] = cross() && (n == 0 || fine[i]);
    });
  }
  for (std::thread& t : threads) t.join();
  for (char f : fine) right = right && f;
  if (!right) std::fprintf(stderr, "a block did not cross\n");
  return right ? 0 : 1;
}
