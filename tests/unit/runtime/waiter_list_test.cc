#include <gtest/gtest.h>
#include <weft/detail/waiter.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

namespace weft::detail {
namespace {

TEST(WaiterList, BehavesAsADeque) {
  for (uint32_t seed = 1; seed <= 10; ++seed) {
    std::mt19937 random(seed);
    waiter_list list;
    std::deque<waiter*> model;
    std::vector<waiter> all(20);
    for (int step = 0; step < 5000; ++step) {
      waiter* w = &all[random() % all.size()];
      if (w->queued) {
        list.erase(w);
        model.erase(std::find(model.begin(), model.end(), w));
      } else if (random() % 4 == 0) {
        waiter* first = list.pop_front();
        ASSERT_EQ(first, model.empty() ? nullptr : model.front());
        if (first != nullptr) {
          ASSERT_FALSE(first->queued);
          model.pop_front();
        }
      } else if (random() % 2 == 0) {
        list.push_front(w);
        model.push_front(w);
      } else {
        list.push_back(w);
        model.push_back(w);
      }
      ASSERT_EQ(list.empty(), model.empty());
      ASSERT_EQ(list.front(), model.empty() ? nullptr : model.front());
    }
    for (waiter* w : model) ASSERT_EQ(list.pop_front(), w);
    ASSERT_TRUE(list.empty());
  }
}

}  // namespace
}  // namespace weft::detail
