// The collected containers against those of std, with collections in between.
#include <weft/gc/deque.h>
#include <weft/gc/func.h>
#include <weft/gc/map.h>
#include <weft/gc/string.h>
#include <weft/gc/vector.h>

#include <deque>
#include <random>
#include <sstream>
#include <unordered_map>
#include <vector>

#include "tests/unit/gc/heap_world.h"

namespace weft::test {
namespace {

struct boxed {
  int64_t value;
};

struct holder {
  gc::vector<gc::ref<boxed>> vector;
  gc::deque<gc::ref<boxed>> deque;
  gc::map<int64_t, gc::ref<boxed>> map;
  gc::map<gc::string, int> names;
  gc::string text;
  gc::func<int64_t()> function;
};
static_assert(gc::storable<holder>);
static_assert(std::is_trivially_destructible_v<holder>);

boxed* box(int64_t n) { return gc::make<boxed>(n); }

TEST(Containers, VectorDoesWhatStdDoes) {
  weft::run([] {
    gc::root<holder> root(gc::make<holder>());
    auto& ours = root->vector;
    std::vector<int64_t> theirs;
    std::mt19937 random(1);
    for (int64_t i = 0; i < sized(20'000, 2000); ++i) {
      const size_t at = theirs.empty() ? 0 : random() % theirs.size();
      switch (random() % 8) {
        case 0:
          ours.insert(ours.begin() + at, box(i));
          theirs.insert(theirs.begin() + static_cast<ptrdiff_t>(at), i);
          break;
        case 1:
          if (theirs.empty()) break;
          ours.erase(ours.begin() + at);
          theirs.erase(theirs.begin() + static_cast<ptrdiff_t>(at));
          break;
        case 2:
          if (theirs.empty()) break;
          ours.pop_back();
          theirs.pop_back();
          break;
        case 3:
          if (theirs.size() < 500) break;
          ours.resize(100);
          theirs.resize(100);
          ours.shrink_to_fit();
          break;
        default:
          ours.push_back(box(i));
          theirs.push_back(i);
      }
      if (i % 1000 == 0) gc::collect();
    }
    ASSERT_EQ(ours.size(), theirs.size());
    for (size_t i = 0; i < theirs.size(); ++i) ASSERT_EQ(ours[i]->value, theirs[i]);
    EXPECT_EQ(erase_if(ours, [](const auto& r) { return r->value % 2 == 0; }),
              std::erase_if(theirs, [](int64_t n) { return n % 2 == 0; }));
    ASSERT_EQ(ours.size(), theirs.size());
    EXPECT_THROW(ours.at(ours.size()), std::out_of_range);
    gc::vector<gc::ref<boxed>> copy = ours;
    EXPECT_EQ(copy, ours);
    copy.clear();
    EXPECT_EQ(ours.size(), theirs.size());
    // A value out of the vector itself, while it grows.
    gc::vector<int> numbers{7};
    for (int i = 0; i < 100; ++i) numbers.push_back(numbers[0]);
    EXPECT_EQ(numbers, gc::vector<int>(101, 7));
  });
}

TEST(Containers, WhatIsRemovedMayDie) {
  weft::run([] {
    gc::root<holder> root(gc::make<holder>());
    std::vector<hidden> gone;
    elsewhere([&] {
      for (int64_t i = 0; i < 300; ++i) {
        boxed* b = box(i);
        gone.emplace_back(b);
        if (i % 3 == 0) root->vector.push_back(b);
        if (i % 3 == 1) root->deque.push_back(b);
        if (i % 3 == 2) root->map[i] = b;
      }
    });
    EXPECT_EQ(survivors(gone), gone.size());
    elsewhere([&] {
      root->vector.resize(0);
      while (!root->deque.empty()) root->deque.pop_front();
      for (int64_t i = 2; i < 300; i += 3) EXPECT_EQ(root->map.erase(i), 1u);
    });
    EXPECT_LE(survivors(gone), 3u);  // stack words may show some
  });
}

TEST(Containers, DequeDoesWhatStdDoes) {
  weft::run([] {
    gc::root<holder> root(gc::make<holder>());
    auto& ours = root->deque;
    std::deque<int64_t> theirs;
    std::mt19937 random(2);
    for (int64_t i = 0; i < sized(50'000, 3000); ++i) {
      switch (random() % 5) {
        case 0:
          ours.push_front(box(i));
          theirs.push_front(i);
          break;
        case 1:
          if (theirs.empty()) break;
          ours.pop_front();
          theirs.pop_front();
          break;
        case 2:
          if (theirs.empty()) break;
          ours.pop_back();
          theirs.pop_back();
          break;
        default:
          ours.push_back(box(i));
          theirs.push_back(i);
      }
      if (i % 5000 == 0) gc::collect();
    }
    ASSERT_EQ(ours.size(), theirs.size());
    for (size_t i = 0; i < theirs.size(); ++i) ASSERT_EQ(ours[i]->value, theirs[i]);
    size_t n = 0;
    for (const auto& r : ours) ASSERT_EQ(r->value, theirs[n++]);
    auto copy = ours;
    EXPECT_EQ(copy, ours);
  });
}

TEST(Containers, MapDoesWhatStdDoes) {
  weft::run([] {
    gc::root<holder> root(gc::make<holder>());
    auto& ours = root->map;
    std::unordered_map<int64_t, int64_t> theirs;
    std::mt19937 random(3);
    for (int64_t i = 0; i < sized(200'000, 10'000); ++i) {
      // Few keys, many of them multiples of a power of two: long probe sequences and removed
      // places.
      const auto key = static_cast<int64_t>(random() % 3000) << (random() % 2 * 20);
      switch (random() % 4) {
        case 0:
          ASSERT_EQ(ours.erase(key), theirs.erase(key));
          break;
        case 1: {
          auto found = ours.find(key);
          auto expected = theirs.find(key);
          ASSERT_EQ(found == ours.end(), expected == theirs.end());
          if (expected != theirs.end()) {
            ASSERT_EQ(found->second->value, expected->second);
          }
          break;
        }
        case 2:
          ASSERT_EQ(ours.try_emplace(key, box(i)).second, theirs.try_emplace(key, i).second);
          break;
        default:
          ours.insert_or_assign(key, box(i));
          theirs.insert_or_assign(key, i);
      }
      ASSERT_EQ(ours.size(), theirs.size());
      if (i % 20'000 == 0) gc::collect();
    }
    size_t n = 0;
    for (const auto& [key, value] : ours) {
      ++n;
      ASSERT_EQ(value->value, theirs.at(key));
    }
    EXPECT_EQ(n, theirs.size());
    auto copy = ours;
    erase_if(copy, [](const auto& e) { return e.first % 2 == 0; });
    std::erase_if(theirs, [](const auto& e) { return e.first % 2 == 0; });
    EXPECT_EQ(copy.size(), theirs.size());
    EXPECT_THROW(copy.at(-1), std::out_of_range);
  });
}

TEST(Containers, MapOfStrings) {
  weft::run([] {
    gc::root<holder> root(gc::make<holder>());
    for (int i = 0; i < 5000; ++i) root->names[gc::string("name " + std::to_string(i % 1000))] += 1;
    gc::collect();
    EXPECT_EQ(root->names.size(), 1000u);
    for (const auto& [name, count] : root->names) EXPECT_EQ(count, 5) << name;
    EXPECT_TRUE(root->names.contains("name 77"));
    EXPECT_FALSE(root->names.contains("name 1000"));
  });
}

TEST(Containers, StringsShareCharacters) {
  weft::run([] {
    gc::root<holder> root(gc::make<holder>());
    elsewhere(
        [&] { root->text = gc::string("a long text, of which a part is kept").substr(2, 4); });
    gc::collect();
    gc::string s = root->text;
    EXPECT_EQ(s, "long");
    EXPECT_EQ(s.size(), 4u);
    EXPECT_STREQ(s.c_str(), "long");
    EXPECT_EQ(s + " " + "ago", "long ago");
    EXPECT_TRUE(gc::string().empty());
    EXPECT_STREQ(gc::string().c_str(), "");
    EXPECT_LT(gc::string("a"), gc::string("b"));
    EXPECT_THROW(static_cast<void>(s.substr(5)), std::out_of_range);
    std::ostringstream out;
    out << s;
    EXPECT_EQ(out.str(), "long");
  });
}

TEST(Containers, ClosuresKeepTheirCaptures) {
  weft::run([] {
    gc::root<holder> root(gc::make<holder>());
    hidden captured;
    elsewhere([&] {
      boxed* b = box(41);
      captured = hidden(b);
      root->function = [b, step = int64_t{1}] { return b->value + step; };
    });
    gc::collect();
    EXPECT_TRUE(captured.alive());
    EXPECT_EQ(root->function(), 42);
    elsewhere([&] { root->function = nullptr; });
    EXPECT_FALSE(root->function);
    EXPECT_THROW(root->function(), std::bad_function_call);
  });
}

// Several tasks work on containers of their own while cycles come and go.
TEST(Containers, UnderConcurrentMarking) {
  weft::run({.max_procs = 4}, [] {
    std::atomic<bool> stop{false};
    wait_group wg;
    for (int t = 0; t < 4; ++t) {
      wg.go([&stop, t] {
        gc::vector<gc::ref<holder>> mine;
        std::mt19937 random(static_cast<unsigned>(t));
        for (int64_t round = 0; !stop || round < 50; ++round) {
          auto* h = gc::make<holder>();
          for (int64_t i = 0; i < 200; ++i) {
            h->map[i] = box(i);
            h->vector.push_back(h->map[i]);
            h->deque.push_front(box(i));
          }
          for (int64_t i = 0; i < 200; i += 2) h->map.erase(i);
          mine.push_back(h);
          if (mine.size() > 20) mine.erase(mine.begin() + random() % mine.size());
          for (const auto& kept : mine) {
            ASSERT_EQ(kept->map.size(), 100u);
            const auto i = static_cast<int64_t>(random() % 200);
            ASSERT_EQ(kept->vector[static_cast<size_t>(i)]->value, i);
            ASSERT_EQ(kept->deque[static_cast<size_t>(i)]->value, 199 - i);
            if (i % 2 == 1) {
              ASSERT_EQ(kept->map.at(i)->value, i);
            }
          }
        }
      });
    }
    for (int i = 0; i < sized(30, 5); ++i) gc::collect();
    stop = true;
    wg.wait();
  });
}

}  // namespace
}  // namespace weft::test
