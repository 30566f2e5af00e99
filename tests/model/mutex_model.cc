// Model of weft::mutex (runtime/mutex.cc): up to three tasks lock, give up at their deadline, and
// unlock.
//
// The word is that of the mutex: three flags, the number of waiters and who holds it.
//
// Every access to state_ and every section under the queue's lock is one step. A deadline may pass
// at any moment of a timed wait; "has waited long enough to starve" is decided freely at every
// wake-up.
#include "tests/model/check.h"

namespace weft::model {
namespace {

constexpr int locked = 1, woken_bit = 2, starving_bit = 4, waiter_one = 8, owner_one = 32;
constexpr int owner_bits = 3 * owner_one, waiter_bits = owner_one - waiter_one;

constexpr int waiters_of(int word) { return (word & waiter_bits) / waiter_one; }
constexpr int owned_by(int task) { return locked | (task + 1) * owner_one; }

struct mutex_rules {
  int rounds[3] = {1, 1, 1};  // lock/unlock pairs per task
  bool timed[3] = {};         // whether the task's locks have a deadline
  int spins = 1;              // busy-waiting rounds per lock
  bool starvation = true;     // waiters may become impatient
  // Mutants.
  bool always_decrement = false;   // a timed-out waiter always takes itself out of the count
  bool ignore_late_token = false;  // it never accepts a token after its deadline
  bool unlock_between = false;  // the queue's lock is released between the deadline and the erase
  bool forget_outside = false;  // the count is changed after the queue's lock was released
  bool blind_handover = false;  // the new owner adds a difference computed from an old state_
  bool starving_kept = false;   // a lock handed over to the last waiter leaves the starving bit set
  bool woken_kept = false;      // a woken waiter that queues again leaves the woken bit set
  bool owner_kept = false;      // unlock leaves the owner's name behind when others wait
  bool two_steps = false;       // unlock gives the mutex up before it decides whom to wake
};

class mutex_world {
 public:
  static constexpr int threads = 3;
  enum function : uint8_t { main_f, lock_f, acquire_f, unlock_f, release_f };
  enum claim : uint8_t { nobody, waker, deadline };

  struct task {
    control<4> at;
    uint8_t rounds, result, holding, unlocking;
    uint8_t old, since, starving, woken, expired, round;  // lock_until
    uint8_t lifo, limited, late;                          // sleep_queue::acquire
    uint8_t waiting, queued, select, claimed, readied;    // its waiter and status
    uint8_t popped;                                       // sleep_queue::release
    uint8_t gave_up;  // no longer holds the mutex, but will touch it again
  };
  struct state {
    tso_memory<threads, 1, 1> memory;  // state_, by locked instructions only
    uint8_t tokens, queue_length, queue_lock;
    uint8_t queue[threads];
    task of[threads];
  };

  explicit mutex_world(const mutex_rules& rules) : rules_(rules) {}

  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    for (int i = 0; i < threads; ++i) {
      s.of[i].at.call(main_f);
      s.of[i].rounds = static_cast<uint8_t>(rules_.rounds[i]);
    }
    return s;
  }
  bool live(const state& s, int i) const { return !s.of[i].at.ended(); }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"A", "B", "C"};
    return names[i];
  }
  static const char* word_name(int) { return "state_"; }

  const char* wrong(const state& s) const {
    int holders = 0;
    bool moving = false;  // somebody may be about to wake others
    for (const task& k : s.of) {
      holders += k.holding;
      if (!k.at.ended() && !k.holding && !k.waiting) moving = true;
    }
    if (holders > 1) return "two tasks hold the mutex";
    const int word = s.memory.words[0];
    if (((word & locked) != 0) != ((word & owner_bits) != 0))
      return "the owner is known while nobody holds the mutex, or unknown while somebody does";
    for (int i = 0; i < threads; ++i) {
      if (s.of[i].holding && (word & owner_bits) != (owned_by(i) & owner_bits))
        return "the word names another owner";
    }
    // Whoever locks it, or waits, must have gone before the mutex may be destroyed.
    for (int i = 0; i < threads; ++i) {
      bool protects = false;
      for (int other = 0; other < threads; ++other)
        protects = protects || (other != i && (s.of[other].holding || is_locking(s.of[other])));
      if (s.of[i].gave_up && !protects) return "unlock touches a mutex that may be gone";
    }
    for (const task& k : s.of) {
      if (k.late && k.waiting && !k.readied && !moving && holders == 1)
        return "a waiter sleeps past its deadline though nobody is on the way to wake it";
    }
    return nullptr;
  }
  bool done(const state& s) const {
    for (const task& k : s.of)
      if (!k.at.ended()) return false;
    return s.memory.words[0] == 0 && s.tokens == 0 && s.queue_length == 0;
  }

  static bool is_locking(const task& k) {
    for (int i = 0; i < k.at.depth; ++i)
      if (k.at.function[i] == lock_f) return true;
    return false;
  }

  void run(state& s, int me, turn& t) const {
    switch (s.of[me].at.function[s.of[me].at.depth - 1]) {
      case main_f:
        return main(s, me, t);
      case lock_f:
        return lock(s, me, t);
      case acquire_f:
        return acquire(s, me, t);
      case unlock_f:
        return unlock(s, me, t);
      case release_f:
        return release(s, me, t);
      default:
        t.fail("no such function");
    }
  }

 private:
  void main(state& s, int me, turn& t) const {
    task& k = s.of[me];
    WEFT_CODE(k.at)
    while (k.rounds > 0) {
      --k.rounds;
      WEFT_CALL(lock_f);
      if (k.result == 0) continue;
      k.holding = 1;
      WEFT_CALL(unlock_f);
    }
    WEFT_END
  }

  int read(const state& s) const { return s.memory.words[0]; }

  void lock(state& s, int me, turn& t) const {
    task& k = s.of[me];
    WEFT_CODE(k.at)
    k.since = k.starving = k.woken = k.expired = k.round = 0;
    WEFT_STEP("lock: fast path");
    k.old = static_cast<uint8_t>(read(s));
    if (k.old == 0) {
      s.memory.words[0] = static_cast<int8_t>(owned_by(me));
      k.result = 1;
      WEFT_RETURN;
    }
    for (;;) {
      WEFT_STEP("lock: compare and set state_");
      if ((k.old & (locked | starving_bit)) == locked && k.round < rules_.spins &&
          t.choose(2) == 1) {
        if (!k.woken && (k.old & woken_bit) == 0 && waiters_of(k.old) != 0 &&
            s.memory.cas(me, 0, k.old, k.old | woken_bit))
          k.woken = 1;
        ++k.round;
        WEFT_STEP("lock: read state_ after spinning");
        k.old = static_cast<uint8_t>(read(s));
        continue;
      }
      if (k.expired && (k.old & (locked | starving_bit)) != 0) {
        if (!s.memory.cas(me, 0, k.old, k.old & ~woken_bit)) {
          k.old = static_cast<uint8_t>(read(s));
          continue;
        }
        k.result = 0;
        WEFT_RETURN;
      }
      if (!s.memory.cas(me, 0, k.old, wanted(k, me))) {
        k.old = static_cast<uint8_t>(read(s));
        continue;
      }
      if ((k.old & (locked | starving_bit)) == 0) {
        k.result = 1;
        WEFT_RETURN;
      }
      k.lifo = k.since;
      k.since = 1;
      k.limited = rules_.timed[me] && !k.expired;
      WEFT_CALL(acquire_f);
      if (k.result == 0) WEFT_RETURN;
      WEFT_STEP("lock: read state_ after waking");
      if (rules_.starvation && !k.starving) k.starving = static_cast<uint8_t>(t.choose(2));
      k.old = static_cast<uint8_t>(read(s));
      if ((k.old & starving_bit) != 0) {
        for (;;) {
          WEFT_STEP("lock: take what was handed over");
          if (rules_.blind_handover || read(s) == k.old) break;
          k.old = static_cast<uint8_t>(read(s));
        }
        s.memory.add(me, 0, delta(k, me));
        k.result = 1;
        WEFT_RETURN;
      }
      k.woken = 1;
      k.round = 0;
    }
    WEFT_END
  }

  int wanted(const task& k, int me) const {
    int want = k.old;
    if ((k.old & (locked | starving_bit)) == 0)
      want |= owned_by(me);
    else
      want += waiter_one;
    if (k.starving && (k.old & locked) != 0) want |= starving_bit;
    if (k.woken && !rules_.woken_kept) want &= ~woken_bit;
    return want;
  }
  int delta(const task& k, int me) const {
    int d = owned_by(me) - waiter_one;
    if (!rules_.starving_kept && (!k.starving || waiters_of(k.old) == 1)) d -= starving_bit;
    return d;
  }

  // One attempt of forget_waiter(); its loop is the caller's step being taken again.
  static bool try_forget(state& s, int me, bool always) {
    int old = s.memory.words[0];
    int waiters = waiters_of(old);
    if (always) {
      s.memory.words[0] = static_cast<int8_t>(waiters == 0 ? old : old - waiter_one);
      return true;
    }
    if (waiters == 0 || (waiters == 1 && (old & (locked | starving_bit)) == starving_bit))
      return false;
    int want = old - waiter_one;
    if (waiters == 1) want &= ~starving_bit;
    return s.memory.cas(me, 0, old, want);
  }

  static void push(state& s, int me, bool front) {
    int n = s.queue_length++;
    if (front) {
      for (int i = n; i > 0; --i) s.queue[i] = s.queue[i - 1];
      n = 0;
    }
    s.queue[n] = static_cast<uint8_t>(me);
    s.of[me].queued = 1;
  }
  static void erase(state& s, int who) {
    int i = 0;
    while (s.queue[i] != who) ++i;
    for (; i + 1 < s.queue_length; ++i) s.queue[i] = s.queue[i + 1];
    s.queue[--s.queue_length] = 0;
    s.of[who].queued = 0;
  }

  void acquire(state& s, int me, turn& t) const {
    task& k = s.of[me];
    WEFT_CODE(k.at)
    WEFT_STEP("queue: take a token or park");
    WEFT_WAIT_UNLESS(s.queue_lock == 0);
    k.result = 1;
    if (s.tokens > 0) {
      --s.tokens;
      WEFT_RETURN;
    }
    push(s, me, k.lifo);
    k.waiting = 1;
    k.select = k.limited;
    k.claimed = nobody;
    WEFT_STEP("queue: asleep");
    if (!k.readied) {
      WEFT_WAIT_UNLESS(k.limited && k.claimed == nobody);
      k.claimed = deadline;
      t.label = "queue: the deadline passes";
    }
    k.waiting = k.readied = 0;
    if (k.claimed != deadline) {
      k.select = 0;
      WEFT_RETURN;
    }
    if (rules_.unlock_between) {
      WEFT_STEP("queue: forget the deadline's claim");
      WEFT_WAIT_UNLESS(s.queue_lock == 0);
      k.select = 0;
    }
    WEFT_STEP("queue: leave it after the deadline");
    WEFT_WAIT_UNLESS(s.queue_lock == 0);
    k.select = 0;
    k.claimed = nobody;
    if (k.queued) erase(s, me);
    if (s.tokens > 0 && !rules_.ignore_late_token) {
      --s.tokens;
      k.result = 1;
      WEFT_RETURN;
    }
    s.queue_lock = static_cast<uint8_t>(rules_.forget_outside ? 0 : me + 1);
    WEFT_STEP("queue: leave the count");
    if (try_forget(s, me, rules_.always_decrement || rules_.ignore_late_token)) {
      if (!rules_.forget_outside) s.queue_lock = 0;
      k.result = 0;
      WEFT_RETURN;
    }
    // An unlock already took this waiter out of the count: its token must be accepted.
    k.expired = k.late = 1;
    k.limited = 0;
    if (rules_.forget_outside) {
      k.lifo = 1;
      WEFT_CALL(acquire_f);
    } else {
      push(s, me, true);
      k.waiting = 1;
      s.queue_lock = 0;
      WEFT_STEP("queue: asleep for the late token");
      WEFT_WAIT_UNLESS(k.readied);
      k.waiting = k.readied = 0;
    }
    k.late = 0;
    k.result = 1;
    WEFT_END
  }

  void unlock(state& s, int me, turn& t) const {
    task& k = s.of[me];
    WEFT_CODE(k.at)
    k.old = static_cast<uint8_t>(owned_by(me));  // a guess
    if (rules_.two_steps) {
      WEFT_STEP("unlock: give it up");
      k.old = static_cast<uint8_t>(read(s) & ~owned_by(me));
      k.holding = 0;
      s.memory.add(me, 0, -owned_by(me));
      k.gave_up = wakes(k.old);
    }
    for (;;) {
      WEFT_STEP("unlock: compare and set state_");
      if (rules_.two_steps && ((k.old & locked) != 0 || !wakes(k.old))) {
        k.gave_up = 0;
        WEFT_RETURN;
      }
      if (s.memory.cas(me, 0, k.old, given_up(k.old))) break;
      k.old = static_cast<uint8_t>(read(s));
      if (!rules_.two_steps && (k.old & locked) == 0) t.fail("unlock of unlocked mutex");
    }
    k.holding = 0;
    k.gave_up = wakes(k.old);
    if (k.gave_up) WEFT_CALL(release_f);
    WEFT_END
  }

  static bool wakes(int old) {
    return (old & starving_bit) != 0 || (waiters_of(old) != 0 && (old & woken_bit) == 0);
  }
  int given_up(int held) const {
    const int unlocked = held & ~locked & ~(rules_.owner_kept && wakes(held) ? 0 : owner_bits);
    bool announce = (unlocked & starving_bit) == 0 && wakes(unlocked);
    return announce ? (unlocked - waiter_one) | woken_bit : unlocked;
  }

  void release(state& s, int me, turn& t) const {
    task& k = s.of[me];
    WEFT_CODE(k.at)
    WEFT_STEP("queue: pop a waiter or leave a token");
    WEFT_WAIT_UNLESS(s.queue_lock == 0);
    k.popped = 0;
    while (s.queue_length > 0 && k.popped == 0) {
      int w = s.queue[0];
      erase(s, w);
      if (s.of[w].select && s.of[w].claimed != nobody) continue;
      s.of[w].claimed = waker;
      k.popped = static_cast<uint8_t>(w + 1);
    }
    k.gave_up = 0;
    if (k.popped == 0) {
      ++s.tokens;
      WEFT_RETURN;
    }
    WEFT_STEP("queue: ready the waiter");
    if (!s.of[k.popped - 1].waiting || s.of[k.popped - 1].readied)
      t.fail("ready() of a task that does not wait");
    s.of[k.popped - 1].readied = 1;
    k.popped = 0;
    WEFT_END
  }

  mutex_rules rules_;
};

mutex_rules two_timed() {
  mutex_rules r;
  r.rounds[0] = 2;
  r.timed[1] = r.timed[2] = true;
  return r;
}

TEST(mutex_model, untimed) {
  mutex_rules r;
  r.rounds[0] = 2;
  if (deep()) r.rounds[1] = r.rounds[2] = 2;
  expect_right(mutex_world(r));
}

TEST(mutex_model, one_task_has_deadlines) {
  mutex_rules r;
  r.rounds[0] = 2;
  if (deep()) r.rounds[1] = 2;
  r.timed[2] = true;
  expect_right(mutex_world(r));
}

TEST(mutex_model, two_tasks_have_deadlines) {
  mutex_rules r = two_timed();
  if (deep()) r.rounds[1] = r.rounds[2] = 2;
  expect_right(mutex_world(r));
}

TEST(mutex_model, all_tasks_have_deadlines) {
  mutex_rules r = two_timed();
  r.timed[0] = true;
  if (deep()) r.rounds[1] = 2;
  expect_right(mutex_world(r));
}

TEST(mutex_model, mutant_timed_out_waiter_always_decrements) {
  expect_mutant_wrong<mutex_world>(two_timed(), &mutex_rules::always_decrement);
}

TEST(mutex_model, mutant_late_token_ignored) {
  expect_mutant_wrong<mutex_world>(two_timed(), &mutex_rules::ignore_late_token);
}

// The queue's lock was released between "the deadline won" and taking the waiter off the list: an
// unlock could pop it meanwhile and ready a running task.
TEST(mutex_model, mutant_timed_out_waiter_left_queued) {
  expect_mutant_wrong<mutex_world>(two_timed(), &mutex_rules::unlock_between, "does not wait");
}

// The count was left after the queue's lock had been released: a newcomer could take the token that
// an unlock meant for the timed-out waiter, which then slept until the next unlock, however late.
TEST(mutex_model, mutant_count_left_outside_the_queue_lock) {
  expect_mutant_wrong<mutex_world>(two_timed(), &mutex_rules::forget_outside, "past its deadline");
}

// A waiter that gave up between the two steps left the new owner alone in starvation mode: the
// mutex stayed reserved for nobody, and try_lock failed for ever.
TEST(mutex_model, mutant_handover_computed_from_an_old_state) {
  expect_mutant_wrong<mutex_world>(two_timed(), &mutex_rules::blind_handover);
}

TEST(mutex_model, mutant_starving_bit_never_cleared) {
  expect_mutant_wrong<mutex_world>({}, &mutex_rules::starving_kept);
}

// Between the two steps the mutex could be locked, unlocked and destroyed by others.
TEST(mutex_model, mutant_unlock_in_two_steps) {
  expect_mutant_wrong<mutex_world>({}, &mutex_rules::two_steps, "may be gone");
}

// With `lock |= owner` the next one's name would be mixed with the last one's.
TEST(mutex_model, mutant_owner_left_behind) {
  expect_mutant_wrong<mutex_world>({}, &mutex_rules::owner_kept, "owner");
}

TEST(mutex_model, mutant_woken_bit_never_cleared) {
  expect_mutant_wrong<mutex_world>({}, &mutex_rules::woken_kept);
}

}  // namespace
}  // namespace weft::model
