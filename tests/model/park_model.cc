// Model of parking (scheduler/scheduler.cc) under a select with a deadline (runtime/select.cc).
//
// The task waits on two channels and a timer. "switcher" is the context that its worker runs next:
// it marks the task waiting and carries out the commit step. Two senders, the timer heap (which may
// also run the function of an after(), sending to channel 0 inside the heap's lock) and a dump that
// claims the task meet it at every point. All shared words are guarded by locks or changed by
// locked instructions.
#include "tests/model/check.h"

namespace weft::model {
namespace {

struct park_rules {
  bool after = true;  // the timer thread runs a sending function first
  // Mutants.
  bool late_status = false;        // waiting is set after the commit step
  bool timer_under_locks = false;  // the timer is added while the channels are locked
  bool timer_before_park = false;  // the timer is added by the task, before it leaves its stack
  bool no_arming = false;          // the task does not wait for the end of the commit step
  bool unclaimed_wake = false;     // a sender wakes without winning the claim
  bool claim_ignored = false;      // the task goes on while a dump holds its claim
  bool waiters_kept = false;       // the task leaves without taking its other waiters off
};

class park_world {
 public:
  static constexpr int threads = 6;
  enum who : int { task, switcher, sender_0, sender_1, timers, dump };
  enum function : uint8_t { task_f, switcher_f, send_f, timers_f, dump_f };
  enum status : uint8_t { running, waiting, runnable };

  struct thread {
    control<2> at;
    uint8_t channel, won, again;
  };
  struct state {
    tso_memory<threads, 1, 1> memory;  // unused: see above
    uint8_t status, claim, winner, arming, off_stack, switched, frame_alive;
    uint8_t queued[2], channel_lock[2], heap_lock, timer_queued;
    thread of[threads];
  };

  explicit park_world(const park_rules& rules) : rules_(rules) {}

  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.frame_alive = 1;
    s.of[task].at.call(task_f);
    s.of[switcher].at.call(switcher_f);
    s.of[sender_0].at.call(send_f);
    s.of[sender_1].at.call(send_f);
    s.of[sender_1].channel = 1;
    s.of[timers].at.call(timers_f);
    s.of[dump].at.call(dump_f);
    return s;
  }
  bool live(const state& s, int i) const { return !s.of[i].at.ended(); }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"task",     "switcher", "sender 0",
                                            "sender 1", "timers",   "dump"};
    return names[i];
  }
  static const char* word_name(int) { return "unused"; }
  const char* wrong(const state&) const { return nullptr; }
  bool done(const state& s) const {
    for (const thread& th : s.of)
      if (!th.at.ended()) return false;
    return s.winner != 0 && s.queued[0] + s.queued[1] + s.timer_queued + s.claim == 0;
  }
  void run(state& s, int me, turn& t) const {
    switch (s.of[me].at.function[s.of[me].at.depth - 1]) {
      case task_f:
        return run_task(s, me, t);
      case switcher_f:
        return run_switcher(s, me, t);
      case send_f:
        return send(s, me, t);
      case timers_f:
        return run_timers(s, me, t);
      case dump_f:
        return run_dump(s, me, t);
      default:
        t.fail("no such function");
    }
  }

 private:
  static void touch_frame(const state& s, turn& t) {
    if (!s.frame_alive) t.fail("the frame of a select that has returned is touched");
  }
  static void ready(state& s, turn& t) {
    if (s.status != waiting) t.fail("ready() of a task that does not wait");
    s.status = runnable;
  }
  static bool take(uint8_t& lock) {
    if (lock != 0) return false;
    lock = 1;
    return true;
  }

  void run_task(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("select: lock channel 0");
    WEFT_WAIT_UNLESS(take(s.channel_lock[0]));
    WEFT_STEP("select: lock channel 1, queue on both");
    WEFT_WAIT_UNLESS(take(s.channel_lock[1]));
    s.queued[0] = s.queued[1] = 1;
    s.arming = 1;
    if (rules_.timer_before_park) {
      WEFT_STEP("select: add the timer");
      WEFT_WAIT_UNLESS(s.heap_lock == 0);
      s.timer_queued = 1;
    }
    WEFT_STEP("park: switch away");
    s.switched = s.off_stack = 1;
    WEFT_STEP("park: picked from a queue");
    WEFT_WAIT_UNLESS(s.status == runnable && (s.claim == 0 || rules_.claim_ignored));
    if (!s.off_stack) t.fail("a task is resumed that is still on its stack");
    s.status = running;
    s.off_stack = 0;
    if (!rules_.no_arming) {
      WEFT_STEP("select: wait for the end of the commit step");
      WEFT_WAIT_UNLESS(s.arming == 0);
    }
    WEFT_STEP("select: remove the timer");
    WEFT_WAIT_UNLESS(s.heap_lock == 0);
    s.timer_queued = 0;
    if (!rules_.waiters_kept) {
      WEFT_STEP("select: lock channel 0 again");
      WEFT_WAIT_UNLESS(take(s.channel_lock[0]));
      WEFT_STEP("select: lock channel 1 again, leave both queues");
      WEFT_WAIT_UNLESS(take(s.channel_lock[1]));
      s.queued[0] = s.queued[1] = 0;
      s.channel_lock[0] = s.channel_lock[1] = 0;
    }
    s.frame_alive = 0;
    WEFT_END
  }

  void run_switcher(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("switch: mark the task waiting");
    WEFT_WAIT_UNLESS(s.switched);
    if (!rules_.late_status) s.status = waiting;
    if (rules_.timer_under_locks) {
      WEFT_STEP("commit: lock the timer heap");
      WEFT_WAIT_UNLESS(take(s.heap_lock));
      touch_frame(s, t);
      s.timer_queued = 1;
      WEFT_STEP("commit: unlock the timer heap");
      s.heap_lock = 0;
    }
    WEFT_STEP("commit: unlock channel 0");
    s.channel_lock[0] = 0;
    WEFT_STEP("commit: unlock channel 1");
    s.channel_lock[1] = 0;
    if (!rules_.timer_under_locks && !rules_.timer_before_park) {
      WEFT_STEP("commit: add the timer");
      WEFT_WAIT_UNLESS(s.heap_lock == 0);
      touch_frame(s, t);
      s.timer_queued = 1;
    }
    WEFT_STEP("commit: the frame is the task's again");
    if (!rules_.timer_under_locks && !rules_.timer_before_park) touch_frame(s, t);
    s.arming = 0;
    if (rules_.late_status) {
      WEFT_STEP("switch: mark the task waiting, late");
      s.status = waiting;
    }
    WEFT_END
  }

  void send(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("send: lock the channel");
    WEFT_WAIT_UNLESS(take(s.channel_lock[th.channel]));
    WEFT_STEP("send: pop the waiter, win the claim");
    th.won = 0;
    if (s.queued[th.channel]) {
      touch_frame(s, t);
      s.queued[th.channel] = 0;
      if (s.winner == 0) {
        s.winner = static_cast<uint8_t>(th.channel + 1);
        th.won = 1;
      }
      if (rules_.unclaimed_wake) th.won = 1;
    }
    WEFT_STEP("send: unlock the channel");
    s.channel_lock[th.channel] = 0;
    if (th.won) {
      WEFT_STEP("send: ready the task");
      ready(s, t);
    }
    WEFT_END
  }

  void run_timers(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    if (rules_.after) {
      WEFT_STEP("timers: lock the heap for an after()");
      WEFT_WAIT_UNLESS(take(s.heap_lock));
      WEFT_CALL(send_f);
      WEFT_STEP("timers: unlock the heap after an after()");
      s.heap_lock = 0;
    }
    WEFT_STEP("timers: lock the heap, pop the deadline");
    if (!s.frame_alive) WEFT_RETURN;
    WEFT_WAIT_UNLESS(s.timer_queued && s.heap_lock == 0);
    s.heap_lock = 1;
    s.timer_queued = 0;
    WEFT_STEP("timers: the deadline claims the wait");
    touch_frame(s, t);
    th.won = s.winner == 0;
    if (th.won) {
      s.winner = 3;
      WEFT_STEP("timers: ready the task");
      ready(s, t);
    }
    WEFT_STEP("timers: unlock the heap");
    s.heap_lock = 0;
    WEFT_END
  }

  void run_dump(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("dump: claim the task if it waits or is queued");
    if (s.status == running) WEFT_RETURN;
    s.claim = 1;
    WEFT_STEP("dump: read its stack");
    if (s.status == running || !s.off_stack) t.fail("a stack is read while it executes");
    WEFT_STEP("dump: give the claim back");
    s.claim = 0;
    WEFT_END
  }

  park_rules rules_;
};

park_rules select_alone() {
  park_rules r;
  r.after = false;
  return r;
}

TEST(park_model, select_with_deadline) {
  expect_right(park_world({}));
  expect_right(park_world(select_alone()));
}

TEST(park_model, mutant_status_set_after_commit) {
  expect_mutant_wrong<park_world>({}, &park_rules::late_status, "does not wait");
}

TEST(park_model, mutant_timer_added_before_the_park) {
  expect_mutant_wrong<park_world>(select_alone(), &park_rules::timer_before_park, "does not wait");
}

// A timer's function that sends to a channel of the select held the heap's lock and wanted the
// channel's; the commit step held the channel's and wanted the heap's.
TEST(park_model, mutant_timer_added_under_the_channel_locks) {
  expect_mutant_wrong<park_world>({}, &park_rules::timer_under_locks, "nobody can go on");
}

TEST(park_model, mutant_frame_left_during_the_commit_step) {
  expect_mutant_wrong<park_world>({}, &park_rules::no_arming, "frame");
}

TEST(park_model, mutant_woken_without_the_claim) {
  expect_mutant_wrong<park_world>({}, &park_rules::unclaimed_wake, "does not wait");
}

TEST(park_model, mutant_resumed_under_a_dumps_claim) {
  expect_mutant_wrong<park_world>({}, &park_rules::claim_ignored, "while it executes");
}

TEST(park_model, mutant_waiters_left_on_other_channels) {
  expect_mutant_wrong<park_world>({}, &park_rules::waiters_kept, "frame");
}

// Joining: the joiner registers under the lock of the meeting point, which its commit step
// releases; the finisher marks the end and takes the joiner under the same lock. A foreign thread
// joins through its park word, which the finisher sets whether or not the joiner already waits for
// it. With limits: cancel_model.cc.
struct join_rules {
  bool foreign = false;
  bool checked_before = false;  // mutant: the joiner does not look again under the lock
  bool word_cleared_late =
      false;  // mutant: the foreign thread clears its park word after registering
};

class join_world {
 public:
  static constexpr int threads = 2;
  enum who : int { joiner, finisher };
  enum word : int { finished, park_word };
  struct thread {
    control<1> at;
    uint8_t seen;
  };
  struct state {
    tso_memory<threads, 2, 3> memory;
    uint8_t waiting, readied, lock, registered;
    thread of[threads];
  };
  explicit join_world(const join_rules& rules) : rules_(rules) {}
  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.of[joiner].at.call(joiner);
    s.of[finisher].at.call(finisher);
    return s;
  }
  bool live(const state& s, int i) const { return !s.of[i].at.ended(); }
  static const char* thread_name(int i) { return i == joiner ? "joiner" : "finisher"; }
  static const char* word_name(int i) { return i == finished ? "finished" : "park_word"; }
  const char* wrong(const state&) const { return nullptr; }
  bool done(const state& s) const {
    return s.of[joiner].at.ended() && s.of[finisher].at.ended() && s.memory.words[park_word] == 0;
  }
  void run(state& s, int me, turn& t) const {
    return me == joiner ? join(s, me, t) : finish(s, me, t);
  }

 private:
  bool take_lock(state& s, int me) const {
    if (s.lock != 0) return false;
    s.lock = 1;
    s.memory.fence(me);  // a locked instruction
    return true;
  }

  void join(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("wait: done already?");
    if (s.memory.load(me, finished)) WEFT_RETURN;
    WEFT_STEP("wait: lock, look again, register");
    WEFT_WAIT_UNLESS(take_lock(s, me));
    if (!rules_.checked_before && s.memory.load(me, finished)) {
      s.lock = 0;
      WEFT_RETURN;
    }
    s.registered = 1;
    WEFT_STEP("park: waiting");
    s.waiting = 1;
    WEFT_STEP("commit: unlock");
    s.lock = 0;
    if (rules_.word_cleared_late) {
      WEFT_STEP("park: clear the word before waiting");
      s.memory.store(me, park_word, 0);
    }
    WEFT_STEP("park: asleep");
    WEFT_WAIT_UNLESS(rules_.foreign ? s.memory.load(me, park_word) == 1 : s.readied);
    if (rules_.foreign) s.memory.store(me, park_word, 0);
    s.waiting = 0;
    WEFT_END
  }
  void finish(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("finish: lock, mark the end, take the joiner");
    WEFT_WAIT_UNLESS(take_lock(s, me));
    s.memory.store(me, finished, 1);
    th.seen = s.registered;
    // Releasing the lock is a plain store, behind the mark in this thread's buffer: whoever takes
    // the lock then sees the mark.
    WEFT_STEP("finish: unlock");
    s.memory.fence(me);
    s.lock = 0;
    if (th.seen) {
      WEFT_STEP("finish: ready the joiner");
      if (!s.waiting) t.fail("ready() of a task that does not wait");
      if (rules_.foreign)
        s.memory.store(me, park_word, 1);
      else
        s.readied = 1;
    }
    WEFT_END
  }
  join_rules rules_;
};

TEST(park_model, join) {
  join_rules r;
  expect_right(join_world(r));
  r.foreign = true;
  expect_right(join_world(r));
}

TEST(park_model, mutant_join_does_not_look_again) {
  expect_mutant_wrong<join_world>({}, &join_rules::checked_before);
}

TEST(park_model, mutant_foreign_clears_its_park_word_late) {
  join_rules r;
  r.foreign = r.word_cleared_late = true;
  expect_wrong(join_world(r));
}

}  // namespace
}  // namespace weft::model
