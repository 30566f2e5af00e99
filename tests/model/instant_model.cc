// Model of an instant (scheduler/instant.cc, world_stop.cc, profiler/capture.cc).
//
// Worker 0 executes task A, which wakes B, starts a task in a free record, and ends; B starts one
// in the record that A has left. Worker 1 is in the scheduler, where it wakes the task that waits
// for I/O, and then runs what is runnable. Both run everything to its next wait or end. The opener
// stops them, goes through the records, and closes. What is true at the instant is written down
// when the stop has come about, and compared in the end. The words of [W1] are x86-TSO memory;
// records and notes change by locked instructions.
#include "tests/model/check.h"

namespace weft::model {
namespace {

struct instant_rules {
  bool poll = true;    // a task waits for I/O
  bool reuse = false;  // B starts a task
  // Mutants.
  bool no_fence = false;             // the threads pass no fence after the gate was closed
  bool gate_before_current = false;  // who begins to execute looks at the gate first
  bool executing_not_shown = false;  // a thread that stops does not capture its own task
  bool door_open = false;            // a task runs without having been shown
  bool door_without_claim = false;   // … or is shown while the opener has a claim on it
  bool birth_not_noted = false;
  bool wake_not_noted = false;
  bool note_not_asked_under_claim = false;
  bool noted_while_stopping = false;  // wakes are noted before everybody has stopped
  bool visit_without_look = false;    // the gate is looked at before entering, not after
  bool close_at_once = false;         // the notes are dropped while somebody is inside
};

class instant_world {
 public:
  static constexpr int threads = 3;
  static constexpr int records = 4;
  enum who : int { worker_0, worker_1, opener };
  enum word : int { gate, current_0, current_1 };
  enum record_name : int { a, b, io, spare };
  enum bits : int { stop_bit = 1, instant_bit = 2 };
  enum status : uint8_t { vacant, runnable, running, waiting };
  enum function : uint8_t { work_f, open_f, visit_f };
  enum known : uint8_t { nothing, settled, captured };

  struct record {
    uint8_t status, claim, progress;
    // The note.
    uint8_t capture, seen_progress, seen_status, woken;
    // The truth of the instant, and what the opener made of it.
    uint8_t lived, true_progress, true_status, found;
  };
  struct thread {
    control<2> at;
    uint8_t task, stopped, entered, open;
  };
  struct state {
    tso_memory<threads, 3, 3> memory;
    uint8_t inside, dropped, is_open, next, closed, polled, started, reused;
    record of[records];
    thread th[threads];
  };

  explicit instant_world(const instant_rules& rules) : rules_(rules) {}

  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.of[a].status = running;
    s.of[b].status = waiting;
    s.of[io].status = rules_.poll ? waiting : vacant;
    s.polled = !rules_.poll;
    s.memory.words[current_0] = a + 1;
    s.th[worker_0].task = a;
    s.th[worker_0].at.call(work_f);
    s.th[worker_1].task = records;
    s.th[worker_1].at.call(work_f);
    s.th[opener].at.call(open_f);
    return s;
  }
  bool live(const state& s, int i) const { return !s.th[i].at.ended(); }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"worker 0", "worker 1", "opener"};
    return names[i];
  }
  static const char* word_name(int i) {
    static constexpr const char* names[] = {"gate", "current 0", "current 1"};
    return names[i];
  }
  const char* wrong(const state&) const { return nullptr; }
  bool done(const state& s) const {
    for (const record& r : s.of)
      if (r.status == runnable || r.status == running) return false;
    return s.closed != 0;
  }
  void run(state& s, int me, turn& t) const {
    switch (s.th[me].at.function[s.th[me].at.depth - 1]) {
      case work_f:
        return work(s, me, t);
      case visit_f:
        return visit(s, me, t);
      default:
        return open(s, me, t);
    }
  }

 private:
  static int current_of(int worker) { return worker == worker_0 ? current_0 : current_1; }

  static void keep(record& r) {
    r.capture = captured;
    r.seen_progress = r.progress;
    r.seen_status = r.status == runnable && r.woken ? uint8_t{waiting} : r.status;
  }

  // The state door.
  void note(state& s, record& r) const {
    const bool noted =
        s.is_open || (rules_.noted_while_stopping && (s.memory.words[gate] & instant_bit) != 0);
    if (!noted || r.capture != nothing) return;
    if (r.status == vacant) {
      if (!rules_.birth_not_noted) r.capture = settled;
    } else if (!rules_.wake_not_noted) {
      r.woken = 1;
    }
  }
  void wake(state& s, record& r, turn& t) const {
    if (r.status != waiting && r.status != vacant) t.fail("woken twice");
    note(s, r);
    if (r.status == vacant) r.progress = 0;
    r.status = runnable;
  }
  static int runnable_record(const state& s) {
    for (int i = 0; i < records; ++i) {
      bool taken = false;
      for (int w = 0; w < 2; ++w) taken = taken || s.th[w].task == i;
      if (s.of[i].status == runnable && !taken) return i;
    }
    return records;
  }

  // A worker: first what it executes, if it does, then everything that is runnable. The task's own
  // steps can be stopped at; what the runtime does to it cannot.
  void work(state& s, int me, turn& t) const {
    thread& th = s.th[me];
    WEFT_CODE(th.at)
    if (me == worker_1 && rules_.poll) {
      WEFT_STEP("poll: wake the task that waits for I/O");
      wake(s, s.of[io], t);
      s.polled = 1;
    }
    for (;;) {
      if (th.task == records) {
        WEFT_STEP("pick what is runnable");
        WEFT_WAIT_UNLESS(runnable_record(s) != records);
        th.task = static_cast<uint8_t>(runnable_record(s));
        for (;;) {
          if (rules_.gate_before_current) {
            WEFT_STEP("look at the gate");
            th.open = static_cast<uint8_t>(s.memory.load(me, gate));
          }
          WEFT_STEP("make it current");
          s.memory.store(me, current_of(me), th.task + 1);
          if (!rules_.gate_before_current) {
            WEFT_STEP("look at the gate");
            th.open = static_cast<uint8_t>(s.memory.load(me, gate));
          }
          if ((th.open & stop_bit) == 0) break;
          WEFT_STEP("nothing is current while the world stops");
          s.memory.store(me, current_of(me), 0);
          WEFT_STEP("wait for the world to go on");
          WEFT_WAIT_UNLESS((s.memory.load(me, gate) & stop_bit) == 0);
        }
        if ((th.open & instant_bit) != 0 && !rules_.door_open) WEFT_CALL(visit_f);
        WEFT_STEP("it is running");
        WEFT_WAIT_UNLESS(s.of[th.task].claim == 0);
        s.of[th.task].status = running;
      }
      WEFT_STEP("the task computes, or stops");
      if ((s.memory.load(me, gate) & stop_bit) != 0) {
        if ((s.memory.load(me, gate) & instant_bit) != 0 && !rules_.executing_not_shown &&
            s.of[th.task].capture == nothing)
          keep(s.of[th.task]);
        s.memory.fence(me);
        th.stopped = 1;
        WEFT_STEP("stopped");
        WEFT_WAIT_UNLESS((s.memory.load(me, gate) & stop_bit) == 0);
        th.stopped = 0;
        continue;
      }
      ++s.of[th.task].progress;
      if (rules_.reuse && th.task == b && s.of[a].status == vacant && !s.reused) {
        WEFT_STEP("B starts a task in the record that A has left");
        wake(s, s.of[a], t);
        s.reused = 1;
      }
      if (th.task == a && !s.reused) {
        WEFT_STEP("A wakes B, unless it has been stopped before");
        if ((s.memory.load(me, gate) & stop_bit) != 0) continue;
        if (s.of[b].status == waiting && s.of[b].progress == 0) wake(s, s.of[b], t);
        WEFT_STEP("A starts a task in the free record");
        if (s.of[spare].status == vacant && !s.started) wake(s, s.of[spare], t);
        s.started = 1;
      }
      WEFT_STEP("off its stack: it waits, or has ended");
      s.of[th.task].status = th.task == a || th.task == spare ? vacant : waiting;
      s.memory.store(me, current_of(me), 0);
      th.task = records;
      if (runnable_record(s) == records && s.polled) {
        WEFT_STEP("nothing more to do?");
        if (runnable_record(s) == records) WEFT_RETURN;
      }
    }
    WEFT_END
  }

  // instant_before_run()
  void visit(state& s, int me, turn& t) const {
    thread& th = s.th[me];
    record& r = s.of[th.task];
    WEFT_CODE(th.at)
    WEFT_STEP("enter");
    s.memory.fence(me);
    ++s.inside;
    WEFT_STEP("is it open still?");
    th.entered = rules_.visit_without_look || (s.memory.load(me, gate) & instant_bit) != 0;
    if (th.entered) {
      WEFT_STEP("look at the note");
      if (s.dropped) t.fail("a note is used after it was dropped");
      if (r.capture == nothing) {
        if (!rules_.door_without_claim) {
          WEFT_STEP("claim");
          WEFT_WAIT_UNLESS(r.claim == 0);
          r.claim = 1;
        }
        WEFT_STEP("capture, if nobody has meanwhile");
        if (s.dropped) t.fail("a note is used after it was dropped");
        if (r.capture == nothing) keep(r);
        if (!rules_.door_without_claim) {
          WEFT_STEP("give the claim back");
          r.claim = 0;
        }
      }
    }
    WEFT_STEP("leave");
    s.memory.fence(me);
    --s.inside;
    WEFT_END
  }

  static bool all_stopped(const state& s) {
    for (int w = 0; w < 2; ++w)
      if (s.memory.words[current_of(w)] != 0 && !s.th[w].stopped) return false;
    return true;
  }

  void open(state& s, int me, turn& t) const {
    thread& th = s.th[me];
    WEFT_CODE(th.at)
    WEFT_STEP("close the gate");
    s.memory.store(me, gate, stop_bit | instant_bit);
    s.memory.fence(me);
    if (!rules_.no_fence) {
      WEFT_STEP("worker 0 passes a fence");
      s.memory.drain(worker_0);
      WEFT_STEP("worker 1 passes a fence");
      s.memory.drain(worker_1);
    }
    WEFT_STEP("all stopped: this is the instant");
    WEFT_WAIT_UNLESS(all_stopped(s));
    for (record& r : s.of) {
      r.lived = r.status != vacant;
      r.true_progress = r.progress;
      r.true_status = r.status;
    }
    s.is_open = 1;
    WEFT_STEP("go on");
    s.memory.exchange(me, gate, instant_bit);
    for (s.next = 0; s.next < records; ++s.next) {
      for (;;) {
        WEFT_STEP("a record: what its note tells");
        // Executing without a note: on its way off its stack.
        WEFT_WAIT_UNLESS(s.of[s.next].capture != nothing || s.of[s.next].status != running);
        if (s.of[s.next].capture != nothing || s.of[s.next].status == vacant) break;
        WEFT_STEP("claim, if it does not execute");
        if (s.of[s.next].status == vacant || s.of[s.next].status == running) continue;
        WEFT_WAIT_UNLESS(s.of[s.next].claim == 0);
        s.of[s.next].claim = 1;
        WEFT_STEP("capture under the claim, if nobody has meanwhile");
        if (s.of[s.next].capture == nothing || rules_.note_not_asked_under_claim)
          keep(s.of[s.next]);
        WEFT_STEP("give the claim back");
        s.of[s.next].claim = 0;
        break;
      }
      s.of[s.next].found = s.of[s.next].capture == captured;
      compare(s.next, s.of[s.next], t);
    }
    WEFT_STEP("close: nobody enters any more");
    s.is_open = 0;
    s.memory.exchange(me, gate, 0);
    if (!rules_.close_at_once) {
      WEFT_STEP("close: wait until nobody is inside");
      WEFT_WAIT_UNLESS(s.inside == 0);
    }
    WEFT_STEP("drop the notes");
    s.dropped = 1;
    s.closed = 1;
    WEFT_END
  }

  static void compare(int which, const record& r, turn& t) {
    if (r.lived && !r.found) return t.fail("a task of the instant is missing");
    if (!r.lived && r.found) return t.fail("a task is counted that is younger than the instant");
    if (!r.lived) return;
    if (r.seen_progress != r.true_progress) return t.fail("a stack is younger than the instant");
    const bool waited = r.seen_status == waiting;
    // The thread in the scheduler wakes before or after the instant, as it likes.
    if (which != io && waited != (r.true_status == waiting))
      t.fail("a wait is not that of the instant");
  }

  instant_rules rules_;
};

TEST(instant_model, all_tasks_of_one_instant) {
  instant_rules r;
  r.reuse = deep();
  expect_right(instant_world(r));
  r.poll = false;
  r.reuse = true;
  expect_right(instant_world(r));
}

TEST(instant_model, mutant_no_fence) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::no_fence);
}

TEST(instant_model, mutant_gate_before_current) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::gate_before_current);
}

TEST(instant_model, mutant_executing_task_not_shown) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::executing_not_shown);
}

TEST(instant_model, mutant_task_runs_without_being_shown) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::door_open);
}

TEST(instant_model, mutant_birth_not_noted) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::birth_not_noted,
                                     "younger than the instant");
}

TEST(instant_model, mutant_wake_not_noted) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::wake_not_noted, "a wait");
}

TEST(instant_model, mutant_wakes_noted_too_early) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::noted_while_stopping);
}

TEST(instant_model, mutant_note_not_asked_under_the_claim) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::note_not_asked_under_claim,
                                     "a stack is younger");
}

TEST(instant_model, mutant_visitor_does_not_look_again) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::visit_without_look, "dropped");
}

TEST(instant_model, mutant_closed_while_somebody_is_inside) {
  expect_mutant_wrong<instant_world>({}, &instant_rules::close_at_once, "dropped");
}

}  // namespace
}  // namespace weft::model
