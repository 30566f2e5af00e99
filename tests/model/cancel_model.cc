// Model of a wait that a waker, a deadline and a cancellation race to end (runtime/timed_wait.cc,
// cancel_source.h).
//
// The task queues on a list; "switcher" is the context that its worker runs next: it marks the task
// waiting and carries out the commit step, which unlocks the list, adds the timer and subscribes to
// the source. The waker has one value to give: it goes to the waiter whose claim the waker wins, or
// stays with the list. All shared words are guarded by locks or changed by locked instructions.
#include "tests/model/check.h"

namespace weft::model {
namespace {

struct cancel_rules {
  bool wakes = true, timed = true, cancels = true;  // who is there
  // Mutants.
  bool subscribed_before_park = false;  // by the task, while it is still on its stack
  bool refusal_ignored = false;         // a source that is cancelled already is taken for open
  bool refusal_unclaimed = false;       // the task goes on after a refusal without the claim
  bool no_arming = false;               // the task does not wait for the end of the commit step
  bool not_unsubscribed = false;        // the task leaves the source's list to itself
  bool fired_outside_lock = false;      // so that unsubscribing does not wait for it
  bool given_before_claim = false;      // the waker moves the value, then claims
  bool left_queued = false;             // a wait that a limit ended stays on the list
  bool marked_after_firing = false;     // the source is marked when its listeners have been called
};

class cancel_world {
 public:
  static constexpr int threads = 5;
  enum who : int { task, switcher, waker, timers, canceller };
  enum status : uint8_t { running, waiting, runnable };
  enum end : uint8_t { nobody, by_waker, by_deadline, by_cancel };

  struct thread {
    control<1> at;
    uint8_t won;
  };
  struct state {
    tso_memory<threads, 1, 1> memory;  // unused: see above
    uint8_t status, winner, arming, off_stack, switched, frame_alive, stays;
    uint8_t list_lock, queued, heap_lock, timer_queued;
    uint8_t source_lock, cancelled, listening;
    uint8_t kept, given, got;  // the waker's value
    thread of[threads];
  };

  explicit cancel_world(const cancel_rules& rules) : rules_(rules) {}

  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.frame_alive = s.stays = 1;
    for (int i = 0; i < threads; ++i) {
      if ((i == waker && !rules_.wakes) || (i == timers && !rules_.timed) ||
          (i == canceller && !rules_.cancels))
        continue;
      s.of[i].at.call(static_cast<uint8_t>(i));
    }
    return s;
  }
  bool live(const state& s, int i) const { return !s.of[i].at.ended(); }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"task", "switcher", "waker", "timers", "canceller"};
    return names[i];
  }
  static const char* word_name(int) { return "unused"; }
  const char* wrong(const state&) const { return nullptr; }
  bool done(const state& s) const {
    for (const thread& th : s.of)
      if (!th.at.ended()) return false;
    const int values = rules_.wakes ? 1 : 0;
    return s.winner != nobody && s.given == s.got && s.kept + s.got == values &&
           s.queued + s.timer_queued + s.listening == 0;
  }
  void run(state& s, int me, turn& t) const {
    switch (me) {
      case task:
        return run_task(s, me, t);
      case switcher:
        return run_switcher(s, me, t);
      case waker:
        return run_waker(s, me, t);
      case timers:
        return run_timers(s, me, t);
      default:
        return run_canceller(s, me, t);
    }
  }

 private:
  static void touch_frame(const state& s, turn& t) {
    if (!s.frame_alive) t.fail("the frame of a wait that has ended is touched");
  }
  static void ready(state& s, turn& t) {
    if (s.status != waiting) t.fail("ready() of a task that does not wait");
    s.status = runnable;
  }
  static bool claim(state& s, end by, turn& t) {
    touch_frame(s, t);
    if (s.winner != nobody) return false;
    s.winner = by;
    return true;
  }
  static bool take(uint8_t& lock) {
    if (lock != 0) return false;
    lock = 1;
    return true;
  }

  void run_task(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("wait: lock the list, queue");
    WEFT_WAIT_UNLESS(take(s.list_lock));
    s.queued = s.arming = 1;
    if (rules_.subscribed_before_park) {
      WEFT_STEP("wait: subscribe");
      WEFT_WAIT_UNLESS(s.source_lock == 0);
      s.listening = s.cancelled == 0;
    }
    WEFT_STEP("park: switch away");
    s.switched = s.off_stack = 1;
    WEFT_STEP("park: picked from a queue");
    WEFT_WAIT_UNLESS(s.status == runnable);
    if (!s.off_stack) t.fail("a task is resumed that is still on its stack");
    s.status = running;
    s.off_stack = 0;
    if (!rules_.no_arming) {
      WEFT_STEP("wait: wait for the end of the commit step");
      WEFT_WAIT_UNLESS(s.arming == 0);
    }
    WEFT_STEP("wait: remove the timer");
    WEFT_WAIT_UNLESS(s.heap_lock == 0);
    s.timer_queued = 0;
    if (!rules_.not_unsubscribed) {
      WEFT_STEP("wait: unsubscribe");
      WEFT_WAIT_UNLESS(s.source_lock == 0);
      s.listening = 0;
    }
    if (s.winner == by_waker) {
      s.got = s.given;
    } else if (!rules_.left_queued) {
      WEFT_STEP("wait: lock the list again, leave it");
      WEFT_WAIT_UNLESS(s.list_lock == 0);
      s.queued = 0;
    }
    s.frame_alive = 0;
    WEFT_END
  }

  void run_switcher(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("switch: mark the task waiting");
    WEFT_WAIT_UNLESS(s.switched);
    s.status = waiting;
    WEFT_STEP("commit: unlock the list");
    s.list_lock = 0;
    if (rules_.timed) {
      WEFT_STEP("commit: add the timer");
      WEFT_WAIT_UNLESS(s.heap_lock == 0);
      touch_frame(s, t);
      s.timer_queued = 1;
    }
    if (!rules_.subscribed_before_park) {
      WEFT_STEP("commit: subscribe");
      WEFT_WAIT_UNLESS(s.source_lock == 0);
      touch_frame(s, t);
      th.won = s.cancelled && !rules_.refusal_ignored;
      s.listening = !s.cancelled;
      if (th.won) {
        WEFT_STEP("commit: refused; claim the wait");
        s.stays = !claim(s, by_cancel, t) && !rules_.refusal_unclaimed;
      }
    }
    WEFT_STEP("commit: the frame is the task's again");
    touch_frame(s, t);
    s.arming = 0;
    if (!s.stays) {
      WEFT_STEP("switch: the task goes on at once");
      ready(s, t);
    }
    WEFT_END
  }

  void run_waker(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("wake: lock the list, pop the waiter");
    WEFT_WAIT_UNLESS(take(s.list_lock));
    th.won = s.queued;
    s.queued = 0;
    if (th.won) {
      WEFT_STEP("wake: claim the wait, give the value");
      if (rules_.given_before_claim) s.given = 1;
      th.won = claim(s, by_waker, t);
      if (th.won) s.given = 1;
    }
    WEFT_STEP("wake: unlock the list");
    s.kept = !s.given;
    s.list_lock = 0;
    if (th.won) {
      WEFT_STEP("wake: ready the task");
      ready(s, t);
    }
    WEFT_END
  }

  void run_timers(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("timers: lock the heap, pop the deadline");
    if (!s.frame_alive) WEFT_RETURN;
    WEFT_WAIT_UNLESS(s.timer_queued && s.heap_lock == 0);
    s.heap_lock = 1;
    s.timer_queued = 0;
    WEFT_STEP("timers: claim the wait");
    th.won = claim(s, by_deadline, t);
    if (th.won) {
      WEFT_STEP("timers: ready the task");
      ready(s, t);
    }
    WEFT_STEP("timers: unlock the heap");
    s.heap_lock = 0;
    WEFT_END
  }

  void run_canceller(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    if (!rules_.marked_after_firing) {
      WEFT_STEP("cancel: mark the source");
      WEFT_WAIT_UNLESS(s.source_lock == 0);
      s.cancelled = 1;
    }
    WEFT_STEP("cancel: lock the source, take a listener");
    WEFT_WAIT_UNLESS(take(s.source_lock));
    th.won = s.listening;
    s.listening = 0;
    if (rules_.fired_outside_lock) s.source_lock = 0;
    if (th.won) {
      WEFT_STEP("cancel: claim the wait");
      th.won = claim(s, by_cancel, t);
      if (th.won) {
        WEFT_STEP("cancel: ready the task");
        ready(s, t);
      }
    }
    if (!rules_.fired_outside_lock) {
      WEFT_STEP("cancel: unlock the source");
      s.source_lock = 0;
    }
    if (rules_.marked_after_firing) {
      WEFT_STEP("cancel: mark the source, late");
      WEFT_WAIT_UNLESS(s.source_lock == 0);
      s.cancelled = 1;
    }
    WEFT_END
  }

  cancel_rules rules_;
};

cancel_rules cancelled_alone() {
  cancel_rules r;
  r.wakes = r.timed = false;
  return r;
}

TEST(cancel_model, one_end_and_nothing_lost) {
  for (int who = 1; who < 8; ++who) {
    cancel_rules r;
    r.wakes = (who & 1) != 0;
    r.timed = (who & 2) != 0;
    r.cancels = (who & 4) != 0;
    // A waker that comes first finds nobody to wake: alone it would leave the task waiting.
    if (who == 1) continue;
    expect_right(cancel_world(r));
  }
}

TEST(cancel_model, mutant_subscribed_before_the_park) {
  expect_mutant_wrong<cancel_world>({}, &cancel_rules::subscribed_before_park, "does not wait");
}

TEST(cancel_model, mutant_refusal_ignored) {
  expect_mutant_wrong<cancel_world>(cancelled_alone(), &cancel_rules::refusal_ignored,
                                    "nobody can go on");
}

TEST(cancel_model, mutant_goes_on_without_the_claim) {
  expect_mutant_wrong<cancel_world>({}, &cancel_rules::refusal_unclaimed, "does not wait");
}

TEST(cancel_model, mutant_frame_left_during_the_commit_step) {
  expect_mutant_wrong<cancel_world>({}, &cancel_rules::no_arming, "frame");
}

TEST(cancel_model, mutant_not_unsubscribed) {
  expect_mutant_wrong<cancel_world>({}, &cancel_rules::not_unsubscribed, "frame");
}

TEST(cancel_model, mutant_listener_called_outside_the_lock) {
  expect_mutant_wrong<cancel_world>({}, &cancel_rules::fired_outside_lock, "frame");
}

TEST(cancel_model, mutant_value_given_before_the_claim) {
  expect_mutant_wrong<cancel_world>({}, &cancel_rules::given_before_claim, "nobody can go on");
}

TEST(cancel_model, mutant_left_on_the_list) {
  expect_mutant_wrong<cancel_world>({}, &cancel_rules::left_queued, "frame");
}

// A wait that subscribes between the two is called by nobody.
TEST(cancel_model, mutant_marked_after_the_listeners_were_called) {
  expect_mutant_wrong<cancel_world>(cancelled_alone(), &cancel_rules::marked_after_firing,
                                    "nobody can go on");
}

}  // namespace
}  // namespace weft::model
