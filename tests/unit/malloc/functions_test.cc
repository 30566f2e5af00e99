// The functions that weft::malloc replaces, called as programs call them, with nothing sampled,
// everything, and a mixture in which blocks move between the two kinds of memory.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <mimalloc.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "base/alloc_sampling.h"
#include "tests/unit/malloc/recorder.h"
#include "weft/malloc/sampled_store.h"

extern "C" {
void* pvalloc(size_t) noexcept;
void* reallocf(void*, size_t) noexcept;
int reallocarr(void*, size_t, size_t) noexcept;
}

namespace weft::heap {
namespace {

// Hides a value from the compiler, which otherwise removes pairs of new and delete.
template <class T>
T opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

class Functions : public testing::TestWithParam<int64_t> {
 protected:
  recorder record_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(AtRate, Functions, testing::Values(0, 1, 64, 4096));

void fill(void* p, size_t size, unsigned char with) { memset(p, with, size); }

bool filled(const void* p, size_t size, unsigned char with) {
  const auto* bytes = static_cast<const unsigned char*>(p);
  return std::all_of(bytes, bytes + size, [&](unsigned char b) { return b == with; });
}

const size_t sizes[] = {0,   1,    7,    8,    15,   16,     17,     100,     255,     256,
                        257, 1000, 4096, 8192, 8193, 40'000, 65'536, 100'000, 1 << 20, 5'000'000};

TEST_P(Functions, MallocGivesDistinctWritableAlignedMemory) {
  std::vector<std::pair<void*, size_t>> blocks;
  for (int round = 0; round < 3; ++round) {
    for (size_t size : sizes) {
      void* p = opaque(malloc(size));
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % (size < 16 ? 8 : 16), 0u) << size;
      EXPECT_GE(malloc_usable_size(p), size);
      fill(p, malloc_usable_size(p), static_cast<unsigned char>(blocks.size()));
      blocks.emplace_back(p, malloc_usable_size(p));
    }
  }
  for (size_t i = 0; i < blocks.size(); ++i)
    EXPECT_TRUE(filled(blocks[i].first, blocks[i].second, static_cast<unsigned char>(i)));
  for (auto [p, size] : blocks) free(p);
}

TEST_P(Functions, ItIsMimallocThatAnswers) {
  void* p = opaque(malloc(100));
  EXPECT_TRUE(is_sampled(p) || mi_check_owned(p));
  EXPECT_EQ(is_sampled(p), GetParam() == 1 || record_.live(p));
  free(p);
}

TEST_P(Functions, CallocIsZeroAlsoWhereOthersWrote) {
  for (int round = 0; round < 4; ++round) {
    for (size_t size : sizes) {
      void* p = opaque(calloc(size, 1));
      ASSERT_NE(p, nullptr);
      EXPECT_TRUE(filled(p, size, 0)) << size;
      fill(p, size, 0xab);
      free(p);
    }
  }
}

TEST_P(Functions, AlignmentIsKept) {
  for (size_t alignment = 8; alignment <= (1 << 20); alignment *= 2) {
    for (size_t size : {size_t{1}, alignment, size_t{3000}, 3 * alignment}) {
      void* p = nullptr;
      ASSERT_EQ(posix_memalign(&p, alignment, size), 0);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
      fill(p, size, 1);
      void* q = opaque(aligned_alloc(alignment, size));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(q) % alignment, 0u);
      fill(q, size, 2);
      void* r = opaque(memalign(alignment, size));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(r) % alignment, 0u);
      fill(r, size, 3);
      EXPECT_TRUE(filled(p, size, 1));
      EXPECT_TRUE(filled(q, size, 2));
      free(p);
      free(q);
      free(r);
    }
  }
  void* p = opaque(valloc(10));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
  free(p);
  p = opaque(pvalloc(4097));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
  EXPECT_GE(malloc_usable_size(p), 8192u);
  free(p);
}

TEST_P(Functions, ReallocKeepsTheBytes) {
  std::mt19937 random(1);
  std::uniform_int_distribution<size_t> small(1, 3000), large(1, 400'000);
  std::vector<std::pair<void*, size_t>> blocks(50, {nullptr, 0});
  for (int step = 0; step < 4000; ++step) {
    auto n = static_cast<size_t>(step) % blocks.size();
    auto& [p, size] = blocks[n];
    const auto mark = static_cast<unsigned char>(n + 1);
    const size_t next = random() % 8 == 0 ? large(random) : small(random);
    auto* q = static_cast<unsigned char*>(opaque(realloc(p, next)));
    ASSERT_NE(q, nullptr);
    ASSERT_TRUE(filled(q, std::min(size, next), mark)) << "from " << size << " to " << next;
    fill(q, next, mark);
    p = q;
    size = next;
  }
  for (auto& [p, size] : blocks) free(p);
}

TEST_P(Functions, ReallocOfNullIsMalloc) {
  void* p = opaque(realloc(nullptr, 100));
  ASSERT_NE(p, nullptr);
  fill(p, 100, 1);
  EXPECT_EQ(reallocarr(&p, 50, 4), 0);
  EXPECT_TRUE(filled(p, 100, 1));
  p = opaque(reallocarray(p, 3, 1000));
  EXPECT_TRUE(filled(p, 100, 1));
  p = opaque(reallocf(p, 10));
  EXPECT_TRUE(filled(p, 10, 1));
  free(p);
}

TEST_P(Functions, ImpossibleSizesFailAsTheStandardSays) {
  errno = 0;
  EXPECT_EQ(opaque(malloc(opaque(SIZE_MAX - 100))), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(opaque(calloc(opaque(SIZE_MAX / 2), 3)), nullptr);
  void* p = opaque(malloc(10));
  fill(p, 10, 7);
  EXPECT_EQ(opaque(realloc(opaque(p), opaque(SIZE_MAX - 100))), nullptr);
  EXPECT_EQ(opaque(reallocarray(opaque(p), opaque(SIZE_MAX / 2), 3)), nullptr);
  EXPECT_TRUE(filled(p, 10, 7));
  free(p);
  void* q = nullptr;
  EXPECT_EQ(posix_memalign(&q, 24, 10), EINVAL);
  EXPECT_EQ(posix_memalign(&q, 4, 10), EINVAL);
  EXPECT_EQ(posix_memalign(&q, 64, SIZE_MAX - 4096), ENOMEM);
  EXPECT_THROW(static_cast<void>(opaque(operator new(opaque(SIZE_MAX / 2)))), std::bad_alloc);
  EXPECT_EQ(opaque(operator new(opaque(SIZE_MAX / 2), std::nothrow)), nullptr);
  // A size that is a negative number must not push the next sample away.
  void* r = opaque(malloc(1000));
  EXPECT_EQ(is_sampled(r), record_.live(r));
  if (GetParam() == 1) {
    EXPECT_TRUE(is_sampled(r));
  }
  free(r);
}

TEST_P(Functions, FreeKeepsErrnoAndTakesNull) {
  for (size_t size : sizes) {
    void* p = opaque(malloc(size));
    errno = 77;
    free(p);
    EXPECT_EQ(errno, 77);
  }
  free(nullptr);
}

struct alignas(64) wide {
  char bytes[192];
};
struct alignas(4096) page {
  char bytes[4096];
};

TEST_P(Functions, EveryFormOfNewAndDelete) {
  delete opaque(new int(1));
  delete[] opaque(new int[100]);
  delete opaque(new (std::nothrow) int(1));
  delete[] opaque(new (std::nothrow) int[10]);
  auto* w = opaque(new wide);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(w) % 64, 0u);
  delete w;
  auto* many = opaque(new wide[3]);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(many) % 64, 0u);
  delete[] many;
  auto* p = opaque(new (std::nothrow) page);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
  delete p;
  delete[] opaque(new (std::nothrow) page[2]);
#if defined(__cpp_sized_deallocation)
  operator delete (opaque(operator new(100)), size_t{100});
  operator delete[](opaque(operator new[](100)), size_t{100});
  operator delete (opaque(operator new(100, std::align_val_t(128))), size_t{100},
                   std::align_val_t(128));
#endif
  operator delete(opaque(operator new(100, std::nothrow)), std::nothrow);
  operator delete[](opaque(operator new[](100, std::nothrow)), std::nothrow);
  operator delete(opaque(operator new(100, std::align_val_t(128), std::nothrow)),
                  std::align_val_t(128), std::nothrow);
  operator delete[](opaque(operator new[](100, std::align_val_t(128))), std::align_val_t(128));
#if defined(__cpp_sized_deallocation)
  operator delete[](opaque(operator new[](100, std::align_val_t(128))), size_t{100},
                    std::align_val_t(128));
#endif
  operator delete[](opaque(operator new[](100, std::align_val_t(128), std::nothrow)),
                    std::align_val_t(128), std::nothrow);
  EXPECT_EQ(record_.live_objects(), 0);
}

TEST_P(Functions, NewHandlerIsAsked) {
  static int calls;
  calls = 0;
  std::set_new_handler([] {
    if (++calls == 3) std::set_new_handler(nullptr);
  });
  EXPECT_THROW(static_cast<void>(opaque(operator new(opaque(SIZE_MAX / 2)))), std::bad_alloc);
  EXPECT_EQ(calls, 3);
}

TEST_P(Functions, LibcAllocatesThroughThem) {
  char* copy = opaque(strdup("text"));
  EXPECT_TRUE(is_sampled(copy) || mi_check_owned(copy));
  free(copy);
  char* line = nullptr;
  size_t room = 0;
  FILE* f = tmpfile();
  fputs(std::string(10'000, 'x').c_str(), f);
  rewind(f);
  EXPECT_EQ(getline(&line, &room, f), 10'000);
  fclose(f);
  EXPECT_TRUE(is_sampled(line) || mi_check_owned(line));
  free(line);
}

TEST_P(Functions, LibrariesThatComeLaterUseThemToo) {
  void* library = dlopen(WEFT_TEST_LATE_ALLOCATOR, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  auto* make = reinterpret_cast<void* (*)(size_t)>(dlsym(library, "late_new"));
  auto* take = reinterpret_cast<void (*)(void*)>(dlsym(library, "late_delete"));
  for (size_t size : sizes) {
    void* p = make(size);
    EXPECT_TRUE(is_sampled(p) || mi_check_owned(p));
    free(p);
    take(malloc(size));
    take(opaque(calloc(size, 2)));
  }
  dlclose(library);
}

}  // namespace
}  // namespace weft::heap
