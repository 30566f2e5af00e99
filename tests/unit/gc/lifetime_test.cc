// Destructors, cleanups and weak references.
#include <weft/chan.h>
#include <weft/gc/func.h>
#include <weft/gc/lifetime.h>
#include <weft/gc/weak.h>
#include <weft/gc/weak_map.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "gc/roots.h"
#include "tests/conformance/world.h"
#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

std::atomic<int> g_deaths{0};

struct counted {
  counted() = default;
  explicit counted(bool throws) {
    if (throws) throw std::runtime_error("no");
  }
  ~counted() {
    had_reference = had_reference || peer.get() != nullptr;
    g_deaths.fetch_add(1);
  }
  template <class V>
  void trace(V& v) {
    v(peer);
  }
  gc::ref<counted> peer;
  static inline std::atomic<bool> had_reference{false};
};

chan<int> g_entered(0), g_leave(0);
struct slow {
  ~slow() {
    g_entered.send(1);
    g_leave.recv();
    canary_at_death = canary;
  }
  int canary = 0x5afe;
  static inline std::atomic<int> canary_at_death{0};
};

std::atomic<bool> g_stuck{false};
struct stuck {
  ~stuck() {
    g_stuck = true;
    g_leave.recv();
  }
  // A size of its own: no stale word of another test refers to its place.
  std::array<int64_t, 40> unused{};
};

struct failing {
  counted part;
  failing() { throw std::runtime_error("no"); }
  template <class V>
  void trace(V& v) {
    v(part);
  }
};

std::atomic<int> g_saw{0};
struct watcher;
gc::global<gc::weak<watcher>> g_watched;
struct watcher {
  ~watcher() { g_saw = g_watched->lock() == nullptr ? 1 : 2; }
  int unused = 0;
};

// A chain of owners: each destructor lets go of the next object.
struct owner {
  ~owner() { g_deaths.fetch_add(1); }
  template <class V>
  void trace(V&) {}
  gc::root<owner> next;
};

struct cell {
  gc::weak<node> weak;
  gc::ref<node> strong;
};

TEST(Reapers, RunTheDestructorOfADeadObjectOnce) {
  run([] {
    g_deaths = 0;
    elsewhere([] {
      for (int i = 0; i < 1000; ++i) gc::make<counted>()->peer = gc::make<counted>();
    });
    gc::collect();
    EXPECT_TRUE(eventually([] { return g_deaths >= 1990; }));
    gc::collect();
    gc::collect();
    EXPECT_LE(g_deaths, 2000);
    EXPECT_FALSE(counted::had_reference);
  });
}

// What a closure has captured: references, and things whose destructors must find them null; a
// short string points into the closure itself, and the storage of a std::vector of references is
// its own.
struct captured {
  explicit captured(node* n) : where(n), raw(n), several{n, n}, name("short") {}
  captured(const captured&) = default;
  ~captured() {
    if (where == nullptr && raw == nullptr && several.size() == 2 && name == "short")
      as_it_should.fetch_add(1);
    g_deaths.fetch_add(1);
  }
  gc::ref<node> where;
  node* raw;
  std::vector<gc::ref<node>> several;
  std::string name;
  static inline std::atomic<int> as_it_should{0};
};

TEST(Reapers, ClosuresHaveTheirReferencesNulled) {
  run([] {
    elsewhere([] {
      for (int i = 0; i < 100; ++i) {
        captured c(gc::make<node>());
        auto* f = gc::make<gc::func<int64_t()>>([c] { return c.where->value; });
        EXPECT_EQ((*f)(), 0);
      }
      // Those on this stack had references.
      g_deaths = 0;
      captured::as_it_should = 0;
    });
    gc::collect();
    EXPECT_TRUE(eventually([] { return g_deaths >= 90 && gc::reapers().waiting == 0; }));
    EXPECT_EQ(captured::as_it_should, g_deaths);
  });
}

TEST(Reapers, KeepTheSlotUntilTheDestructorHasReturned) {
  run([] {
    hidden h;
    elsewhere([&] { h = hidden(gc::make<slow>()); });
    gc::collect();
    g_entered.recv();
    for (int i = 0; i < 3; ++i) {
      gc::collect();
      EXPECT_TRUE(h.alive());
    }
    g_leave.send(1);
    EXPECT_TRUE(eventually([] { return gc::reapers().waiting == 0; }));
    EXPECT_EQ(slow::canary_at_death, 0x5afe);
    gc::collect();
    EXPECT_FALSE(h.alive());
  });
}

TEST(Reapers, OneThatIsStuckDoesNotHoldUpTheOthers) {
  run([] {
    elsewhere([] { gc::make<stuck>(); });
    // More than one, because the task may still be on its way off its stack when the first begins.
    EXPECT_TRUE(eventually([] {
      gc::collect();
      return g_stuck.load();
    }));
    g_deaths = 0;
    elsewhere([] {
      for (int i = 0; i < 10; ++i) gc::make<counted>();
    });
    EXPECT_TRUE(eventually([] {
      gc::collect();
      return g_deaths >= 9;
    }));
    g_leave.send(1);
    EXPECT_TRUE(eventually([] { return gc::reapers().waiting == 0; }));
  });
}

TEST(Reapers, AConstructorThatThrowsLeavesNothingToDestroy) {
  run([] {
    gc::shutdown();  // what other tests have left
    g_deaths = 0;
    elsewhere([] { EXPECT_THROW(gc::make<failing>(), std::runtime_error); });
    EXPECT_EQ(g_deaths, 1);  // the member's, as in any C++
    gc::shutdown();
    EXPECT_EQ(g_deaths, 1);
  });
}

TEST(Destroy, RunsAtOnceAndNotAgain) {
  run([] {
    g_deaths = 0;
    counted* c = gc::make<counted>();
    gc::weak<counted> w(c);
    EXPECT_EQ(w.lock(), c);
    EXPECT_TRUE(gc::destroy(c));
    EXPECT_EQ(g_deaths, 1);
    EXPECT_EQ(w.lock(), nullptr);
    EXPECT_FALSE(gc::destroy(c));
    EXPECT_FALSE(gc::destroy(gc::make<node>()));
    EXPECT_FALSE(gc::destroy(static_cast<node*>(nullptr)));
    gc::shutdown();
    EXPECT_EQ(g_deaths, 1);
  });
}

TEST(Destroy, TakesAllElementsOfAnArray) {
  run([] {
    g_deaths = 0;
    counted* all = gc::make_array<counted>(5);
    EXPECT_TRUE(gc::destroy(all + 2));
    EXPECT_EQ(g_deaths, 5);
  });
}

TEST(Cleanup, RunsWithItsArgumentsAfterTheObjectIsGone) {
  run([] {
    static std::atomic<int64_t> seen{0};
    static std::atomic<bool> was_alive{false};
    seen = 0;
    hidden h;
    elsewhere([&] {
      node* n = gc::make<node>();
      node* argument = gc::make<node>();
      argument->value = 42;
      h = hidden(n);
      gc::cleanup(
          n,
          [](node* a, hidden gone) {
            was_alive = gone.alive();
            seen = a->value;
          },
          argument, h);
    });
    gc::collect();
    EXPECT_TRUE(eventually([] {
      gc::collect();
      return seen == 42;
    }));
    EXPECT_FALSE(was_alive);
  });
}

TEST(Cleanup, WaitsForTheDestructor) {
  run([] {
    static std::atomic<int> deaths_at_cleanup{-1};
    g_deaths = 0;
    elsewhere([] {
      counted* c = gc::make<counted>();
      gc::cleanup(c, [] { deaths_at_cleanup = g_deaths.load(); });
    });
    EXPECT_TRUE(eventually([] {
      gc::collect();
      return deaths_at_cleanup != -1;
    }));
    EXPECT_EQ(deaths_at_cleanup, 1);
  });
}

TEST(Cleanup, RefusesWhatCannotWork) {
  run([] {
    node* n = gc::make<node>();
    int local = 0;
    EXPECT_THROW(gc::cleanup(&local, [] {}), std::invalid_argument);
    EXPECT_THROW(gc::cleanup(
                     n, [](node*) {}, n),
                 std::invalid_argument);
  });
}

TEST(Weak, IsNullWhenTheTargetHasDied) {
  run([] {
    auto* holder = gc::make_array<gc::weak<node>>(100);
    auto* kept = gc::make_array<gc::ref<node>>(50);
    elsewhere([&] {
      for (int i = 0; i < 100; ++i) {
        node* n = gc::make<node>();
        n->value = i;
        holder[i] = n;
        if (i < 50) kept[i] = n;
      }
    });
    gc::collect();
    int alive = 0;
    for (int i = 0; i < 50; ++i) {
      ASSERT_NE(holder[i].lock(), nullptr);
      EXPECT_EQ(holder[i].lock()->value, i);
    }
    for (int i = 50; i < 100; ++i) alive += !holder[i].expired();
    EXPECT_LE(alive, 1);  // a stale word may hold one
    gc::keep(holder);
    gc::keep(kept);
  });
}

TEST(Weak, IsNullBeforeTheDestructorRuns) {
  run([] {
    g_saw = 0;
    g_watched = gc::make_array<gc::weak<watcher>>(1);
    elsewhere([] { *g_watched = gc::make<watcher>(); });
    EXPECT_TRUE(eventually([] {
      gc::collect();
      return g_saw != 0;
    }));
    EXPECT_EQ(g_saw, 1);
  });
}

TEST(Weak, ComparesByTargetAndSeesTheMiddleOfObjects) {
  run([] {
    node* n = gc::make<node>();
    gc::weak<node> a(n), b(n);
    gc::weak<int64_t> inner(&n->value);
    EXPECT_TRUE(a == b);
    EXPECT_EQ(inner.lock(), &n->value);
    a.reset();
    EXPECT_EQ(a.lock(), nullptr);
    EXPECT_FALSE(a == b);
    int local;
    EXPECT_THROW(gc::weak<int>{&local}, std::invalid_argument);
  });
}

// Whatever lock() gives out must be whole, while cycles begin and end all the time.
TEST(Weak, LockingAgainstTheCollector) {
  run([] {
    constexpr int slots = 64;
    const uint64_t last_cycle = gc::stats().cycles + 60;
    auto* all = gc::make_array<cell>(slots);
    std::atomic<bool> stop{false};
    auto collector = spawn([&] {
      while (!stop) gc::collect();
    });
    std::vector<join_handle<void>> workers;
    for (int k = 0; k < 2; ++k) {
      workers.push_back(spawn([&, k] {
        uint32_t x = 12345u + static_cast<uint32_t>(k);
        for (int i = 0; gc::stats().cycles < last_cycle; ++i) {
          x = x * 1664525u + 1013904223u;
          // Each worker has its own half: plain refs have one writer.
          cell& s = all[k * slots / 2 + static_cast<int>(x >> 16) % (slots / 2)];
          if (node* n = s.weak.lock()) {
            ASSERT_EQ(n->value, 77);
            ASSERT_EQ(n->next->value, 78);
            if ((x & 3) == 0) s.strong = n;
            if ((x & 3) == 1) s.strong = nullptr;
          } else {
            node* fresh = gc::make<node>();
            fresh->value = 77;
            fresh->next = gc::make<node>();
            fresh->next->value = 78;
            s.weak = fresh;
          }
          if (i % 64 == 0) this_task::yield();
        }
      }));
    }
    for (auto& w : workers) w.join();
    stop = true;
    collector.join();
    gc::keep(all);
  });
}

TEST(WeakMap, KeepsValuesAsLongAsTheirKeys) {
  run([] {
    gc::weak_map<node, node> map;
    auto* keys = gc::make_array<gc::ref<node>>(100);
    std::vector<hidden> values;
    elsewhere([&] {
      for (int i = 0; i < 100; ++i) {
        keys[i] = gc::make<node>();
        node* v = gc::make<node>();
        v->value = i;
        v->next = keys[i];  // its own key, which does not keep the two alive
        values.emplace_back(v);
        map.set(keys[i], v);
      }
    });
    EXPECT_EQ(survivors(values), 100u);
    EXPECT_EQ(map.size(), 100u);
    elsewhere([&] {
      for (int i = 0; i < 100; ++i) EXPECT_EQ(map.get(keys[i])->value, i);
      for (int i = 50; i < 100; ++i) keys[i] = nullptr;
    });
    EXPECT_LE(survivors(values), 51u);  // a stale word may hold one
    EXPECT_LE(map.size(), 51u);
    EXPECT_EQ(map.get(keys[49])->value, 49);
    elsewhere([&] {
      for (int i = 0; i < 50; ++i) EXPECT_TRUE(map.erase(keys[i]));
      EXPECT_FALSE(map.erase(keys[0]));
    });
    EXPECT_LE(survivors(values), 1u);
    gc::keep(keys);
  });
}

TEST(WeakMap, FollowsChainsOfKeysInValues) {
  run([] {
    gc::weak_map<node, node> map;
    constexpr int length = 200;
    std::vector<hidden> all;
    node* first = gc::make<node>();
    elsewhere([&] {
      node* key = first;
      for (int i = 0; i < length; ++i) {
        node* value = gc::make<node>();
        value->next = gc::make<node>();  // the next key
        all.emplace_back(value);
        map.set(key, value);
        key = value->next;
      }
    });
    EXPECT_EQ(survivors(all), static_cast<size_t>(length));
    gc::keep(first);
  });
}

TEST(WeakMap, EndsWithTheMap) {
  run([] {
    std::vector<hidden> values;
    node* key = gc::make<node>();
    elsewhere([&] {
      gc::weak_map<node, node> map;
      node* v = gc::make<node>();
      values.emplace_back(v);
      map.set(key, v);
    });
    EXPECT_EQ(survivors(values), 0u);
    gc::weak_map<node, node> map;
    EXPECT_EQ(map.get(key), nullptr);
    node local;
    EXPECT_THROW(map.set(&local, key), std::invalid_argument);
    EXPECT_THROW(map.set(key, &local), std::invalid_argument);
    map.set(key, nullptr);
    EXPECT_EQ(map.size(), 0u);
  });
}

TEST(WeakMap, UnderTheCollector) {
  run([] {
    gc::weak_map<node, node> map;
    const uint64_t last_cycle = gc::stats().cycles + 40;
    auto collector = spawn([&] {
      while (gc::stats().cycles < last_cycle) gc::collect();
    });
    std::vector<join_handle<void>> workers;
    for (int k = 0; k < 2; ++k) {
      workers.push_back(spawn([&] {
        std::array<gc::ref<node>, 32> keys;
        for (uint32_t i = 0; gc::stats().cycles < last_cycle; ++i) {
          gc::ref<node>& key = keys[i * 7 % keys.size()];
          if (i % 5 == 0 || key == nullptr) {
            key = gc::make<node>();
            node* v = gc::make<node>();
            v->value = 77;
            v->next = key;
            map.set(key, v);
          }
          node* v = map.get(key);
          ASSERT_NE(v, nullptr);
          ASSERT_EQ(v->value, 77);
          ASSERT_EQ(v->next, key);
          if (i % 64 == 0) this_task::yield();
        }
      }));
    }
    for (auto& w : workers) w.join();
    collector.join();
  });
}

size_t root_words() {
  size_t n = 0;
  gc::for_each_root([](uintptr_t, void* arg) { ++*static_cast<size_t*>(arg); }, &n);
  return n;
}

TEST(Roots, DestroyedByAnotherThreadAreUsedAgain) {
  run([] {
    node* n = gc::make<node>();
    const size_t before = root_words();
    for (int round = 0; round < 20; ++round) {
      std::vector<gc::root<node>> roots(5000, gc::root<node>(n));
      std::thread([mine = std::move(roots)]() mutable { mine.clear(); }).join();
    }
    EXPECT_LE(root_words() - before, 20'000u);
  });
}

TEST(Shutdown, DestroysWhatIsUnreachableAndCountsTheRest) {
  run([] {
    g_deaths = 0;
    gc::shutdown();
    const size_t before = gc::reapers().with_destructors;
    gc::root<counted> kept(gc::make<counted>());
    elsewhere([] {
      owner* last = nullptr;
      for (int i = 0; i < 5; ++i) {
        auto* o = gc::make<owner>();
        o->next = last;
        last = o;
      }
    });
    EXPECT_EQ(gc::shutdown() - before, 1u);
    EXPECT_EQ(g_deaths, 5);
  });
}

}  // namespace
}  // namespace weft::test
