// Park and wake in their plainest form (join, sleep), scheduler/timers.cc, run_queue.h, retake.cc.
#include <weft/detail/join_state.h>
#include <weft/task.h>

#include "scheduler/park.h"
#include "scheduler/scheduler.h"
#include "tests/model/real/actors.h"

namespace weft::model {
namespace {

using namespace std::chrono_literals;

WEFT_MODEL_WORLD(Park, JoinMeetsTheEnd) {
  auto* s = new detail::join_state;
  auto* value = new int(0);
  w.task("worker", [=] {
    *value = 1;
    s->finish();
  });
  w.task("joiner", [=] {
    s->wait();
    expect(*value == 1 && s->done(), "the join ended early");
  });
}

WEFT_MODEL_WORLD(Park, TwoSleepers) {
  auto* awake = new int(0);
  for (const char* name : {"sleeper 1", "sleeper 2"}) {
    w.task(name, [=] {
      this_task::sleep_for(1ms);
      ++*awake;
    });
  }
  w.at_end([=] { expect(*awake == 2, "a sleeper did not wake"); });
}

// It fires once, or the remover was told that it never will.
WEFT_MODEL_WORLD(Timer, FiresOrWasRemoved) {
  struct watched {
    sched::timer t;
    int fired = 0;
    bool gone = false;
  };
  auto* x = new watched;
  x->t.arg = x;
  x->t.fire = [](sched::timer* t, int64_t) noexcept {
    auto* of = static_cast<watched*>(t->arg);
    expect(!of->gone, "fired after it was removed");
    ++of->fired;
    step();
    expect(!of->gone, "still firing when it was removed");
  };
  w.task("owner", [=] {
    x->t.when_ns = base::now_ns() + 1000;
    sched::critical in_runtime;
    sched::add_timer(x->t);
    step();
    bool removed = sched::remove_timer(x->t);
    expect(x->fired == (removed ? 0 : 1), "removed and fired, or neither");
    x->gone = true;
  });
}

// Timers of several owners in one heap: each fires once.
WEFT_MODEL_WORLD(Timer, HeapOfThree) {
  struct watched {
    sched::timer t;
    int fired = 0;
  };
  auto* x = new watched[3];
  for (int i = 0; i < 3; ++i) {
    x[i].t.arg = &x[i];
    x[i].t.fire = [](sched::timer* t, int64_t) noexcept { ++static_cast<watched*>(t->arg)->fired; };
  }
  auto* removed = new bool(false);
  w.task("early", [=] {
    sched::critical in_runtime;
    x[0].t.when_ns = 3000;
    sched::add_timer(x[0].t);
    *removed = sched::remove_timer(x[0].t);
  });
  w.task("late", [=] {
    sched::critical in_runtime;
    for (int i = 1; i < 3; ++i) {
      x[i].t.when_ns = 3000 - i;
      sched::add_timer(x[i].t);
    }
  });
  w.at_end([=] {
    expect(x[0].fired == (*removed ? 0 : 1), "the removed one");
    expect(x[1].fired == 1 && x[2].fired == 1, "not once each");
  });
}

// The owner pushes and pops, thieves take half: every task is taken once.
WEFT_MODEL_WORLD(RunQueue, OwnerAndThieves) {
  struct shared {
    sched::run_queue queue;
    sched::task tasks[4];
    int taken[4] = {};
    void got(const sched::task* t) { expect(++taken[t - tasks] == 1, "a task was taken twice"); }
  };
  auto* s = new shared;
  w.task("owner", [=] {
    for (int i = 0; i < 3; ++i) expect(s->queue.push(&s->tasks[i]), "full");
    if (sched::task* t = s->queue.pop()) s->got(t);
    expect(s->queue.push(&s->tasks[3]), "full");
    while (sched::task* t = s->queue.pop()) s->got(t);
  });
  for (const char* name : {"thief 1", "thief 2"}) {
    w.task(name, [=] {
      sched::task* out[4];
      uint32_t n = s->queue.grab_half(out, 4);
      for (uint32_t i = 0; i < n; ++i) s->got(out[i]);
    });
  }
  w.at_end([=] {
    for (int n : s->taken) expect(n == 1, "a task was lost");
  });
}

// [R1] Whoever is inside a critical section has the processor for himself.
WEFT_MODEL_WORLD(Retake, ProcessorHasOneUser) {
  struct shared {
    sched::processor p;
    const char* user = nullptr;
    int visits = 0;
    void use(const char* name) {
      expect(user == nullptr, "two threads use one processor");
      user = name;
      step();
      user = nullptr;
      ++visits;
    }
  };
  auto* s = new shared;
  sched::g_sched.idle_processors = nullptr;
  w.task("task", [=] {
    watch_own_thread();
    sched::acquire(sched::self(), &s->p);
    for (int i = 0; i < 2; ++i) {
      sched::enter();
      expect(sched::self()->p.load() == &s->p, "inside without a processor");
      s->use("task");
      sched::leave();
      step();
    }
  });
  w.task("monitor", [=] {
    for (int i = 0; i < 2; ++i) {
      if (!sched::retake(&s->p, s->p.tick.load())) continue;
      s->use("monitor");
      sched::hand_off(&s->p);
    }
  });
  w.at_end([=] { expect(s->visits >= 2, "visits"); });
}

// The same with a thread that gives the processor up itself.
WEFT_MODEL_WORLD(Retake, MeetsABlockingCall) {
  struct shared {
    sched::processor p;
    const char* user = nullptr;
    void use(const char* name) {
      expect(user == nullptr, "two threads use one processor");
      user = name;
      step();
      user = nullptr;
    }
  };
  auto* s = new shared;
  sched::g_sched.idle_processors = nullptr;
  w.task("task", [=] {
    watch_own_thread();
    sched::acquire(sched::self(), &s->p);
    sched::enter();
    sched::begin_blocking();
    step();
    sched::enter();
    expect(sched::self()->p.load() == &s->p, "inside without a processor");
    s->use("task");
    sched::leave();
  });
  w.task("monitor", [=] {
    if (!sched::retake(&s->p, s->p.tick.load())) return;
    s->use("monitor");
    sched::hand_off(&s->p);
  });
}

}  // namespace
}  // namespace weft::model
