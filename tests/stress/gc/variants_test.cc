// The two interleavings that two wrong collectors do not survive, brought about step by step. The
// collector is held before it scans its first object, a store is held between its steps, and a
// third party takes out of a slot what the store is about to overwrite.
//
// Run with WEFT_GC_STRESS=store,yield-mark they hold; with norescan or check-first besides, the
// object is lost, every time.
#include <gtest/gtest.h>
#include <time.h>
#include <weft/gc/gc.h>
#include <weft/weft.h>

#include <atomic>
#include <cstdlib>

#include "gc/stress.h"
#include "scheduler/task_state.h"
#include "tests/conformance/world.h"

namespace weft::test {
namespace {

constexpr uint64_t canary = 0x5ca1ab1e0ddba11;

struct holder {
  gc::ref<holder> slot;
  uint64_t mark = canary;
};

// What has happened so far. The hooks run where nobody may park, so all of them poll.
enum event : uint32_t {
  marking_began = 1,     // stacks and roots have been scanned, no object has
  object_taken = 2,      // by the task that will use it, out of the slot
  store_began = 4,       // the flag has been read, if it is read first
  slot_overwritten = 8,  // and what was in it has not been told of
  user_parked = 16,
  cycle_ended = 32,  // sweep included
};
std::atomic<uint32_t> g_events{0};

void sleep_a_moment() noexcept {
  timespec pause{0, 20'000};
  ::nanosleep(&pause, nullptr);
}
void happened(event e) noexcept { g_events.fetch_or(e); }
bool has_happened(event e) noexcept { return (g_events.load() & e) != 0; }
void await(event e) noexcept {
  while (!has_happened(e)) sleep_a_moment();
}

void hold_marker() noexcept {
  happened(marking_began);
  await(slot_overwritten);
}

// One world: a holder whose slot has the only reference to another.
class variants : public testing::Test {
 protected:
  void SetUp() override {
    gc::read_options();
    if (!gc::g_options.slow_stores || !gc::g_options.yield_mark)
      GTEST_SKIP() << "WEFT_GC_STRESS=store,yield-mark is not set";
    g_events = 0;
  }
  void TearDown() override { gc::g_stress_hooks = {}; }

  static holder* make_world() {
    holder* outer = gc::make<holder>();
    // By a task of its own, so that no word of this stack shows the inner one.
    spawn([outer] { outer->slot = gc::make<holder>(); }).join();
    spawn([] {  // and no run in hand has it either
      gc::collect();
    })
        .join();
    return outer;
  }

  static void use(const holder* h) {
    if (h->mark == canary) return;
    ADD_FAILURE() << "the object " << h << " has been freed in use";
    std::_Exit(1);  // a death by signal fails a test whatever it has printed
  }
};

// A store is stopped between its write and its look at the flag, and the cycle ends meanwhile. What
// it has overwritten is in the registers of two running threads, and nowhere else.
TEST_F(variants, a_store_that_the_end_of_marking_interrupts) {
  in_world(3, [] {
    gc::root<holder> outer(make_world());
    gc::g_stress_hooks.before_scan = hold_marker;
    gc::g_stress_hooks.after_store = []() noexcept {
      happened(slot_overwritten);
      while (gc::detail::marking.load() != 0) sleep_a_moment();
    };
    auto user = spawn([&] {
      await(marking_began);
      const holder* taken = outer->slot;
      happened(object_taken);
      await(cycle_ended);
      use(taken);
    });
    auto writer = spawn([&] {
      await(object_taken);
      outer->slot = nullptr;
    });
    gc::collect();
    happened(cycle_ended);
    user.join();
    writer.join();
  });
}

// Marking begins while a store is under way. Somebody takes out of the slot what is about to be
// overwritten, and parks with it: its stack has been scanned.
TEST_F(variants, a_store_that_the_beginning_of_marking_interrupts) {
  in_world(3, [] {
    gc::root<holder> outer(make_world());
    gc::g_stress_hooks.before_scan = hold_marker;
    gc::g_stress_hooks.before_store = []() noexcept {
      happened(store_began);
      await(user_parked);
    };
    gc::g_stress_hooks.after_store = []() noexcept { happened(slot_overwritten); };
    chan<bool> go_on(0);
    auto user = spawn([&] {
      await(marking_began);
      const holder* taken = outer->slot;
      go_on.recv();
      use(taken);
    });
    auto writer = spawn([&] { outer->slot = nullptr; });
    auto watcher = spawn([] {
      EXPECT_TRUE(eventually_waiting(sched::wait_reason::chan_receive, 1));
      happened(user_parked);
    });
    await(store_began);
    gc::collect();
    go_on.send(true);
    user.join();
    writer.join();
    watcher.join();
  });
}

}  // namespace
}  // namespace weft::test
