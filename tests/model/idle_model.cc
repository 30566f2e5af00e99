// Model of [I1] in scheduler/idle.cc: queued work and an idle processor always find each other.
//
// Two processors, five workers, and threads without a processor that push to the global queue or
// add a timer. A task, once it runs, may end, hold its processor for ever or make a blocking call.
// There is no monitor: what it would repair after a while counts as wrong here. Ring slots, `next`
// slots and descriptors are left out; a ring is its head and tail.
#include "tests/model/check.h"

namespace weft::model {
namespace {

struct idle_rules {
  int procs = 2;
  // Worker 0 runs a task on P0; or P0 is idle, and worker 0 returns from a blocking call or does
  // not exist yet.
  enum { runs, returns, sleeps } first = runs;
  int ring_pushes = 0;            // by the task that worker 0 runs at first
  int global_pushes[2] = {0, 0};  // at once, by each of two threads without a processor
  // Worker 1 has P1 and is about to look for work, or inside a task; or P1 is idle.
  enum { looks, in_task, idle } second = looks;
  bool third_polls = false;  // worker 2 is about to wait in the poller
  bool hogs = false;         // tasks may hold their processor for ever
  bool blocks = false;       // worker 1's first task makes a blocking call
  bool blocks_for_ever = false;
  bool timer = false;  // one thread without a processor adds a timer
  // Mutants.
  bool no_pusher_fence = false;
  bool no_leaver_fence = false;
  bool no_second_scan = false;
  bool no_poller_scan = false;
  bool timer_before_exchange = false;
  bool no_timer_fence = false;
  bool found_without_check = false;
  bool late_uncount = false;  // wake_one stops counting as spinning outside the lock
  bool hand_off_without_scan = false;
  bool size_before_ring = false;  // global_pop shrinks the size before the tasks are in the ring
};

class idle_world {
 public:
  static constexpr int workers = 5, procs = 2, threads = 8;  // at most
  static constexpr uint8_t none = 9;
  enum word : int {
    lock,
    size,
    idle,
    spinning,
    last_poll,
    until,
    timer,
    head,
    tail = head + procs,
    words = tail + procs
  };
  enum function : uint8_t {
    worker_f,
    found_f,
    task_f,
    wake_f,
    scan_f,
    global_pop_f,
    poll_f,
    hand_off_f,
    reacquire_f,
    pusher_f,
    timer_f
  };

  struct thread {
    control<4> at;
    uint8_t p, spins, left, i, n, got, yes, timeout, taken;
  };
  struct state {
    tso_memory<threads, words, 3> memory;
    uint8_t idle_mask, global, woken, due, hogging, blocked;
    uint8_t sleeping[workers];  // 0 no, 1 on the list of idle threads, 2 not started yet
    uint8_t mail[workers];      // processor handed over + 1, + 4 to spin
    thread of[threads];
  };

  explicit idle_world(const idle_rules& rules) : rules_(rules) {}

  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.memory.words[last_poll] = 1;
    for (int i = 0; i < threads; ++i) s.of[i].p = none;
    for (int i = 0; i < workers; ++i) s.sleeping[i] = 2;
    for (int i = 0; i < workers; ++i) s.of[i].at.call(worker_f);
    if (rules_.first != idle_rules::sleeps) s.sleeping[0] = 0;
    if (rules_.first == idle_rules::runs) {
      s.of[0].p = 0;
      s.of[0].left = static_cast<uint8_t>(rules_.ring_pushes);
    } else {
      put_idle(s, 0, 0);
    }
    if (rules_.procs == 2 && rules_.second != idle_rules::idle) {
      s.of[1].p = 1;
      s.sleeping[1] = 0;
    } else if (rules_.procs == 2) {
      put_idle(s, 1, 1);
    }
    if (rules_.third_polls) s.sleeping[2] = 0;
    for (int i = 0; i < 2; ++i) {
      if (rules_.global_pushes[i] == 0) continue;
      s.of[workers + i].left = static_cast<uint8_t>(rules_.global_pushes[i]);
      s.of[workers + i].at.call(pusher_f);
    }
    if (rules_.timer) s.of[workers + 2].at.call(timer_f);
    return s;
  }
  bool live(const state& s, int i) const { return !s.of[i].at.ended(); }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"worker 0", "worker 1", "worker 2", "worker 3",
                                            "worker 4", "pusher 0", "pusher 1", "timer adder"};
    return names[i];
  }
  static const char* word_name(int i) {
    static constexpr const char* names[] = {"lock",      "global_size", "idle_procs", "spinning",
                                            "last_poll", "poll_until",  "timer",      "head 0",
                                            "head 1",    "tail 0",      "tail 1"};
    return names[i];
  }

  const char* wrong(const state& s) const {
    if (s.memory.words[spinning] < 0) return "spinning is negative";
    if (s.memory.words[size] < 0) return "global_size is negative";
    return nullptr;
  }
  bool done(const state& s) const {
    int queued = s.global;
    for (int p = 0; p < procs; ++p) queued += s.memory.words[tail + p] - s.memory.words[head + p];
    if (s.memory.words[spinning] != 0 || s.memory.words[size] != s.global) return false;
    if (s.memory.words[idle] == 0) return s.hogging > 0;
    return queued == 0 && s.memory.words[timer] == 0;
  }

  void run(state& s, int me, turn& t) const {
    switch (s.of[me].at.function[s.of[me].at.depth - 1]) {
      case worker_f:
        return work(s, me, t);
      case found_f:
        return found(s, me, t);
      case task_f:
        return task(s, me, t);
      case wake_f:
        return wake_one(s, me, t);
      case scan_f:
        return scan(s, me, t);
      case global_pop_f:
        return global_pop(s, me, t);
      case reacquire_f:
        return reacquire(s, me, t);
      case poll_f:
        return wait_in_poller(s, me, t);
      case hand_off_f:
        return hand_off(s, me, t);
      case pusher_f:
        return push_global(s, me, t);
      case timer_f:
        return add_timer(s, me, t);
      default:
        t.fail("no such function");
    }
  }

 private:
  // A section under g_sched.lock in one step: possible while nobody holds the lock.
  static bool section(state& s, int me) {
    s.memory.fence(me);
    return s.memory.words[lock] == 0;
  }
  static uint8_t take_idle(state& s, int me) {
    for (uint8_t p = 0; p < procs; ++p) {
      if ((s.idle_mask & (1 << p)) == 0) continue;
      s.idle_mask = static_cast<uint8_t>(s.idle_mask & ~(1 << p));
      s.memory.add(me, idle, -1);
      return p;
    }
    return none;
  }
  static void put_idle(state& s, int me, int p) {
    s.idle_mask = static_cast<uint8_t>(s.idle_mask | 1 << p);
    s.memory.add(me, idle, 1);
  }
  // Mutant: idle_procs is counted by a plain store, published with the lock.
  static void put_idle_unfenced(state& s, int me, int p) {
    s.idle_mask = static_cast<uint8_t>(s.idle_mask | 1 << p);
    s.memory.exchange(me, lock, 1);
    s.memory.store(me, idle, s.memory.load(me, idle) + 1);
    s.memory.store(me, lock, 0);
  }
  // A thread is created when none is on the list. With five, one of them always comes back to it.
  void start_thread(state& s, int p, bool spin, turn& t) const {
    for (uint8_t kind = 1; kind <= 2; ++kind) {
      for (int w = 0; w < workers; ++w) {
        if (s.sleeping[w] != kind) continue;
        s.sleeping[w] = 0;
        s.mail[w] = static_cast<uint8_t>(p + 1 + (spin ? 4 : 0));
        return;
      }
    }
    t.block();
  }
  static int ring_size(const state& s, int me, int p) {
    return s.memory.load(me, tail + p) - s.memory.load(me, head + p);
  }

  void work(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    if (me == 0 && rules_.first != idle_rules::sleeps) WEFT_CALL(task_f);
    if (me == 1 && rules_.second == idle_rules::in_task) WEFT_CALL(task_f);
    if (me == 2 && rules_.third_polls) WEFT_CALL(poll_f);
    for (;;) {
      th.yes = th.got = th.i = th.n = th.timeout = 0;
      if (th.p == none) {
        if (s.sleeping[me] == 0) {
          WEFT_STEP("stop: onto the list of idle threads");
          WEFT_WAIT_UNLESS(section(s, me));
          s.sleeping[me] = 1;
        }
        WEFT_STEP("stop: until a processor is handed over");
        WEFT_WAIT_UNLESS(s.mail[me] != 0);
        th.p = static_cast<uint8_t>((s.mail[me] & 3) - 1);
        th.spins = s.mail[me] >= 4;
        s.mail[me] = 0;
      }
      if (rules_.timer) {
        WEFT_STEP("look at the own timers");
        if (th.p == 0 && s.memory.load(me, timer) != 0 && (s.due || t.choose(2) == 1)) {
          s.memory.exchange(me, timer, 0);
          th.got = 1;
        }
      }
      if (!th.got) {
        WEFT_STEP("pop from the own ring");
        if (ring_size(s, me, th.p) > 0) {
          s.memory.add(me, head + th.p, 1);
          th.got = 1;
        }
      }
      if (!th.got) {
        WEFT_STEP("read global_size");
        if (s.memory.load(me, size) > 0) WEFT_CALL(global_pop_f);
      }
      if (!th.got && !th.spins) {
        WEFT_STEP("spin or not");
        if (t.choose(2) == 1) {
          s.memory.add(me, spinning, 1);
          th.spins = 1;
        }
      }
      if (!th.got && th.spins) {
        WEFT_STEP("steal half of the other ring");
        th.n = static_cast<uint8_t>(rules_.procs == 1 ? 0 : ring_size(s, me, 1 - th.p));
        if (th.n > 0) {
          th.n = static_cast<uint8_t>(th.n - th.n / 2);
          s.memory.add(me, head + 1 - th.p, th.n);
          th.got = 1;
          while (--th.n > 0) {
            WEFT_STEP("steal: push to the own ring");
            s.memory.store(me, tail + th.p, s.memory.load(me, tail + th.p) + 1);
          }
        }
        if (!th.got && rules_.timer) {
          WEFT_STEP("steal: look at all timers");
          if (s.memory.load(me, timer) != 0 && (s.due || t.choose(2) == 1)) {
            s.memory.exchange(me, timer, 0);
            th.got = 1;
          }
        }
      }
      if (th.got) {
        WEFT_CALL(found_f);
        WEFT_CALL(task_f);
        continue;
      }

      WEFT_STEP("leave: put P on the idle list");
      WEFT_WAIT_UNLESS(section(s, me));
      if (s.global > 0) continue;
      if (rules_.no_leaver_fence)
        put_idle_unfenced(s, me, th.p);
      else
        put_idle(s, me, th.p);
      th.p = none;
      if (th.spins) {
        WEFT_STEP("leave: spinning -= 1");
        th.spins = 0;
        s.memory.add(me, spinning, -1);
      }
      if (!rules_.no_leaver_fence) s.memory.fence(me);
      if (!rules_.no_second_scan) {
        WEFT_CALL(scan_f);
        if (th.yes) {
          WEFT_STEP("leave: take a processor back");
          WEFT_WAIT_UNLESS(section(s, me));
          th.p = take_idle(s, me);
          if (th.p != none) {
            WEFT_STEP("leave: spinning += 1");
            th.spins = 1;
            s.memory.add(me, spinning, 1);
            continue;
          }
        }
      }

      WEFT_CALL(poll_f);
    }
    WEFT_END
  }

  void wait_in_poller(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    if (rules_.timer_before_exchange) {
      WEFT_STEP("poller: read the timers");
      th.timeout = s.memory.load(me, timer) == 0;
    }
    WEFT_STEP("poller: last_poll = 0");
    if (s.memory.exchange(me, last_poll, 0) == 0) WEFT_RETURN;
    if (!rules_.timer_before_exchange) {
      WEFT_STEP("poller: read the timers");
      th.timeout = s.memory.load(me, timer) == 0;  // 1: without limit
    }
    WEFT_STEP("poller: poll_until = earliest timer");
    s.memory.exchange(me, until, th.timeout ? 0 : 1);
    if (!rules_.no_poller_scan) {
      WEFT_CALL(scan_f);
      if (th.yes) th.timeout = 0;
    }
    WEFT_STEP("poller: wait");
    WEFT_WAIT_UNLESS(th.timeout == 0 || s.woken);
    if (th.timeout == 0 && !s.woken && !th.yes) s.due = 1;
    s.woken = 0;
    th.timeout = th.yes = 0;
    WEFT_STEP("poller: poll_until = never");
    s.memory.store(me, until, 0);
    WEFT_STEP("poller: last_poll = now");
    s.memory.exchange(me, last_poll, 1);
    WEFT_STEP("poller: take an idle processor");
    WEFT_WAIT_UNLESS(section(s, me));
    th.p = take_idle(s, me);
    if (th.p == none) WEFT_CALL(wake_f);
    WEFT_END
  }

  void found(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    if (th.spins) {
      WEFT_STEP("found: spinning -= 1");
      th.spins = 0;
      if (s.memory.add(me, spinning, -1) == 1 && !rules_.found_without_check) {
        WEFT_CALL(scan_f);
        if (th.yes) WEFT_CALL(wake_f);
      }
    }
    WEFT_END
  }

  void task(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    if (th.p == none) {
      WEFT_CALL(reacquire_f);
      WEFT_RETURN;
    }
    while (th.left > 0) {
      --th.left;
      WEFT_STEP("task: push to the own ring");
      s.memory.store(me, tail + th.p, s.memory.load(me, tail + th.p) + 1);
      WEFT_CALL(wake_f);
    }
    WEFT_STEP("task: ends, holds its processor for ever, or blocks");
    if (rules_.blocks && me == 1 && !s.blocked)
      th.n = 2;
    else
      th.n = static_cast<uint8_t>(t.choose(rules_.hogs ? 2 : 1));
    if (th.n == 1 && rules_.hogs) {
      s.hogging = static_cast<uint8_t>(s.hogging + 1);
      th.at = {};
      return;
    }
    if (th.n == 2) {
      s.blocked = 1;
      th.n = 0;
      WEFT_CALL(hand_off_f);
      if (rules_.blocks_for_ever) {
        th.at = {};
        return;
      }
      WEFT_CALL(reacquire_f);
    }
    th.n = 0;
    WEFT_END
  }

  void reacquire(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("block: returns and looks for a processor");
    WEFT_WAIT_UNLESS(section(s, me));
    th.p = take_idle(s, me);
    if (th.p == none) {
      WEFT_STEP("block: the task goes to the global queue");
      WEFT_WAIT_UNLESS(section(s, me));
      ++s.global;
      s.memory.add(me, size, 1);
      WEFT_CALL(wake_f);
    }
    WEFT_END
  }

  void hand_off(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("hand off: is there work for P?");
    if (ring_size(s, me, th.p) > 0 || s.memory.load(me, size) > 0) {
      start_thread(s, th.p, false, t);
      s.memory.fence(me);
      th.p = none;
      WEFT_RETURN;
    }
    WEFT_STEP("hand off: put P on the idle list");
    WEFT_WAIT_UNLESS(section(s, me));
    if (s.global > 0) {
      start_thread(s, th.p, false, t);
      th.p = none;
      WEFT_RETURN;
    }
    put_idle(s, me, th.p);
    th.p = none;
    WEFT_STEP("hand off: read last_poll");
    th.yes = s.memory.load(me, last_poll) != 0;
    if (!th.yes && !rules_.hand_off_without_scan) WEFT_CALL(scan_f);
    if (th.yes) WEFT_CALL(wake_f);
    th.yes = 0;
    WEFT_END
  }

  void wake_one(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("wake: fence, read idle_procs");
    if (!rules_.no_pusher_fence) s.memory.fence(me);
    if (s.memory.load(me, idle) == 0) WEFT_RETURN;
    WEFT_STEP("wake: read spinning");
    if (s.memory.load(me, spinning) != 0) WEFT_RETURN;
    WEFT_STEP("wake: spinning 0 -> 1");
    if (!s.memory.cas(me, spinning, 0, 1)) WEFT_RETURN;
    WEFT_STEP("wake: take an idle processor");
    WEFT_WAIT_UNLESS(section(s, me));
    th.taken = take_idle(s, me);
    if (th.taken == none) {
      if (rules_.late_uncount) WEFT_STEP("wake: spinning -= 1");
      th.taken = 0;
      s.memory.add(me, spinning, -1);
      WEFT_RETURN;
    }
    WEFT_STEP("wake: start a spinning thread");
    start_thread(s, th.taken, true, t);
    th.taken = 0;
    WEFT_END
  }

  void scan(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("scan: read global_size");
    th.yes = s.memory.load(me, size) > 0;
    for (th.i = 0; th.i < rules_.procs && !th.yes; ++th.i) {
      WEFT_STEP("scan: look at a ring");
      th.yes = ring_size(s, me, th.i) > 0;
    }
    th.i = 0;
    WEFT_END
  }

  void global_pop(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("global pop: lock");
    WEFT_WAIT_UNLESS(section(s, me));
    if (s.global == 0) WEFT_RETURN;
    s.memory.exchange(me, lock, 1);
    th.n = static_cast<uint8_t>(s.global / rules_.procs + 1);
    if (th.n > s.global) th.n = s.global;
    s.global = static_cast<uint8_t>(s.global - th.n);
    th.i = th.n;
    if (rules_.size_before_ring) {
      WEFT_STEP("global pop: shrink global_size");
      s.memory.add(me, size, -th.n);
    }
    while (th.n > 1) {
      WEFT_STEP("global pop: push to the own ring");
      s.memory.store(me, tail + th.p, s.memory.load(me, tail + th.p) + 1);
      --th.n;
    }
    if (!rules_.size_before_ring) {
      WEFT_STEP("global pop: shrink global_size");
      s.memory.add(me, size, -th.i);
    }
    WEFT_STEP("global pop: unlock");
    s.memory.store(me, lock, 0);
    th.n = th.i = 0;
    th.got = 1;
    WEFT_END
  }

  void push_global(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    while (th.left > 0) {
      WEFT_STEP("push to the global queue");
      WEFT_WAIT_UNLESS(section(s, me));
      s.global = static_cast<uint8_t>(s.global + th.left);
      s.memory.add(me, size, th.left);
      th.left = 0;
      WEFT_CALL(wake_f);
    }
    WEFT_END
  }

  void add_timer(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    WEFT_STEP("add timer: into the heap of P0");
    s.memory.store(me, timer, 1);
    WEFT_STEP("add timer: fence, read last_poll");
    if (!rules_.no_timer_fence) s.memory.fence(me);
    if (s.memory.load(me, last_poll) != 0) {
      WEFT_CALL(wake_f);
      WEFT_RETURN;
    }
    WEFT_STEP("add timer: read poll_until, wake the poller");
    if (s.memory.load(me, until) == 0) s.woken = 1;
    WEFT_END
  }

  idle_rules rules_;
};

// Worker 0's task pushes to its ring while worker 1 looks for work and gives up.
idle_rules ring_world() {
  idle_rules r;
  r.ring_pushes = 1;
  r.hogs = true;
  return r;
}

// Two threads without a processor push to the global queue, a third returns from a blocking call.
idle_rules global_world() {
  idle_rules r;
  r.procs = 1;
  r.first = idle_rules::returns;
  r.global_pushes[0] = r.global_pushes[1] = 1;
  return r;
}

// Two threads without a processor push; everybody else sleeps.
idle_rules sleeping_world() {
  idle_rules r = global_world();
  r.procs = 2;
  r.first = idle_rules::sleeps;
  r.second = idle_rules::idle;
  r.hogs = true;
  return r;
}

// A thread without a processor pushes two tasks at once, of which a processor may take more than
// one at once.
idle_rules batch_world() {
  idle_rules r;
  r.global_pushes[0] = 2;
  r.hogs = true;
  return r;
}

// Worker 0's task pushes to its ring, worker 1's blocks, worker 2 already waits in the poller.
idle_rules blocking_world() {
  idle_rules r;
  r.ring_pushes = 1;
  r.second = idle_rules::in_task;
  r.third_polls = true;
  r.blocks = r.blocks_for_ever = r.hogs = true;
  return r;
}

idle_rules timer_world() {
  idle_rules r;
  r.timer = true;
  return r;
}

TEST(idle_model, ring) {
  idle_rules r = ring_world();
  expect_right(idle_world(r));
  r.second = idle_rules::idle;
  expect_right(idle_world(r));
  r.second = idle_rules::looks;
  if (deep()) {
    r.ring_pushes = 2;
    expect_right(idle_world(r));
  }
}

TEST(idle_model, global_queue) { expect_right(idle_world(global_world())); }

TEST(idle_model, global_queue_of_two_processors) { expect_right(idle_world(sleeping_world())); }

TEST(idle_model, several_in_the_global_queue) {
  idle_rules r = batch_world();
  if (!deep()) r.second = idle_rules::idle;
  expect_right(idle_world(r));
}

TEST(idle_model, blocking) { expect_right(idle_world(blocking_world())); }

TEST(idle_model, timer) {
  idle_rules r = timer_world();
  expect_right(idle_world(r));
  r.second = idle_rules::idle;
  expect_right(idle_world(r));
}

TEST(idle_model, mutant_no_fence_in_pusher) {
  expect_mutant_wrong<idle_world>(ring_world(), &idle_rules::no_pusher_fence);
}

TEST(idle_model, mutant_no_fence_in_leaver) {
  idle_rules r = ring_world();
  r.ring_pushes = 2;
  r.no_leaver_fence = true;
  expect_wrong(idle_world(r));
}

TEST(idle_model, mutant_no_second_scan) {
  idle_rules r = ring_world();
  r.no_second_scan = true;
  r.no_poller_scan = true;
  expect_wrong(idle_world(r));
}

TEST(idle_model, mutant_found_without_check) {
  expect_mutant_wrong<idle_world>(sleeping_world(), &idle_rules::found_without_check);
}

TEST(idle_model, mutant_timer_read_before_exchange) {
  expect_mutant_wrong<idle_world>(timer_world(), &idle_rules::timer_before_exchange);
}

TEST(idle_model, mutant_no_fence_after_adding_a_timer) {
  idle_rules r = timer_world();
  r.no_timer_fence = r.no_pusher_fence = true;
  expect_wrong(idle_world(r));
}

// wake_one() that found no processor still counted as a spinner for a moment after it had released
// the lock; a pusher that relied on it left its task behind.
TEST(idle_model, mutant_spinner_uncounted_outside_the_lock) {
  expect_mutant_wrong<idle_world>(global_world(), &idle_rules::late_uncount);
}

// hand_off() put a processor on the idle list without looking at the rings of the others.
TEST(idle_model, mutant_hand_off_without_scan) {
  expect_mutant_wrong<idle_world>(blocking_world(), &idle_rules::hand_off_without_scan);
}

// global_pop() shrank the size before its tasks were in the ring: for a moment a scan saw them
// nowhere.
TEST(idle_model, mutant_size_shrinks_before_ring_grows) {
  expect_mutant_wrong<idle_world>(batch_world(), &idle_rules::size_before_ring);
}

}  // namespace
}  // namespace weft::model
