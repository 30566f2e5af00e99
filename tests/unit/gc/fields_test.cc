// Which words of a type hold references: the masks that describe() finds, for every way to say it.
#include <weft/gc/fields.h>
#include <weft/gc/gc.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

template <class T>
std::vector<size_t> words() {
  const gc::detail::type_info& t = gc::detail::type_of<T>();
  gc::detail::ensure_described(t);
  std::vector<size_t> found;
  for (size_t i = 0; t.mask != nullptr && i < sizeof(T) / 8; ++i) {
    if ((t.mask[i / 64] >> (i % 64)) & 1) found.push_back(i);
  }
  return found;
}

using list = std::vector<size_t>;

struct leaf {
  gc::ref<leaf> a;
  int n;
  gc::ref<leaf> b;
};

struct nested {
  int x;
  leaf l;
  std::array<gc::ref<leaf>, 3> several;
  std::optional<gc::ref<leaf>> maybe;
  std::pair<int, gc::ref<leaf>> two;
  gc::atomic_ref<leaf> shared;
};

TEST(Fields, Aggregates) {
  EXPECT_EQ(words<leaf>(), (list{0, 2}));
  static_assert(sizeof(leaf) == 24);
  EXPECT_EQ(words<nested>(), (list{1, 3, 4, 5, 6, 7, 10, 11}));
  EXPECT_EQ((words<std::tuple<long, gc::ref<leaf>>>().size()), 1u);
}

class listed {
  WEFT_GC_FIELDS(first_, several_)
 public:
  explicit listed(int n) : n_(n) {}
  int number() const { return n_ + flag_; }

 private:
  int n_ : 20;
  int flag_ : 2 = 1;
  gc::ref<leaf> first_;
  gc::ref<leaf> several_[2];
};

class derived : public leaf {
  WEFT_GC_BASES(leaf)
  WEFT_GC_FIELDS(own_)
 public:
  derived() {}

 private:
  gc::ref<leaf> own_;
};

class abstract {
  WEFT_GC_FIELDS(r_)
 public:
  virtual ~abstract() = default;
  virtual int number() = 0;

 private:
  gc::ref<leaf> r_;
};
class concrete : public abstract {
  WEFT_GC_BASES(abstract)
  WEFT_GC_FIELDS(mine_)
 public:
  int number() override { return static_cast<int>(n_); }

 private:
  long n_ = 0;
  gc::ref<leaf> mine_;
};

struct traced {
  explicit traced(long l) : n(l) {}
  gc::ref<leaf> q;
  long n;
  gc::ref<leaf> r;
  template <class V>
  void trace(V& v) {
    v(q, r);
  }
};

TEST(Fields, ClassesThatSayIt) {
  EXPECT_EQ(words<listed>(), (list{1, 2, 3}));
  EXPECT_EQ(words<derived>(), (list{0, 2, 3}));
  EXPECT_EQ(words<concrete>(), (list{1, 3}));
  EXPECT_EQ(words<traced>(), (list{0, 2}));
  EXPECT_EQ(listed(3).number(), 4);
}

struct without {
  int x;
  char name[40];
  double d[3][3];
};
struct of_std {
  std::string s;
  std::vector<int> v;
  std::unique_ptr<int> u;
  std::atomic<int> n;
  std::mutex m;
  gc::untraced<leaf*> elsewhere;
};

TEST(Fields, TypesWithoutReferencesAreNotScanned) {
  EXPECT_EQ(gc::detail::type_of<without>().mask, nullptr);
  EXPECT_EQ(gc::detail::type_of<of_std>().mask, nullptr);
  EXPECT_EQ(gc::detail::type_of<long>().mask, nullptr);
  EXPECT_EQ(gc::detail::type_of<without>().destroy, nullptr);
  EXPECT_NE(gc::detail::type_of<of_std>().destroy, nullptr);
}

struct large {
  std::array<long, 100> numbers;
  gc::ref<leaf> last;
};
TEST(Fields, MasksOfManyWords) { EXPECT_EQ(words<large>(), (list{100})); }

template <class T>
concept can_be_asked = gc::storable<T>;
static_assert(can_be_asked<leaf> && can_be_asked<concrete> && can_be_asked<of_std>);
static_assert(!can_be_asked<leaf*> && !can_be_asked<std::vector<leaf>>);

// What the masks are for: exactly the objects behind them stay.
TEST(Fields, WhatIsListedIsFound) {
  weft::run([] {
    std::vector<hidden> kept, lost;
    gc::root<nested> root;
    elsewhere([&] {
      auto* n = gc::make<nested>();
      root = n;
      auto held = [&](auto&& where) {
        auto* l = gc::make<leaf>();
        kept.emplace_back(l);
        where = l;
      };
      held(n->l.a);
      held(n->l.b);
      held(n->several[1]);
      held(n->maybe.emplace());
      held(n->two.second);
      held(n->shared);
      for (int i = 0; i < 100; ++i) lost.emplace_back(gc::make<leaf>());
    });
    EXPECT_EQ(survivors(kept), kept.size());
    EXPECT_LE(survivors(lost), 1u);      // a stack word may show one
    elsewhere([&] { root = nullptr; });  // whose stack may show what it was
    EXPECT_LE(survivors(kept), 1u);
  });
}

}  // namespace
}  // namespace weft::test
