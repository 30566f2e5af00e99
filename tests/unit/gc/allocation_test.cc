// Slots: sizes, alignment, zeroing, reuse, large objects, arrays.
#include <weft/gc/gc.h>
#include <weft/weft.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include <weft/gc/fields.h>
#include "gc/heap.h"
#include "gc/sweep.h"

#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

template <size_t N, size_t Align = 8>
struct alignas(Align) blob {
  WEFT_GC_FIELDS()
  std::byte bytes[N];
};

template <class T>
void lies_well() {
  T* p = gc::make<T>();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignof(T), 0u);
  gc::hit h;
  ASSERT_TRUE(gc::find(reinterpret_cast<uintptr_t>(p), h));
  EXPECT_EQ(h.object(), reinterpret_cast<uintptr_t>(p));
  EXPECT_GE(h.s->stride, sizeof(T));
  // From every byte of it, and from none outside.
  for (size_t i = 0; i < sizeof(T); i += 7) {
    ASSERT_TRUE(gc::find(reinterpret_cast<uintptr_t>(p) + i, h));
    EXPECT_EQ(h.object(), reinterpret_cast<uintptr_t>(p));
  }
}

TEST(Allocation, SlotsOfEverySize) {
  weft::run([] {
    lies_well<char>();
    lies_well<blob<24>>();
    lies_well<blob<40>>();
    lies_well<blob<48, 16>>();
    lies_well<blob<96, 32>>();
    lies_well<blob<192, 64>>();
    lies_well<blob<1000>>();
    lies_well<blob<4096, 4096>>();
    lies_well<blob<20'000>>();
    lies_well<blob<32'768>>();
    lies_well<blob<32'776>>();
    lies_well<blob<1'000'000>>();
  });
}

TEST(Allocation, ScannedObjectsAreZeroAgain) {
  weft::run([] {
    for (int round = 0; round < 5; ++round) {
      elsewhere([] {
        for (int i = 0; i < 20'000; ++i) {
          auto* n = gc::make<node>();
          ASSERT_EQ(n->next, nullptr);
          ASSERT_EQ(n->other, nullptr);
          n->value = -1;
          n->next = n;
        }
      });
      gc::collect();
    }
  });
}

TEST(Allocation, ObjectsDoNotOverlap) {
  weft::run([] {
    gc::root<gc::ref<node>> keep(gc::make_array<gc::ref<node>>(50'000));
    for (int i = 0; i < 50'000; ++i) {
      node* n = gc::make<node>();
      n->value = i;
      keep.get()[i] = n;
      if (i % 10'000 == 0) gc::collect();
    }
    for (int i = 0; i < 50'000; ++i) ASSERT_EQ(keep.get()[i]->value, i);
  });
}

TEST(Allocation, ArraysKnowTheirLength) {
  weft::run([] {
    for (size_t n : {0ul, 1ul, 2ul, 15ul, 100ul, 4000ul, 100'000ul}) {
      int* a = gc::make_array<int>(n);
      EXPECT_EQ(gc::array_size(a), n);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(a[i], 0);
      gc::hit h, end;
      ASSERT_TRUE(gc::find(reinterpret_cast<uintptr_t>(a), h));
      // The end belongs to the array.
      ASSERT_TRUE(gc::find(reinterpret_cast<uintptr_t>(a + n), end));
      EXPECT_EQ(h.object(), end.object());
    }
    struct alignas(64) wide {
      char c[64];
    };
    for (size_t n : {1ul, 3ul, 77ul, 1000ul})
      EXPECT_EQ(reinterpret_cast<uintptr_t>(gc::make_array<wide>(n)) % 64, 0u);
  });
}

TEST(Allocation, ImpossibleSizesThrow) {
  weft::run([] {
    EXPECT_THROW(gc::make_array<int64_t>(SIZE_MAX / 8), std::bad_alloc);
    EXPECT_THROW(gc::make_array<int64_t>(SIZE_MAX / 4), std::bad_alloc);
    EXPECT_THROW(gc::make_array<char>(size_t{1} << 45), std::bad_alloc);
    EXPECT_NE(gc::make<int>(), nullptr);
  });
}

struct refuses {
  WEFT_GC_FIELDS(n)
  refuses() { throw 5; }
  gc::ref<node> n;
};

TEST(Allocation, ThrowingConstructorsLeaveNothing) {
  weft::run([] {
    for (int i = 0; i < 1000; ++i) EXPECT_THROW(gc::make<refuses>(), int);
    gc::collect();
  });
}

TEST(Allocation, MemoryIsUsedAgain) {
  weft::run([] {
    for (int i = 0; i < 50; ++i) {
      elsewhere([] {
        for (int k = 0; k < 10; ++k) gc::make_array<char>(1 << 20)[5] = 1;
      });
      gc::collect();
    }
    EXPECT_LT(gc::stats().heap_in_use_bytes + gc::stats().heap_free_bytes, size_t{64} << 20);
  });
}

TEST(Allocation, ForeignThreadsAllocateToo) {
  weft::run([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([] {
        node* list = nullptr;
        for (int i = 0; i < 20'000; ++i) {
          node* n = gc::make<node>();
          n->value = i;
          n->next = list;
          list = n;
        }
        for (int i = 19'999; i >= 0; --i, list = list->next) ASSERT_EQ(list->value, i);
      });
    }
    for (int i = 0; i < 5; ++i) gc::collect();
    for (auto& t : threads) blocking([&] { t.join(); });
  });
}

TEST(Allocation, CountersAgree) {
  weft::run([] {
    gc::collect();
    const auto before = gc::stats();
    elsewhere([] {
      for (int i = 0; i < 1000; ++i) gc::make<node>();
    });
    gc::collect();
    const auto after = gc::stats();
    EXPECT_GE(after.allocated_objects - before.allocated_objects, 1000u);
    EXPECT_LT(after.allocated_objects - before.allocated_objects, 1100u);
    EXPECT_EQ(after.allocated_bytes - before.allocated_bytes,
              (after.allocated_objects - before.allocated_objects) * 24);
    EXPECT_GE(after.freed_objects - before.freed_objects, 990u);
    EXPECT_EQ(after.forced_cycles, before.forced_cycles + 1);
  });
}

}  // namespace
}  // namespace weft::test
