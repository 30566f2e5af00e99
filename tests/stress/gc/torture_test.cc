// Random changes of a shared graph by many tasks, while the collector runs.
//
// Every node carries a canary and a serial, and knows the serials of the nodes that it refers to: a
// node that was freed in use, and used again, does not fit any more. Tasks move references through
// their stacks, through channels, roots and atomics, so that the only way to a node is often in one
// place that is about to be overwritten.
#include <gtest/gtest.h>
#include <weft/gc/gc.h>
#include <weft/weft.h>

#include <atomic>
#include <random>
#include <utility>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/stress/stress.h"

namespace weft::test {
namespace {

constexpr uint64_t canary = 0x5ca1ab1e0ddba11;
constexpr int edges = 3;

struct node {
  WEFT_GC_FIELDS(edge)
  uint64_t mark = canary;
  uint64_t serial = 0;
  gc::ref<node> edge[edges] = {};
  uint64_t edge_serial[edges] = {};

  void check() const {
    if (mark != canary) {
      ADD_FAILURE() << "node " << this << " has been freed in use";
      std::abort();
    }
  }
};

std::atomic<uint64_t> g_serial{1};

node* make_node() {
  node* n = gc::make<node>();
  n->serial = g_serial.fetch_add(1, std::memory_order_relaxed);
  return n;
}

// A graph of which one task at a time is the owner: its root travels through a channel.
struct graph {
  gc::root<node> root;
  int steps = 0;
};

void link(node* from, int i, node* to) {
  from->edge[i] = to;
  from->edge_serial[i] = to != nullptr ? to->serial : 0;
}

node* follow(node* n, int i) {
  node* to = n->edge[i];
  if (to == nullptr) return nullptr;
  to->check();
  if (to->serial != n->edge_serial[i]) {
    ADD_FAILURE() << "node " << n->serial << " leads to " << to->serial << ", not to "
                  << n->edge_serial[i];
    std::abort();
  }
  return to;
}

// Walks at random and changes what it sees. Values live in locals while the task gives way, and the
// slots that they came from are overwritten meanwhile.
void wander(graph& g, std::minstd_rand& random, int steps) {
  if (g.root.get() == nullptr) g.root = make_node();
  node* at = g.root.get();
  node* carried = nullptr;
  for (int s = 0; s < steps; ++s) {
    at->check();
    const int i = static_cast<int>(random() % edges);
    switch (random() % 8) {
      case 0: {  // take a subtree off, wait, put it on elsewhere
        carried = follow(at, i);
        link(at, i, nullptr);
        if (random() % 4 == 0) this_task::yield();
        break;
      }
      case 1: {
        if (carried != nullptr) carried->check();
        link(at, i, carried);
        break;
      }
      case 2: {
        node* n = make_node();
        link(n, 0, follow(at, i));
        link(at, i, n);
        break;
      }
      case 3: {  // exchange two edges through locals
        node* a = follow(at, 0);
        node* b = follow(at, 1);
        link(at, 0, b);
        link(at, 1, a);
        break;
      }
      case 4:
        if (random() % 16 == 0) g.root = at;  // what is above goes
        break;
      default:
        if (node* to = follow(at, i)) at = to;
        break;
    }
    if (random() % 64 == 0) at = g.root.get();
  }
  ++g.steps;
}

TEST(Torture, AGraphThatTasksHandOn) {
  const uint32_t seed = stress_seed();
  for (int procs : {1, 2, 4}) {
    in_world(procs, [seed] {
      constexpr int graphs = 8, tasks = 6;
      chan<graph*> free_graphs(graphs);
      std::vector<std::unique_ptr<graph>> all;
      for (int i = 0; i < graphs; ++i) {
        all.push_back(std::make_unique<graph>());
        free_graphs.send(all.back().get());
      }
      stress_clock clock(stress_time() / 3);
      wait_group group;
      for (int t = 0; t < tasks; ++t) {
        group.go([&, t] {
          std::minstd_rand random(seed + static_cast<uint32_t>(t));
          while (clock.running()) {
            graph* g = *free_graphs.recv();
            wander(*g, random, 500);
            free_graphs.send(g);
          }
        });
      }
      group.wait();
      free_graphs.close();
    });
  }
}

// The only reference to a node travels from stack to stack over an unbuffered channel, through a
// raw pointer, while its old places are overwritten.
TEST(Torture, NodesThatOnlyStacksKnow) {
  const uint32_t seed = stress_seed();
  in_world(2, [seed] {
    constexpr int stages = 6;
    std::vector<chan<node*>> pipe;
    for (int i = 0; i <= stages; ++i) pipe.emplace_back(0);
    stress_clock clock;
    wait_group group;
    for (int i = 0; i < stages; ++i) {
      group.go([&pipe, i] {
        for (node* n : pipe[static_cast<size_t>(i)]) {
          n->check();
          node* wrapped = make_node();
          link(wrapped, 0, n);
          n = nullptr;
          this_task::yield();
          pipe[static_cast<size_t>(i) + 1].send(wrapped);
        }
        pipe[static_cast<size_t>(i) + 1].close();
      });
    }
    group.go([&] {
      while (clock.running()) {
        node* n = make_node();
        pipe[0].send(n);
      }
      pipe[0].close();
    });
    uint64_t seen = 0;
    for (node* n : pipe[stages]) {
      int depth = 0;
      for (; n != nullptr; n = follow(n, 0)) ++depth;
      ASSERT_EQ(depth, stages + 1);
      ++seen;
    }
    group.wait();
    EXPECT_GT(seen, 0u);
    static_cast<void>(seed);
  });
}

// Readers take nodes out of a table and hold them while they wait; writers overwrite the places
// that they came from. A node is then known to a parked stack alone, which was scanned before it
// had it.
TEST(Torture, ReadersKeepWhatWritersOverwrite) {
#if WEFT_TSAN
  GTEST_SKIP() << "a plain ref hands no object to another task as the language sees it";
#endif
  const uint32_t seed = stress_seed();
  in_world(2, [seed] {
    constexpr uint32_t places = 64;
    gc::root<gc::ref<node>> table(gc::make_array<gc::ref<node>>(places));
    // What the marker meets first, so that it comes late to the table's nodes.
    gc::root<node> ballast(make_node());
    for (int i = 0; i < 3000; ++i) {
      node* n = make_node();
      link(n, 0, ballast->edge[0]);
      link(ballast.get(), 0, n);
    }
    for (uint32_t i = 0; i < places; ++i) table.get()[i] = make_node();
    stress_clock clock;
    wait_group group;
    for (uint32_t w = 0; w < 2; ++w) {  // each has places of its own
      group.go([&, w] {
        std::minstd_rand random(seed + w);
        while (clock.running()) {
          const uint32_t i = static_cast<uint32_t>(random()) % (places / 2) * 2 + w;
          table.get()[i] = make_node();
          if (random() % 8 == 0) this_task::yield();
        }
      });
    }
    std::atomic<uint64_t> held{0};
    for (uint32_t r = 0; r < 8; ++r) {
      group.go([&, r] {
        std::minstd_rand random(seed + 100 + r);
        while (clock.running()) {
          node* n = table.get()[static_cast<uint32_t>(random()) % places];
          for (uint32_t k = static_cast<uint32_t>(random()) % 16; k > 0; --k) this_task::yield();
          n->check();
          held.fetch_add(1, std::memory_order_relaxed);
        }
      });
    }
    group.wait();
    EXPECT_GT(held.load(), 0u);
  });
}

// A stack of Treiber's: nodes are popped and pushed by exchanges alone.
TEST(Torture, LockFreeStack) {
  const uint32_t seed = stress_seed();
  in_world(4, [seed] {
    struct shared {
      gc::atomic_ref<node> top;
    };
    gc::root<shared> stack(gc::make<shared>());
    stress_clock clock;
    std::atomic<int64_t> pushed{0}, popped{0};
    wait_group group;
    for (int t = 0; t < 4; ++t) {
      group.go([&, t] {
        std::minstd_rand random(seed + static_cast<uint32_t>(t));
        while (clock.running()) {
          for (int k = 0; k < 100; ++k) {
            if (random() % 2 == 0) {
              node* n = make_node();
              node* top = stack->top.load();
              do {
                n->edge[0] = top;
              } while (!stack->top.compare_exchange_weak(top, n));
              pushed.fetch_add(1);
            } else {
              node* top = stack->top.load();
              while (top != nullptr) {
                top->check();
                if (stack->top.compare_exchange_weak(top, top->edge[0].get())) break;
              }
              if (top != nullptr) popped.fetch_add(1);
            }
          }
          this_task::yield();
        }
      });
    }
    group.wait();
    int64_t left = 0;
    for (node* n = stack->top.load(); n != nullptr; n = n->edge[0]) {
      n->check();
      ++left;
    }
    EXPECT_EQ(pushed.load() - popped.load(), left);
  });
}

// Tasks come and go; each hands its last finding to the next through its closure.
TEST(Torture, TasksThatEndAndBegin) {
  in_world(2, [] {
    stress_clock clock;
    int64_t total = 0;
    while (clock.running()) {
      node* n = make_node();
      std::vector<join_handle<uint64_t>> tasks;
      for (int i = 0; i < 20; ++i) {
        node* mine = make_node();
        link(mine, 0, n);
        tasks.push_back(spawn([mine, expected = mine->serial] {
          mine->check();
          node* local = mine;
          for (int k = 0; k < 10; ++k) {
            node* next = make_node();
            link(next, 0, local);
            local = next;
            if (k % 3 == 0) this_task::yield();
          }
          for (int k = 0; k < 10; ++k) local = follow(local, 0);
          EXPECT_EQ(local->serial, expected);
          return follow(local, 0)->serial;
        }));
      }
      for (auto& t : tasks) EXPECT_EQ(t.join(), n->serial);
      ++total;
    }
    EXPECT_GT(total, 0);
  });
}

// A child takes a node out of its parent's frame by a raw reference and clears it there, while the
// parent is parked and has not been scanned. Only the paranoid mode sees that.
TEST(Frames, RawPointersThatOthersOverwrite) {
  in_world(2, [] {
    stress_clock clock;
    wait_group group;
    for (int t = 0; t < 64; ++t) {
      group.go([&] {
        while (clock.running()) {
          node* mine = make_node();
          mine->edge_serial[0] = mine->serial;
          spawn([&mine] {
            this_task::yield();
            node* taken = std::exchange(mine, nullptr);
            for (int k = 0; k < 8; ++k) this_task::yield();
            taken->check();
            if (taken->edge_serial[0] != taken->serial) {
              ADD_FAILURE() << "node " << taken << " has been freed in use, and used again";
              std::abort();
            }
          }).join();
        }
      });
    }
    group.wait();
  });
}

// Code that never calls the runtime is stopped by the signal, wherever it is.
TEST(Torture, LoopsWithoutSafepoints) {
  in_world(2, [] {
    stress_clock clock;
    node* ring = make_node();
    node* at = ring;
    for (int i = 0; i < 1000; ++i) {
      node* n = make_node();
      link(at, 0, n);
      at = n;
    }
    link(at, 0, ring);
    auto spin = spawn([&] {
      node* n = ring;
      uint64_t sum = 0;
      while (clock.running()) {
        for (int i = 0; i < 100'000; ++i) {
          node* next = n->edge[0];
          // Rotates two edges of the ring without losing one.
          n->edge[1] = next;
          n->edge[0] = nullptr;
          n->edge[0] = next;
          n = next;
          sum += n->serial;
        }
      }
      return sum;
    });
    while (clock.running()) {
      for (int i = 0; i < 1000; ++i) make_node();
      gc::collect();
    }
    EXPECT_GT(spin.join(), 0u);
    node* n = ring;
    for (int i = 0; i < 1001; ++i) {
      n->check();
      n = n->edge[0];
    }
    EXPECT_EQ(n, ring);
  });
}

}  // namespace
}  // namespace weft::test
