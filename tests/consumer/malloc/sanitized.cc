// A program that is compiled with AddressSanitizer and links weft::malloc all the same: its
// allocations must be the sanitizer's. With an argument it reads a block that it has freed.
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

struct alignas(64) wide {
  char bytes[100];
};

int main(int argc, char**) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      std::vector<std::string> texts;
      for (size_t i = 0; i < 1000; ++i) {
        texts.push_back(std::string(i, 'x'));
        delete new wide;
        delete[] new int[i + 1];
        void* p = std::calloc(3, i);
        p = std::realloc(p, 2 * i + 1);
        std::free(p);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  char* p = static_cast<char*>(std::malloc(100));
  const bool exact = malloc_usable_size(p) == 100;  // mimalloc's would be 112
  std::free(p);
  if (!exact) std::fputs("the allocation was not the sanitizer's\n", stderr);
  return argc > 1 ? p[3] : exact ? 0 : 1;
}
