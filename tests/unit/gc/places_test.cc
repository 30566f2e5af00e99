// References where the collector does not look: a debug build ends with the type and the offset as
// soon as one is made or stored to.
#include <weft/chan.h>
#include <weft/gc/func.h>
#include <weft/gc/gc.h>
#include <weft/gc/map.h>
#include <weft/gc/string.h>
#include <weft/gc/vector.h>
#include <weft/gc/weak.h>
#include <weft/weft.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gc/places.h"
#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

#ifdef NDEBUG
#define WEFT_DEBUG_ONLY() GTEST_SKIP() << "references are looked at in debug builds"
#else
#define WEFT_DEBUG_ONLY() static_cast<void>(0)
#endif

struct forgetful {
  WEFT_GC_FIELDS(listed)
  gc::ref<node> listed;
  int64_t number = 0;
  gc::ref<node> missing;
};

struct part {
  gc::ref<node> visited;
  gc::ref<node> skipped;
  template <class V>
  void trace(V& v) {
    v(visited);
  }
};

struct shared {
  WEFT_GC_FIELDS(number)
  int64_t number = 0;
  gc::atomic_ref<node> current;
};

struct in_malloc {
  int64_t number = 0;
  gc::ref<node> r;
};

struct thrown : std::runtime_error {
  explicit thrown(node* n) : std::runtime_error("with a node"), where(n) {}
  gc::ref<node> where;
};

gc::ref<node> g_static;

template <class F>
void dies(F f, const char* message) {
  EXPECT_EXIT(weft::run(f), testing::ExitedWithCode(2), message);
}

TEST(Places, UndeclaredFieldsAreNamedAtTheFirstConstruction) {
  WEFT_DEBUG_ONLY();
  dies([] { gc::make<forgetful>(); },
       "forgetful at offset 16 is a gc::ref<weft::test::node> that its class does not declare");
  dies([] { gc::make<part>(); }, "part at offset 8 is a gc::ref");
}

TEST(Places, UndeclaredFieldsOfArrayElements) {
  WEFT_DEBUG_ONLY();
  dies([] { gc::make_array<forgetful>(5); }, "forgetful at offset 16");
  dies(
      [] {
        struct holder {
          gc::vector<part> parts;
        };
        gc::make<holder>()->parts.emplace_back();
      },
      "part at offset 8");
}

TEST(Places, AtomicReferencesAreSeenWhenTheyAreStoredTo) {
  WEFT_DEBUG_ONLY();
  dies([] { gc::make<shared>()->current = gc::make<node>(); }, "shared at offset 8 is a gc::ref");
}

TEST(Places, MemoryOfMalloc) {
  WEFT_DEBUG_ONLY();
  constexpr const char* says =
      "gc::ref<weft::test::node> at 0x[0-9a-f]+ lies in memory that the collector does not trace.*"
      "gc::root<T>";
  dies(
      [] {
        gc::make<node>();
        std::make_unique<in_malloc>();
      },
      says);
  dies(
      [] {
        std::vector<in_malloc> v;
        v.push_back({1, gc::make<node>()});
      },
      says);
  dies(
      [] {
        gc::ref<node> held = gc::make<node>();
        const std::function<int64_t()> f = [held, room = std::array<char, 64>{}] {
          return held->value + room[0];
        };
        f();
      },
      says);
}

TEST(Places, StaticVariables) {
  WEFT_DEBUG_ONLY();
  dies([] { g_static = gc::make<node>(); }, "static or thread-local variable.*gc::global<T>");
}

TEST(Places, Exceptions) {
  WEFT_DEBUG_ONLY();
  dies(
      [] {
        try {
          throw thrown(gc::make<node>());
        } catch (const thrown&) {
        }
      },
      "does not trace.* or an exception");
}

TEST(Places, CanBeLeftUnwatched) {
  EXPECT_EXIT(
      {
        setenv("WEFT_GC", "places=0", 1);
        weft::run([] { gc::make<forgetful>(); });
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
}

// Everything that is allowed, while all of it is looked at.
TEST(Places, WhereReferencesMayLie) {
  run([] {
    struct all {
      std::optional<gc::ref<node>> maybe;
      std::array<gc::ref<node>, 3> several;
      gc::vector<gc::ref<node>> list;
      gc::map<gc::string, gc::ref<node>> table;
      gc::weak<node> weak;
      gc::func<int64_t()> call;
    };
    auto* a = gc::make<all>();
    node* n = gc::make<node>();
    n->value = 1;
    a->maybe = n;
    a->several[2] = n;
    for (int i = 0; i < 100; ++i) a->list.push_back(n);
    a->table["name"] = n;
    a->weak = n;
    const gc::ref<node> captured =
        n;  // in closures small, larger and too large for a task's record
    a->call = [captured] { return captured->value; };
    int64_t sum = a->call();
    auto with = [&]<size_t N>(std::array<char, N> room) {
      return spawn([captured, room]() mutable {
               this_task::yield();
               gc::ref<node> own = captured;
               return own->value + room[0];
             })
          .join();
    };
    sum +=
        with(std::array<char, 8>{}) + with(std::array<char, 48>{}) + with(std::array<char, 5000>{});
    gc::ref<node> from_others;
    spawn([&] { from_others = captured; }).join();
    spawn([&] { std::optional<gc::ref<node>>(from_others).value() = nullptr; }).join();
    chan<gc::ref<node>> buffered(2), direct(0);
    buffered.send(captured);
    auto receiver = spawn([&] { return (*direct.recv())->value; });
    direct.send(*buffered.recv());
    sum += receiver.join() + from_others->value;
    EXPECT_EQ(sum, 6);
  });
}

// std::allocator<ref<T>> gives memory that is scanned.
TEST(Places, StdVectorsOfReferencesAreRoots) {
  run([] {
    auto kept = std::make_unique<std::vector<gc::ref<node>>>();
    std::vector<hidden> nodes;
    elsewhere([&] {
      std::deque<gc::ref<node>> queue;
      for (int i = 0; i < 1000; ++i) {
        node* n = gc::make<node>();
        n->value = i;
        nodes.emplace_back(n);
        queue.push_back(n);
      }
      kept->assign(queue.begin(), queue.end());
    });
    EXPECT_EQ(survivors(nodes), nodes.size());
    elsewhere([&] {
      for (size_t i = 0; i < kept->size(); ++i)
        EXPECT_EQ((*kept)[i]->value, static_cast<int64_t>(i));
      kept.reset();
    });
    EXPECT_LE(survivors(nodes), 2u);
  });
}

TEST(Places, ThreadsThatTheRuntimeDoesNotKnowHaveStacks) {
  run([] {
    gc::root<node> n(gc::make<node>());
    std::thread([&] {
      gc::ref<node> r = n.get();
      r = gc::make<node>();
      EXPECT_NE(r, nullptr);
    }).join();
  });
}

// In every build: what is made while marking is on is looked at, and counted.
TEST(Places, UntracedReferencesAreCountedWhileMarking) {
  EXPECT_EXIT(
      {
        setenv("WEFT_GC", "places=0", 1);
        setenv("WEFT_GC_STRESS", "concurrent-always,yield-mark", 1);
        weft::run([] {
          gc::root<node> list(gc::make<node>());
          for (int i = 0; i < 10'000; ++i) {
            node* n = gc::make<node>();
            n->next = list->next;
            list->next = n;
          }
          while (gc::untraced_references() == 0) {
            delete new gc::ref<node>(list.get());
            gc::make<node>();  // or no cycle begins
            this_task::yield();
          }
        });
        std::exit(0);
      },
      testing::ExitedWithCode(0), "lies in memory that the collector does not trace");
}

}  // namespace
}  // namespace weft::test
