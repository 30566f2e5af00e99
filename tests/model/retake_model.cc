// Model of [R1] in scheduler/retake.cc: a thread enters and leaves the runtime with plain stores
// while the monitor, and a thread that stops the world, try to take its processor.
//
// Two processors, 1 and 2. The hog's task enters the runtime some times; inside it may switch to
// another task or begin a blocking call. The others want processor 1, which the hog holds at first;
// who takes it puts it on the idle list, from where the hog and a second worker acquire. "Uses P"
// is any access to data that belongs to the processor's holder.
//
// by_signal: the fence of the hog's thread comes from a signal handler there, whose answer the
// others await (thread_signal.cc). The handler is a thread of the model that drains the hog's store
// buffer, so it may be slower than a real one, which holds the hog up.
#include "tests/model/check.h"

namespace weft::model {
namespace {

enum steal_value { keep, wanted, taking, gone };

struct retake_rules {
  int rounds = 2;            // entries into the runtime
  int attempts[2] = {2, 1};  // of the monitor and of the stopper
  // Variants and mutants.
  bool no_membarrier = false;
  bool crit_first = false;  // crit is read before steal is set
  bool tick_unchecked = false;
  bool holder_unchecked = false;
  bool retakes_overlap = false;  // two threads may be inside retake() at once
  bool early_gone = false;       // begin_blocking sets steal before it releases the processor
  bool late_gone = false;        // begin_blocking clears crit before it sets steal
  bool early_leave = false;      // begin_blocking clears crit before it releases the processor
  bool enter_ignores_wanted = false;
  bool tick_kept = false;   // acquiring a processor leaves its tick as it was
  bool plain_take = false;  // taking is stored, not compared and set
  bool by_signal = false;
  bool answer_not_awaited = false;
  bool ticket_first = false;      // the ticket is drawn before steal is set
  bool answer_is_a_flag = false;  // cleared by who asks, instead of a ticket
};

class retake_world {
 public:
  static constexpr int threads = 5;
  enum who : int { hog, monitor, stopper, worker, handler, nobody = 9 };
  enum word : int { crit, steal, has_p, tick, tick_2, ticket, passed };
  enum function : uint8_t { hog_f, enter_f, retaker_f, worker_f, handler_f };

  struct thread {
    control<2> at;
    uint8_t count, seen_tick, seen_task, value, passed, p, ticket;
  };
  struct state {
    tso_memory<threads, 7, 4> memory;
    uint8_t holder[3];  // of processors 1 and 2: a thread, or nobody while it is idle
    uint8_t task;       // which task the hog runs
    uint8_t retaking;   // thread inside retake(), + 1
    uint8_t signalled;  // a signal to the hog's thread is pending
    thread of[threads];
  };

  explicit retake_world(const retake_rules& rules) : rules_(rules) {}

  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.holder[1] = hog;
    s.holder[2] = nobody;
    s.memory.words[has_p] = 1;
    s.of[hog].p = 1;
    s.of[hog].at.call(hog_f);
    s.of[hog].count = static_cast<uint8_t>(rules_.rounds);
    for (int i = 0; i < 2; ++i) {
      s.of[monitor + i].at.call(retaker_f);
      s.of[monitor + i].count = static_cast<uint8_t>(rules_.attempts[i]);
    }
    s.of[worker].at.call(worker_f);
    if (rules_.by_signal) s.of[handler].at.call(handler_f);
    return s;
  }
  bool live(const state& s, int i) const { return !s.of[i].at.ended(); }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"hog", "monitor", "stopper", "worker", "handler"};
    return names[i];
  }
  static const char* word_name(int i) {
    static constexpr const char* names[] = {"crit",      "steal",  "p",     "tick of 1",
                                            "tick of 2", "ticket", "passed"};
    return names[i];
  }
  const char* wrong(const state&) const { return nullptr; }
  bool done(const state& s) const {
    for (int i = 0; i < handler; ++i)
      if (!s.of[i].at.ended()) return false;
    for (int p = 1; p <= 2; ++p)
      if (s.holder[p] != nobody && (s.holder[p] != hog || s.memory.words[has_p] != p)) return false;
    return true;
  }

  void run(state& s, int me, turn& t) const {
    switch (s.of[me].at.function[s.of[me].at.depth - 1]) {
      case hog_f:
        return run_hog(s, me, t);
      case enter_f:
        return enter(s, me, t);
      case retaker_f:
        return retake(s, me, t);
      case worker_f:
        return run_worker(s, me, t);
      case handler_f:
        return handle_signals(s, me, t);
      default:
        t.fail("no such function");
    }
  }

 private:
  static void use_p(state& s, int me, turn& t) {
    if (s.holder[s.of[me].p] != me) t.fail("a thread uses a processor that it does not hold");
  }
  static void give_away(state& s, int me, turn& t) {
    uint8_t& holder = s.holder[s.of[me].p];
    if (holder != me) t.fail("a processor is given away by a thread that does not hold it");
    holder = nobody;
  }
  // Under the scheduler's lock. False if the chosen one is not idle.
  static bool take_idle(state& s, int me, int p) {
    if (s.holder[p] != nobody) return false;
    s.holder[p] = static_cast<uint8_t>(me);
    s.of[me].p = static_cast<uint8_t>(p);
    return true;
  }

  void run_hog(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    while (th.count > 0) {
      --th.count;
      WEFT_CALL(enter_f);
      WEFT_STEP("inside: uses P");
      use_p(s, me, t);
      th.value = static_cast<uint8_t>(t.choose(3));
      if (th.value == 1) {
        WEFT_STEP("inside: switches to another task");
        use_p(s, me, t);
        ++s.task;
        s.memory.store(me, tick + th.p - 1, s.memory.load(me, tick + th.p - 1) + 1);
      }
      if (th.value < 2) {
        WEFT_STEP("leave: crit = 0");
        s.memory.store(me, crit, 0);
        continue;
      }
      if (rules_.early_gone) {
        WEFT_STEP("begin_blocking: steal = gone");
        s.memory.store(me, steal, gone);
      }
      if (rules_.early_leave) {
        WEFT_STEP("begin_blocking: crit = 0");
        s.memory.store(me, crit, 0);
      }
      WEFT_STEP("begin_blocking: release P");
      s.memory.store(me, has_p, 0);
      if (rules_.late_gone) {
        WEFT_STEP("begin_blocking: crit = 0");
        s.memory.store(me, crit, 0);
      }
      if (!rules_.early_gone) {
        WEFT_STEP("begin_blocking: steal = gone");
        s.memory.store(me, steal, gone);
      }
      WEFT_STEP("begin_blocking: hand off P");  // under the scheduler's lock
      s.memory.fence(me);
      give_away(s, me, t);
      if (!rules_.early_leave && !rules_.late_gone) {
        WEFT_STEP("begin_blocking: crit = 0");
        s.memory.store(me, crit, 0);
      }
    }
    WEFT_END
  }

  void enter(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("enter: crit = 1");
    s.memory.store(me, crit, 1);
    WEFT_STEP("enter: read steal");
    th.value = static_cast<uint8_t>(s.memory.load(me, steal));
    while (th.value != keep) {
      if (th.value == wanted) {
        if (rules_.enter_ignores_wanted) WEFT_RETURN;
        WEFT_STEP("slow enter: wanted -> keep");
        if (s.memory.cas(me, steal, wanted, keep)) {
          WEFT_STEP("slow enter: gives way to another task");
          use_p(s, me, t);
          ++s.task;
          s.memory.store(me, tick + th.p - 1, s.memory.load(me, tick + th.p - 1) + 1);
          WEFT_RETURN;
        }
      }
      if (th.value == gone) {
        WEFT_STEP("reacquire: steal = keep");
        s.memory.store(me, steal, keep);
        // The task may be queued and continue elsewhere; the model lets it wait for the processor.
        WEFT_STEP("reacquire: take the idle P");
        s.memory.fence(me);
        WEFT_WAIT_UNLESS(take_idle(s, me, 1 + t.choose(2)));
        if (!rules_.tick_kept) {
          WEFT_STEP("reacquire: a new slice");
          s.memory.store(me, tick + th.p - 1, s.memory.load(me, tick + th.p - 1) + 1);
        }
        WEFT_STEP("reacquire: p = P");
        s.memory.store(me, has_p, th.p);
        WEFT_RETURN;
      }
      WEFT_STEP("slow enter: read steal");
      WEFT_WAIT_UNLESS(s.memory.load(me, steal) != th.value || th.value == wanted);
      th.value = static_cast<uint8_t>(s.memory.load(me, steal));
    }
    WEFT_END
  }

  void retake(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    while (th.count > 0) {
      --th.count;
      WEFT_STEP("look: read tick");
      th.seen_tick = static_cast<uint8_t>(s.memory.load(me, tick));
      th.seen_task = s.task;
      th.passed = 1;
      if (!rules_.retakes_overlap) {
        WEFT_STEP("retake: is another one under way?");
        if (s.retaking != 0) continue;
        s.retaking = static_cast<uint8_t>(me + 1);
      }
      if (rules_.crit_first) {
        WEFT_STEP("retake: read crit");
        th.passed = s.memory.load(me, crit) == 0;
      }
      if (rules_.by_signal && rules_.answer_is_a_flag) {
        WEFT_STEP("retake: clear the answer");
        s.memory.exchange(me, passed, 0);
      }
      if (rules_.by_signal && rules_.ticket_first) {
        WEFT_STEP("retake: draw a ticket");
        th.ticket = static_cast<uint8_t>(s.memory.add(me, ticket, 1) + 1);
      }
      WEFT_STEP("retake: steal keep -> wanted");
      if (!s.memory.cas(me, steal, keep, wanted)) {
        if (!rules_.retakes_overlap) s.retaking = 0;
        continue;
      }
      if (rules_.by_signal) {
        if (!rules_.ticket_first) {
          WEFT_STEP("retake: draw a ticket");
          th.ticket =
              rules_.answer_is_a_flag ? 1 : static_cast<uint8_t>(s.memory.add(me, ticket, 1) + 1);
        }
        WEFT_STEP("retake: send the signal");
        s.memory.fence(me);
        s.signalled = 1;
        if (!rules_.answer_not_awaited) {
          WEFT_STEP("retake: await the answer, or lose patience");
          th.passed = t.choose(2) == 0;
          WEFT_WAIT_UNLESS(!th.passed || s.memory.load(me, passed) == th.ticket);
        }
      } else if (!rules_.no_membarrier) {
        WEFT_STEP("retake: membarrier");
        s.memory.drain(hog);
      }
      if (th.passed && !rules_.crit_first) {
        WEFT_STEP("retake: read crit");
        th.passed = s.memory.load(me, crit) == 0;
      }
      if (th.passed && !rules_.holder_unchecked) {
        WEFT_STEP("retake: read thread->p");
        th.passed = s.memory.load(me, has_p) == 1;
      }
      if (th.passed && !rules_.tick_unchecked) {
        WEFT_STEP("retake: read tick");
        th.passed = s.memory.load(me, tick) == th.seen_tick;
      }
      if (!th.passed) {
        WEFT_STEP("retake: wanted -> keep");
        s.memory.cas(me, steal, wanted, keep);
        if (!rules_.retakes_overlap) s.retaking = 0;
        continue;
      }
      WEFT_STEP("retake: wanted -> taking");
      if (rules_.plain_take)
        s.memory.exchange(me, steal, taking);
      else if (!s.memory.cas(me, steal, wanted, taking)) {
        if (!rules_.retakes_overlap) s.retaking = 0;
        continue;
      }
      if (s.task != th.seen_task) t.fail("the P of a task that has just begun is retaken");
      if (s.holder[1] != hog) t.fail("a P is retaken from a thread that does not hold it");
      s.holder[1] = static_cast<uint8_t>(me);
      th.p = 1;
      WEFT_STEP("retake: thread->p = null");
      s.memory.store(me, has_p, 0);
      WEFT_STEP("retake: steal = gone");
      s.memory.store(me, steal, gone);
      if (!rules_.retakes_overlap) s.retaking = 0;
      WEFT_STEP("hand off P");
      s.memory.fence(me);
      give_away(s, me, t);
    }
    WEFT_END
  }

  void handle_signals(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    for (;;) {
      WEFT_STEP("handler: read the ticket");
      WEFT_WAIT_UNLESS(s.signalled != 0);
      s.signalled = 0;
      s.memory.drain(hog);
      th.value = rules_.answer_is_a_flag ? 1 : static_cast<uint8_t>(s.memory.load(me, ticket));
      WEFT_STEP("handler: answer");
      s.memory.exchange(me, passed, th.value);
    }
    WEFT_END
  }

  // Takes the processor once, if it ever becomes idle, and gives it back.
  void run_worker(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("worker: take the idle P, or stay away");
    th.value = static_cast<uint8_t>(t.choose(3));
    if (th.value != 0) {
      WEFT_WAIT_UNLESS(take_idle(s, me, th.value));
      WEFT_STEP("worker: uses P");
      use_p(s, me, t);
      WEFT_STEP("worker: hand off P");
      give_away(s, me, t);
    }
    WEFT_END
  }

  retake_rules rules_;
};

TEST(retake_model, enter_leave_and_block) {
  retake_rules r;
  expect_right(retake_world(r));
  if (deep()) {
    r.rounds = 3;
    r.attempts[0] = 1;
    expect_right(retake_world(r));
  }
}

retake_rules signal_rules() {
  retake_rules r;
  r.by_signal = true;
  r.rounds = deep() ? 2 : 1;
  r.attempts[0] = 2;
  r.attempts[1] = deep() ? 1 : 0;
  return r;
}

TEST(retake_model, by_signal) {
  expect_right(retake_world(signal_rules()));
  retake_rules r = signal_rules();
  r.rounds = 2;
  r.attempts[0] = 1;
  r.attempts[1] = 0;
  expect_right(retake_world(r));
}

TEST(retake_model, mutant_signal_not_awaited) {
  expect_mutant_wrong<retake_world>(signal_rules(), &retake_rules::answer_not_awaited);
}

// A late signal of an attempt that was given up answers the next one before its `wanted` is there.
TEST(retake_model, mutant_ticket_before_wanted) {
  expect_mutant_wrong<retake_world>(signal_rules(), &retake_rules::ticket_first);
}

TEST(retake_model, mutant_answer_is_a_flag) {
  expect_mutant_wrong<retake_world>(signal_rules(), &retake_rules::answer_is_a_flag);
}

// Nobody acts on `gone` but the thread that wrote it, and a retaker that finds crit clear finds the
// P released: of the three stores of begin_blocking only "release before crit = 0" matters.
TEST(retake_model, place_of_gone_is_free) {
  retake_rules r;
  if (!deep()) r.attempts[0] = 1;
  r.early_gone = true;
  expect_right(retake_world(r));
  r.early_gone = false;
  r.late_gone = true;
  expect_right(retake_world(r));
}

TEST(retake_model, mutant_no_membarrier) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::no_membarrier);
}

TEST(retake_model, mutant_crit_checked_before_steal_is_set) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::crit_first);
}

TEST(retake_model, mutant_tick_unchecked) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::tick_unchecked);
}

// A task that came back from a blocking call to a processor with an old tick was taken for the hog
// that the monitor had seen there before.
TEST(retake_model, mutant_tick_kept_on_acquire) {
  if (!deep()) GTEST_SKIP() << "needs WEFT_MODEL_DEEP=1";
  retake_rules r;
  r.rounds = 3;
  r.attempts[0] = 1;
  r.tick_kept = true;
  expect_wrong(retake_world(r), "just begun");
}

TEST(retake_model, mutant_holder_unchecked) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::holder_unchecked);
}

TEST(retake_model, mutant_blocking_leaves_before_its_release) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::early_leave);
}

TEST(retake_model, mutant_enter_ignores_wanted) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::enter_ignores_wanted);
}

TEST(retake_model, mutant_taking_is_a_plain_store) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::plain_take);
}

// The monitor checked crit, the thread refused it and came back, the stopper set `wanted` anew, and
// the monitor took that for its own.
TEST(retake_model, mutant_two_retakes_at_once) {
  expect_mutant_wrong<retake_world>({}, &retake_rules::retakes_overlap);
}

}  // namespace
}  // namespace weft::model
