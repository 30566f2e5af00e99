// Channels of references, and results of tasks: what is buffered or not yet joined is alive, what
// was received is not kept.
#include <weft/chan.h>
#include <weft/select.h>

#include "tests/conformance/world.h"
#include "tests/unit/gc/heap_world.h"

namespace weft::test {
struct message {
  int kind = 0;
  gc::ref<node> what;
};

namespace {

TEST(ChannelsOfReferences, KeepWhatIsBuffered) {
  run([] {
    chan<gc::ref<node>> c(100);
    std::vector<hidden> all;
    elsewhere([&] {
      for (int i = 0; i < 100; ++i) {
        node* n = gc::make<node>();
        n->value = i;
        all.emplace_back(n);
        c.send(n);
      }
    });
    EXPECT_EQ(survivors(all), 100u);
    elsewhere([&] {
      for (int i = 0; i < 100; ++i) EXPECT_EQ((*c.recv())->value, i);
    });
    EXPECT_LE(survivors(all), 1u);  // a stale word may hold one
  });
}

TEST(ChannelsOfReferences, LetGoWhenTheChannelDoes) {
  run([] {
    std::vector<hidden> all;
    elsewhere([&] {
      chan<gc::ref<node>> c(10);
      for (int i = 0; i < 10; ++i) {
        node* n = gc::make<node>();
        all.emplace_back(n);
        c.send(n);
      }
    });
    EXPECT_LE(survivors(all), 1u);
  });
}

TEST(ChannelsOfReferences, CarryClassesWithReferences) {
  run([] {
    chan<message> c(4);
    std::vector<hidden> all;
    elsewhere([&] {
      node* n = gc::make<node>();
      n->value = 5;
      all.emplace_back(n);
      c.send({1, n});
    });
    EXPECT_EQ(survivors(all), 1u);
    EXPECT_EQ(c.recv()->what->value, 5);
  });
}

// Waits until the task has ended, collects, and joins on another stack.
template <class T, class See>
void outlives_its_task(join_handle<T> task, const std::vector<hidden>& all, See see) {
  EXPECT_TRUE(eventually([&] { return task.done(); }));
  EXPECT_EQ(survivors(all), 1u);
  elsewhere([&] { see(task.join()); });
}

TEST(ResultsOfTasks, KeepWhatTheyReferTo) {
  in_world(2, [] {
    std::vector<hidden> all(1);
    const auto fresh = [&all] {
      node* n = gc::make<node>();
      n->value = 7;
      all[0] = hidden(n);
      return n;
    };
    outlives_its_task(spawn([&] { return fresh(); }), all, [](node* n) { EXPECT_EQ(n->value, 7); });
    outlives_its_task(spawn([&]() -> const int64_t* { return &fresh()->value; }), all,
                      [](const int64_t* v) { EXPECT_EQ(*v, 7); });
    outlives_its_task(spawn([&] { return gc::ref<node>(fresh()); }), all,
                      [](gc::ref<node> r) { EXPECT_EQ(r->value, 7); });
    outlives_its_task(spawn([&] {
                        return message{3, fresh()};
                      }),
                      all, [](const message& m) {
                        EXPECT_EQ(m.kind, 3);
                        EXPECT_EQ(m.what->value, 7);
                      });
    outlives_its_task(spawn([&] { return std::vector<gc::ref<node>>{fresh()}; }), all,
                      [](const std::vector<gc::ref<node>>& v) { EXPECT_EQ(v.at(0)->value, 7); });
  });
}

TEST(ResultsOfTasks, AreLetGoWithTheirHandles) {
  in_world(2, [] {
    std::vector<hidden> all(40);
    elsewhere([&] {
      for (size_t i = 0; i < all.size(); i += 2) {
        auto pointer = spawn([&all, i] {
          node* n = gc::make<node>();
          all[i] = hidden(n);
          return n;
        });
        auto reference = spawn([&all, i] {
          node* n = gc::make<node>();
          all[i + 1] = hidden(n);
          return message{1, n};
        });
        EXPECT_TRUE(eventually([&] { return pointer.done() && reference.done(); }));
        if (i % 4 == 0) continue;  // dropped
        EXPECT_NE(pointer.join(), nullptr);
        EXPECT_NE(reference.join().what, nullptr);
      }
    });
    EXPECT_LE(survivors(all), 4u);  // stale words may hold some
    EXPECT_THROW(spawn([]() -> node* { throw 1; }).join(), int);
  });
}

// Pointers to other things, and to nothing.
TEST(ResultsOfTasks, MayBeAnyPointer) {
  in_world(1, [] {
    int local = 5;
    EXPECT_EQ(*spawn([&] { return &local; }).join(), 5);
    EXPECT_EQ(spawn([]() -> node* { return nullptr; }).join(), nullptr);
    EXPECT_EQ(spawn([]() -> void* { return nullptr; }).join(), nullptr);
    EXPECT_STREQ(spawn([] { return "text"; }).join(), "text");
    EXPECT_EQ(spawn([] { return +[] { return 8; }; }).join()(), 8);
  });
}

// Objects travel through buffers, hand-offs and selects while cycles come and go.
TEST(ChannelsOfReferences, UnderTheCollector) {
  run([] {
    chan<gc::ref<node>> buffered(7), direct(0);
    const uint64_t last_cycle = gc::stats().cycles + 40;
    auto collector = spawn([&] {
      while (gc::stats().cycles < last_cycle) gc::collect();
    });
    auto producer = spawn([&] {
      for (int i = 0; gc::stats().cycles < last_cycle; ++i) {
        node* n = gc::make<node>();
        n->value = i;
        n->next = gc::make<node>();
        n->next->value = i + 1;
        buffered.send(n);
      }
      buffered.close();
    });
    auto relay = spawn([&] {
      for (gc::ref<node> n : buffered) direct.send(n);
      direct.close();
    });
    int64_t expected = 0;
    for (gc::ref<node> n : direct) {
      ASSERT_EQ(n->value, expected++);
      ASSERT_EQ(n->next->value, expected);
    }
    collector.join();
    producer.join();
    relay.join();
  });
}

}  // namespace
}  // namespace weft::test
