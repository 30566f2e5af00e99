// Channels of references: what is buffered is alive, what was received is not kept.
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
