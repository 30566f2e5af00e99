// What keeps an object alive, place by place, and that nothing else does.
#include <weft/gc/gc.h>
#include <weft/weft.h>

#include <cstring>
#include <thread>

#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

TEST(Reachability, GarbageIsFound) {
  weft::run([] {
    std::vector<hidden> all;
    elsewhere([&] {
      for (int i = 0; i < 1000; ++i) all.emplace_back(gc::make<node>());
    });
    EXPECT_LE(survivors(all), 2u);
  });
}

TEST(Reachability, CyclesAreGarbageToo) {
  weft::run([] {
    std::vector<hidden> all;
    elsewhere([&] {
      for (int i = 0; i < 1000; ++i) {
        node* a = gc::make<node>();
        node* b = gc::make<node>();
        a->next = b;
        b->next = a;
        all.emplace_back(a);
        all.emplace_back(b);
      }
    });
    EXPECT_LE(survivors(all), 4u);
  });
}

TEST(Reachability, ALocalOfARunningTask) {
  weft::run([] {
    node* n = gc::make<node>();
    n->next = gc::make<node>();
    n->next->value = 7;
    for (int i = 0; i < 3; ++i) {
      gc::collect();
      elsewhere([] {
        for (int k = 0; k < 10'000; ++k) gc::make<node>()->value = -1;
      });
    }
    EXPECT_EQ(n->next->value, 7);
  });
}

TEST(Reachability, ALocalOfAParkedTask) {
  weft::run([] {
    chan<int> go_on(0);
    std::vector<join_handle<int64_t>> tasks;
    for (int i = 0; i < 100; ++i) {
      tasks.push_back(spawn([&go_on, i] {
        node* n = gc::make<node>();
        n->value = i;
        go_on.recv();
        return n->value;
      }));
    }
    this_task::yield();
    gc::collect();
    elsewhere([] {
      for (int k = 0; k < 10'000; ++k) gc::make<node>()->value = -1;
    });
    go_on.close();
    for (int i = 0; i < 100; ++i) EXPECT_EQ(tasks[static_cast<size_t>(i)].join(), i);
  });
}

TEST(Reachability, TheClosureOfATaskThatHasNotBegun) {
  weft::run(options{.max_procs = 1}, [] {
    std::vector<join_handle<int64_t>> tasks;
    for (int i = 0; i < 20; ++i) {
      node* n = gc::make<node>();
      n->value = i;
      struct {
        int64_t padding[10];
      } wide{};
      if (i % 2 == 0)
        tasks.push_back(spawn([n] { return n->value; }));
      else
        tasks.push_back(spawn([n, wide] { return n->value + wide.padding[3]; }));
    }
    gc::collect();
    elsewhere([] {
      for (int k = 0; k < 10'000; ++k) gc::make<node>()->value = -1;
    });
    for (int i = 0; i < 20; ++i) EXPECT_EQ(tasks[static_cast<size_t>(i)].join(), i);
  });
}

TEST(Reachability, PointersToTheMiddle) {
  weft::run([] {
    char* middle = nullptr;
    int64_t* end = nullptr;
    hidden array, other;
    elsewhere([&] {
      auto* a = gc::make_array<char>(100'000);
      a[60'000] = 'x';
      middle = a + 60'000;
      array = hidden(a);
      auto* b = gc::make_array<int64_t>(10);
      end = b + 10;
      other = hidden(b);
    });
    gc::collect();
    EXPECT_TRUE(array.alive());
    EXPECT_TRUE(other.alive());
    EXPECT_EQ(*middle, 'x');
    gc::keep(end);
  });
}

gc::global<node> the_global;

TEST(Reachability, RootsAndGlobals) {
  weft::run([] {
    auto* outside = new gc::root<node>;  // ordinary memory
    hidden a, b;
    elsewhere([&] {
      *outside = gc::make<node>();
      (*outside)->next = gc::make<node>();
      a = hidden((*outside)->next.get());
      the_global = gc::make<node>();
      b = hidden(the_global.get());
    });
    gc::collect();
    EXPECT_TRUE(a.alive());
    EXPECT_TRUE(b.alive());
    elsewhere([&] {
      gc::root<node> copy = *outside;
      delete outside;
      gc::collect();
      EXPECT_TRUE(a.alive());
      copy.reset();
      the_global = nullptr;
    });
    gc::collect();
    EXPECT_FALSE(a.alive());
    EXPECT_FALSE(b.alive());
  });
}

TEST(Reachability, TracedMemory) {
  weft::run([] {
    void** words = nullptr;
    hidden n;
    elsewhere([&] {
      words = static_cast<void**>(gc::detail::allocate_traced(800));
      words[99] = gc::make<node>();
      n = hidden(words[99]);
    });
    gc::collect();
    EXPECT_TRUE(n.alive());
    elsewhere([&] {
      gc::detail::free_traced(words);
      words = nullptr;
    });
    gc::collect();
    EXPECT_FALSE(n.alive());
  });
}

TEST(Reachability, ALongList) {
  weft::run([] {
    gc::root<node> head;
#if WEFT_ASAN || WEFT_TSAN
    constexpr int length = 1'000'000;
#else
    constexpr int length = 10'000'000;
#endif
    elsewhere([&] {
      node* list = nullptr;
      for (int i = 0; i < length; ++i) {
        node* n = gc::make<node>();
        n->value = i;
        n->next = list;
        list = n;
      }
      head = list;
    });
    gc::collect();
    int64_t i = length;
    for (node* n = head.get(); n != nullptr; n = n->next) ASSERT_EQ(n->value, --i);
    EXPECT_EQ(i, 0);
  });
}

TEST(Reachability, LargeArraysOfReferences) {
  weft::run([] {
    auto* big = gc::make_array<gc::ref<node>>(1'000'000);
    for (size_t i = 0; i < 1'000'000; i += 1000) {
      big[i] = gc::make<node>();
      big[i]->value = static_cast<int64_t>(i);
    }
    gc::collect();
    elsewhere([] {
      for (int k = 0; k < 10'000; ++k) gc::make<node>()->value = -1;
    });
    for (size_t i = 0; i < 1'000'000; i += 1000) ASSERT_EQ(big[i]->value, static_cast<int64_t>(i));
  });
}

TEST(Reachability, AcrossExceptions) {
  weft::run([] {
    node* n = gc::make<node>();
    n->value = 3;
    for (int i = 0; i < 20; ++i) {
      try {
        node* inner = gc::make<node>();
        inner->next = n;
        if (i % 2 == 0) gc::collect();
        throw i;
      } catch (int caught) {
        EXPECT_EQ(caught, i);
        gc::collect();
      }
    }
    EXPECT_EQ(n->value, 3);
  });
}

TEST(Reachability, ArgumentsOfABlockingCall) {
  weft::run([] {
    hidden where;
    auto hold = spawn([&] {
      node* n = gc::make<node>();
      n->value = 11;
      where = hidden(n);
      blocking([] { ::usleep(100'000); });
      return n->value;
    });
    ::usleep(20'000);
    gc::collect();
    EXPECT_TRUE(where.alive());
    EXPECT_EQ(hold.join(), 11);
  });
}

TEST(Reachability, ForeignThreadsAsleepInThePrimitive) {
  weft::run([] {
    chan<int> go_on(0);
    std::atomic<int> ready{0};
    int64_t seen = 0;
    std::thread t([&] {
      node* n = gc::make<node>();
      n->value = 5;
      ready = 1;
      go_on.recv();
      seen = n->value;
    });
    while (ready == 0) this_task::yield();
    for (int i = 0; i < 3; ++i) gc::collect();
    elsewhere([] {
      for (int k = 0; k < 10'000; ++k) gc::make<node>()->value = -1;
    });
    go_on.close();
    blocking([&] { t.join(); });
    EXPECT_EQ(seen, 5);
  });
}

}  // namespace
}  // namespace weft::test
