// gc::variant: which alternative it holds, and that what it refers to lives exactly as long.
#include <weft/gc/gc.h>
#include <weft/gc/lifetime.h>
#include <weft/gc/string.h>
#include <weft/gc/variant.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

struct pair_of_nodes {
  int64_t number = 0;
  gc::ref<node> first, second;
  bool operator==(const pair_of_nodes&) const = default;
};
using any = gc::variant<int64_t, gc::ref<node>, std::string, pair_of_nodes, gc::string>;

struct holder {
  any is;
  int64_t after = 77;
};

TEST(Variant, HoldsOneOfItsTypes) {
  run([] {
    any v;
    EXPECT_EQ(v.index(), 0u);
    EXPECT_EQ(v.get<int64_t>(), 0);
    v = int64_t{5};
    EXPECT_EQ(*v.get_if<int64_t>(), 5);
    EXPECT_EQ(v.get_if<std::string>(), nullptr);
    EXPECT_THROW(v.get<std::string>(), std::bad_variant_access);
    v = std::string(100, 'x');
    EXPECT_TRUE(v.holds<std::string>());
    any copy = v;
    EXPECT_EQ(copy, v);
    v.emplace<std::string>("other");
    EXPECT_NE(copy, v);
    EXPECT_EQ(copy.get<std::string>().size(), 100u);
    node* n = gc::make<node>();
    v = gc::ref<node>(n);
    EXPECT_EQ(v.index(), 1u);
    EXPECT_EQ(v.get<gc::ref<node>>(), n);
    v = pair_of_nodes{3, n, nullptr};
    copy = v;
    EXPECT_EQ(copy.get<pair_of_nodes>().first, n);
    size_t visited = 0;
    copy.visit([&]<class T>(const T&) { visited = sizeof(T); });
    EXPECT_EQ(visited, sizeof(pair_of_nodes));
  });
}

struct throws {
  explicit throws(bool now) {
    if (now) throw std::runtime_error("now");
  }
  int64_t n = 0;
};
}  // namespace
}  // namespace weft::test
template <>
inline constexpr bool weft::gc::opaque<weft::test::throws> = true;
namespace weft::test {
namespace {

TEST(Variant, AnExceptionChangesNothing) {
  gc::variant<int64_t, throws> v;
  v = int64_t{7};
  EXPECT_THROW(v.emplace<throws>(true), std::runtime_error);
  EXPECT_EQ(v.get<int64_t>(), 7);
  v.emplace<throws>(false);
  EXPECT_TRUE(v.holds<throws>());
}

// References of every alternative keep what they refer to; a number in the place of one does not.
TEST(Variant, KeepsWhatItRefersTo) {
  run([] {
    constexpr int n = 100;
    gc::root<gc::ref<holder>> all(gc::make_array<gc::ref<holder>>(n));
    std::vector<hidden> nodes;
    elsewhere([&] {
      for (int i = 0; i < n; ++i) {
        auto* h = gc::make<holder>();
        all.get()[i] = h;
        node* a = gc::make<node>();
        node* b = gc::make<node>();
        nodes.emplace_back(a);
        if (i % 2 == 0) {
          h->is = gc::ref<node>(a);
          a->next = b;
        } else {
          h->is = pair_of_nodes{i, a, b};
        }
        nodes.emplace_back(b);
      }
    });
    EXPECT_EQ(survivors(nodes), nodes.size());
    elsewhere([&] {
      for (int i = 0; i < n; ++i) {
        holder* h = all.get()[i];
        EXPECT_EQ(h->after, 77);
        // The address is there, but is no reference.
        if (i % 3 == 0)
          h->is = static_cast<int64_t>(nodes[static_cast<size_t>(i) * 2].address());
        else
          h->is = std::string("text");
      }
    });
    EXPECT_LE(survivors(nodes), 2u);  // a stack word may show one
  });
}

std::atomic<int> g_strings_ended{0};
struct named {
  std::string name;
  explicit named(std::string n) : name(std::move(n)) {}
  named(const named&) = default;
  named(named&&) = default;
  named& operator=(const named&) = default;
  ~named() {
    if (name == std::string(50, 'n')) g_strings_ended.fetch_add(1);
  }
};
}  // namespace
}  // namespace weft::test
template <>
inline constexpr bool weft::gc::opaque<weft::test::named> = true;
namespace weft::test {
namespace {

// References are nulled before destructors run; what an alternative without any holds is not.
TEST(Variant, DestructorsFindTheirValueWhole) {
  static_assert(std::is_trivially_destructible_v<gc::variant<int, gc::ref<node>>>);
  run([] {
    using named_or_node = gc::variant<gc::ref<node>, named>;
    elsewhere([] {
      for (int i = 0; i < 100; ++i) {
        auto* v = gc::make<named_or_node>();
        *v = gc::ref<node>(gc::make<node>());
        v->emplace<named>(std::string(50, 'n'));
      }
      g_strings_ended = 0;
    });
    gc::collect();
    EXPECT_TRUE(eventually([] { return g_strings_ended >= 98; }));
  });
}

// Alternatives change while marking is on.
TEST(Variant, UnderTheCollector) {
  run([] {
    gc::root<holder> h(gc::make<holder>());
    const uint64_t last = gc::stats().cycles + 30;
    auto collector = spawn([&] {
      while (gc::stats().cycles < last) gc::collect();
    });
    for (int64_t i = 0; gc::stats().cycles < last; ++i) {
      node* n = gc::make<node>();
      n->value = i;
      h->is = gc::ref<node>(n);
      n = nullptr;
      if (i % 64 == 0) this_task::yield();
      node* back = h->is.get<gc::ref<node>>();
      h->is = i;
      if (i % 64 == 32) this_task::yield();
      ASSERT_EQ(back->value, i);
      h->is = pair_of_nodes{i, back, gc::make<node>()};
      ASSERT_EQ(h->is.get<pair_of_nodes>().first->value, i);
      if (i % 5 == 0) h->is = gc::string("text");
    }
    collector.join();
  });
}

}  // namespace
}  // namespace weft::test
