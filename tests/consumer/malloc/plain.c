// A C program whose allocator is weft::malloc: also for the libraries beside it, and C++'s
// operators, though it refers to none of them itself.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  static const char* const names[] = {"malloc",
                                      "free",
                                      "calloc",
                                      "realloc",
                                      "posix_memalign",
                                      "aligned_alloc",
                                      "_Znwm",
                                      "_ZdlPv",
                                      "_ZdlPvm",
                                      "_ZnwmSt11align_val_t",
                                      "malloc_usable_size"};
  // Static and shared builds of weft differ in where the functions are, but never are they here:
  static const char* const others[] = {"libmimalloc", "libc.so", "libstdc++"};
  int wrong = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    Dl_info info;
    void* function = dlsym(RTLD_DEFAULT, names[i]);
    if (function == NULL || dladdr(function, &info) == 0) {
      fprintf(stderr, "%s: nobody defines it\n", names[i]);
      ++wrong;
      continue;
    }
    for (size_t k = 0; k < sizeof others / sizeof *others; ++k) {
      if (strstr(info.dli_fname, others[k]) == NULL) continue;
      fprintf(stderr, "%s comes from %s\n", names[i], info.dli_fname);
      ++wrong;
    }
  }
  char* copy = strdup("text");
  free(copy);
  return wrong;
}
