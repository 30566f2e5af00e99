// The table of counters by stack, labels and tag: exact sums, bounds, labels that come and go.
#include "profiler/bucket_table.h"

#include <gtest/gtest.h>
#include <weft/labels.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace weft::prof {
namespace {

labels labelled(int n) { return labels{{"request", std::to_string(n)}}; }

struct total {
  int64_t count = 0;
  int64_t buckets = 0;
  int64_t with_labels = 0;
  int64_t other = 0;
};

total sum(bucket_table& table, size_t counter = 0) {
  total t;
  table.for_each([&](bucket& b) {
    t.count += b.get(counter);
    ++t.buckets;
    if (b.labels() != nullptr) ++t.with_labels;
    if (b.is_other()) t.other += b.get(counter);
  });
  return t;
}

void count(bucket_table& table, const bucket_key& key, int64_t amount = 1) {
  bucket* b = table.acquire(key);
  b->add(0, amount);
  table.release(b);
}

TEST(BucketTable, EqualKeysAreOneBucket) {
  bucket_table table(2);
  const std::vector<uintptr_t> pcs = {1, 2, 3}, others = {1, 2, 4};
  const labels a = labelled(1), same = labelled(1), b = labelled(2);
  ASSERT_NE(a.node(), same.node());
  bucket* first = table.acquire({pcs, false, a.node(), 7});
  EXPECT_EQ(table.acquire({pcs, false, same.node(), 7}), first);
  EXPECT_NE(table.acquire({pcs, false, b.node(), 7}), first);
  EXPECT_NE(table.acquire({pcs, false, nullptr, 7}), first);
  EXPECT_NE(table.acquire({pcs, true, a.node(), 7}), first);
  EXPECT_NE(table.acquire({pcs, false, a.node(), 8}), first);
  EXPECT_NE(table.acquire({others, false, a.node(), 7}), first);
  EXPECT_EQ(table.at(first->index()), first);
  EXPECT_EQ(first->tag(), 7u);
  EXPECT_EQ(std::vector<uintptr_t>(first->stack().pcs.begin(), first->stack().pcs.end()), pcs);
  EXPECT_EQ((*first->labels())[0].second, "1");
  EXPECT_EQ(sum(table).buckets, 6);
}

TEST(BucketTable, AStackWithoutFramesIsAStack) {
  bucket_table table(1);
  count(table, {});
  count(table, {});
  EXPECT_EQ(sum(table).count, 2);
  EXPECT_EQ(sum(table).buckets, 1);
  EXPECT_EQ(sum(table).other, 0);
}

TEST(BucketTable, DeepStacksKeepTheirLeafSide) {
  bucket_table table(1);
  std::vector<uintptr_t> pcs(300);
  for (size_t i = 0; i < pcs.size(); ++i) pcs[i] = i + 1;
  bucket* b = table.acquire({pcs});
  EXPECT_EQ(b->stack().pcs.size(), 128u);
  EXPECT_EQ(b->stack().pcs.front(), 1u);
  EXPECT_TRUE(b->stack().truncated);
}

TEST(BucketTable, LabelsGiveWayToNewOnesAndNoCountIsLost) {
  bucket_table table(1, {.buckets = 10'000, .labelled = 100});
  const std::vector<uintptr_t> pcs = {1, 2, 3};
  for (int i = 0; i < 5000; ++i) count(table, {pcs, false, labelled(i).node(), 0});
  const total t = sum(table);
  EXPECT_EQ(t.count, 5000);
  EXPECT_EQ(t.with_labels, 100);
  EXPECT_EQ(t.buckets, 101);
  EXPECT_EQ(t.other, 0);
  EXPECT_EQ(table.stats().folded, 4900u);
  EXPECT_EQ(table.stats().labelled, 100u);
}

TEST(BucketTable, LabelsInUseStay) {
  bucket_table table(1, {.buckets = 10'000, .labelled = 10});
  const std::vector<uintptr_t> pcs = {1};
  std::vector<bucket*> held;
  for (int i = 0; i < 10; ++i) held.push_back(table.acquire({pcs, false, labelled(i).node(), 0}));
  for (int i = 10; i < 20; ++i) {
    bucket* b = table.acquire({pcs, false, labelled(i).node(), 0});
    EXPECT_EQ(b->labels(), nullptr);
    table.release(b);
  }
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ((*held[static_cast<size_t>(i)]->labels())[0].second, std::to_string(i));
  EXPECT_EQ(table.stats().no_room, 10u);
  table.release(held[3]);
  bucket* b = table.acquire({pcs, false, labelled(50).node(), 0});
  ASSERT_NE(b->labels(), nullptr);
  EXPECT_EQ((*b->labels())[0].second, "50");
}

TEST(BucketTable, ALabelSetLivesAsLongAsItsLastBucket) {
  bucket_table table(1, {.buckets = 10'000, .labelled = 1});
  const std::vector<uintptr_t> pcs = {1};
  const labels a = labelled(1);
  const auto references = [&] { return a.node()->refs.load(); };
  const uint64_t before = references();
  count(table, {pcs, false, a.node(), 0});
  EXPECT_EQ(references(), before + 1);
  count(table, {pcs, false, a.node(), 0});
  EXPECT_EQ(references(), before + 1);
  count(table, {pcs, false, labelled(2).node(), 0});
  EXPECT_EQ(references(), before);
}

TEST(BucketTable, BeyondTheLimitCountsGoToOneBucketPerTag) {
  bucket_table table(1, {.buckets = 100, .labelled = 50});
  for (uintptr_t i = 0; i < 1000; ++i) count(table, {std::span(&i, 1), false, nullptr, i % 2});
  const total t = sum(table);
  EXPECT_EQ(t.count, 1000);
  EXPECT_EQ(t.other, 900);
  EXPECT_EQ(t.buckets, 102);
  EXPECT_EQ(table.stats().no_room, 900u);
}

TEST(BucketTable, MemoryDoesNotGrowWithFoldedLabels) {
  bucket_table table(1, {.buckets = 10'000, .labelled = 100});
  for (int i = 0; i < 20'000; ++i) {
    const std::vector<uintptr_t> pcs(static_cast<size_t>(i % 40), 5);
    count(table, {pcs, false, labelled(i).node(), 0});
  }
  const size_t bytes = table.stats().bytes;
  for (int i = 0; i < 100'000; ++i) {
    const std::vector<uintptr_t> pcs(static_cast<size_t>(i % 40), 5);
    count(table, {pcs, false, labelled(i).node(), 0});
  }
  EXPECT_LE(table.stats().bytes, bytes + (2 << 20));
  EXPECT_EQ(sum(table).count, 120'000);
}

TEST(BucketTable, ThreadsLoseNothing) {
  bucket_table table(1, {.buckets = 2000, .labelled = 200});
  constexpr int per_thread = 20'000;
  std::vector<std::thread> threads;
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) {
      int64_t seen = sum(table).count;
      EXPECT_LE(seen, 4 * per_thread);
    }
  });
  for (int n = 0; n < 4; ++n) {
    threads.emplace_back([&, n] {
      std::vector<bucket*> held;
      for (int i = 0; i < per_thread; ++i) {
        const uintptr_t pcs[] = {static_cast<uintptr_t>(i % 1000), 2, 3};
        bucket* b = table.acquire({pcs, false, i % 3 == 0 ? labelled(i % 700).node() : nullptr,
                                   static_cast<uint64_t>(n % 2)});
        b->add(0, 1);
        held.push_back(b);
        if (held.size() < 20) continue;
        for (bucket* h : held) table.release(h);
        held.clear();
      }
      for (bucket* h : held) table.release(h);
    });
  }
  for (std::thread& t : threads) t.join();
  stop = true;
  reader.join();
  EXPECT_EQ(sum(table).count, 4 * per_thread);
}

}  // namespace
}  // namespace weft::prof
