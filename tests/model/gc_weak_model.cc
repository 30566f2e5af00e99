// Models of what the collector promises beyond marking: that a weak reference gives out an object
// only if it outlives the cycle (gc/weak.cc), and that slots which a thread has in hand but not
// given out are no objects (gc/alloc.cc). Marking itself is gc_model.cc's.
#include <cstring>

#include "tests/model/check.h"

namespace weft::model {
namespace {

// --- lock() of a weak reference ---
//
// World   one object, which a root refers to, and a weak reference. A worker locks the weak one,
//         drops what it got, or parks with it: the stack of a task that has parked was scanned
//         before it ran, and is not looked at again in this cycle. Another worker clears the root.
// Swept   a span is swept in steps: it says so, the cell of a dead object is cleared, the marks
//         become the allocation bits, the marks are cleared, it says that it is done.
// Wrong   an object that was found dead is held by somebody; or lock() has said that one is dead
//         which was not.

struct weak_rules {
  bool shade_while_marking = true;
  bool stop_inside_lock = false;      // a stop may come between looking at the phase and shading
  bool mark_asked = true;             // of an object that is not swept yet
  bool sweep_looked_at_twice = true;  // before and after its mark was read
};

class weak_world {
 public:
  static constexpr int threads = 3;
  static constexpr int collector = 2;
  enum phase : uint8_t { before, marking, sweeping, over };
  enum sweep : uint8_t { not_yet, under_way, swept };

  struct state {
    tso_memory<threads, 1, 1> memory;  // the root
    uint8_t phase, marked, allocated, cell, span, died;
    uint8_t local, parked;       // of the worker that locks
    uint8_t deferring, looked;   // its critical section; what it read of the span
    uint8_t found, overwritten;  // its mark, as it was read; what the other has overwritten
    uint8_t wrong_answer;
    control<1> at[threads];
  };

  explicit weak_world(const weak_rules& rules) : rules_(rules) {}
  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.memory.words[0] = 1;
    s.allocated = s.cell = 1;
    s.span = swept;
    for (auto& at : s.at) at.call(0);
    return s;
  }
  bool live(const state& s, int i) const { return s.phase != over && !s.at[i].ended(); }
  bool done(const state& s) const { return s.phase == over; }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"locker", "owner", "collector"};
    return names[i];
  }
  static const char* word_name(int) { return "the root"; }
  const char* wrong(const state& s) const {
    if (s.died && (s.local || s.parked)) return "a dead object was given out";
    if (s.wrong_answer) return "a living object was said to be dead";
    return nullptr;
  }
  void run(state& s, int me, turn& t) const {
    if (me == collector)
      collect(s, t);
    else if (me == 1)
      own(s, t);
    else
      lock(s, t);
  }

 private:
  static void answer_null(state& s) {
    if (!s.died) s.wrong_answer = 1;
    s.deferring = 0;
  }
  static void answer(state& s) {
    s.local = 1;
    s.deferring = 0;
  }

  void lock(state& s, turn& t) const {
    WEFT_CODE(s.at[0])
    for (;;) {
      s.looked = s.found = 0;
      WEFT_STEP("");
      switch (t.choose(3)) {
        case 0:
          t.label = "drop";
          s.local = 0;
          continue;
        case 1:
          t.label = "park with it";
          s.parked = s.local;
          s.local = 0;
          continue;
        default:
          t.label = "lock: begin";
          s.deferring = !rules_.stop_inside_lock;
      }
      for (;;) {
        WEFT_STEP("lock: load the cell");
        if (!s.cell) {
          answer_null(s);
          break;
        }
        WEFT_STEP("lock: look at the phase");
        s.looked = s.phase == marking;
        if (s.looked) {
          WEFT_STEP("lock: shade");
          if (rules_.shade_while_marking) s.marked = 1;
          answer(s);
          break;
        }
        WEFT_STEP("lock: find the object");
        if (!s.allocated) continue;
        WEFT_STEP("lock: is its span swept");
        s.looked = s.span;
        if (s.looked == swept) {
          WEFT_STEP("lock: load the cell again");
          if (!s.cell) continue;
          answer(s);
          break;
        }
        WEFT_STEP("lock: read the mark");
        s.found = s.marked || !rules_.mark_asked;
        WEFT_STEP("lock: is its sweep still to come");
        if (rules_.sweep_looked_at_twice && (s.looked != not_yet || s.span != not_yet)) continue;
        if (s.found)
          answer(s);
        else
          answer_null(s);
        break;
      }
    }
    WEFT_END
  }

  void own(state& s, turn& t) const {
    WEFT_CODE(s.at[1])
    WEFT_STEP("clear the root: load what is there");
    s.overwritten = static_cast<uint8_t>(s.memory.load(1, 0));
    WEFT_STEP("clear the root: write");
    s.memory.store(1, 0, 0);
    s.memory.drain(1);
    WEFT_STEP("clear the root: look at the flag, shade");
    if (s.phase == marking) s.marked = 1;
    s.overwritten = 0;
    WEFT_END
  }

  // Running stacks and registers; and at the first stop the stack of who is parked.
  static void scan(state& s) {
    if (s.local || s.overwritten) s.marked = 1;
  }

  void collect(state& s, turn& t) const {
    WEFT_CODE(s.at[collector])
    WEFT_STEP("first stop");
    WEFT_WAIT_UNLESS(!s.deferring);
    s.phase = marking;
    scan(s);
    if (s.parked) s.marked = 1;
    WEFT_STEP("mark the root");
    if (s.memory.load(collector, 0) != 0) s.marked = 1;
    WEFT_STEP("second stop");
    WEFT_WAIT_UNLESS(!s.deferring);
    scan(s);
    s.died = !s.marked;
    s.span = not_yet;
    s.phase = sweeping;
    WEFT_STEP("sweep: begin");
    s.span = under_way;
    WEFT_STEP("sweep: clear the cell of a dead object");
    if (!s.marked) s.cell = 0;
    WEFT_STEP("sweep: marks become allocation bits");
    s.allocated = s.marked;
    WEFT_STEP("sweep: clear the marks");
    s.marked = 0;
    WEFT_STEP("sweep: end");
    s.span = swept;
    WEFT_STEP("the cycle ends");
    s.phase = over;
    WEFT_END
  }

  weak_rules rules_;
};

TEST(gc_weak_model, lock) { expect_right(weak_world({})); }

// The task parks with it, and its stack has been scanned already.
TEST(gc_weak_model, mutant_lock_does_not_shade) {
  weak_rules r;
  r.shade_while_marking = false;
  expect_wrong(weak_world(r), "a dead object was given out");
}

// It saw that marking is on; when it shades, marking has ended.
TEST(gc_weak_model, mutant_stopped_inside_lock) {
  weak_rules r;
  r.stop_inside_lock = true;
  expect_wrong(weak_world(r), "a dead object was given out");
}

TEST(gc_weak_model, mutant_unswept_objects_are_taken_for_alive) {
  weak_rules r;
  r.mark_asked = false;
  expect_wrong(weak_world(r), "a dead object was given out");
}

// The sweep has cleared the mark in between.
TEST(gc_weak_model, mutant_sweep_overtakes_the_look_at_the_mark) {
  weak_rules r;
  r.sweep_looked_at_twice = false;
  expect_wrong(weak_world(r), "a living object was said to be dead");
}

// --- The rest of an allocation run ---
//
// World   a thread takes a run of two slots, and gives them out one after the other. What it has
//         given out goes to the stack of a task that parks. Some stack has stale words that look
//         like references to the slots.
// Wrong   the marker looks into a slot that nobody has been given; an object that was made during
//         the cycle is not marked at its end, or a slot that nobody has been given is.

struct tail_rules {
  bool marked_first = true;       // a run's slots are marked before they are allocated
  bool black = true;              // a run that is taken while marking is on is marked
  bool retired_at_first = true;   // runs are given back at the first stop
  bool retired_at_second = true;  // and at the second
  bool atomic_take = true;        // taking a run is not cut in two by a stop
};

class tail_world {
 public:
  static constexpr int threads = 2;
  static constexpr int collector = 1;
  static constexpr int slots = 2;
  enum phase : uint8_t { before, marking, over };

  struct state {
    tso_memory<threads, 1, 1> memory;
    uint8_t phase, black, deferring, peeked;
    uint8_t run, next;  // has a run in hand; its next slot
    uint8_t marked[slots], allocated[slots], given[slots];
    control<1> at[threads];
  };

  explicit tail_world(const tail_rules& rules) : rules_(rules) {}
  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    for (auto& at : s.at) at.call(0);
    return s;
  }
  bool live(const state& s, int i) const { return s.phase != over && !s.at[i].ended(); }
  bool done(const state& s) const { return s.phase == over; }
  static const char* thread_name(int i) { return i == collector ? "collector" : "thread"; }
  static const char* word_name(int) { return "nothing"; }
  const char* wrong(const state& s) const {
    if (s.peeked) return "the marker looked into a slot that nobody has";
    for (int i = 0; s.phase == over && i < slots; ++i) {
      if (s.given[i] && !s.marked[i]) return "a new object is lost";
      if (!s.given[i] && s.marked[i]) return "a free slot counts as an object";
    }
    return nullptr;
  }
  void run(state& s, int me, turn& t) const {
    if (me == collector)
      collect(s, t);
    else
      allocate(s, t);
  }

 private:
  void allocate(state& s, turn& t) const {
    WEFT_CODE(s.at[0])
    for (;;) {
      WEFT_STEP("");
      if (s.run) {
        t.label = "give out the next slot";
        s.given[s.next] = 1;
        if (++s.next == slots) s.run = s.next = 0;
        continue;
      }
      t.label = "take a run: look at the flag";
      if (s.given[slots - 1]) return t.block();
      s.deferring = rules_.atomic_take;
      s.black = s.phase == marking && rules_.black;
      s.next = s.given[0];
      if (rules_.marked_first) {
        WEFT_STEP("take a run: mark its slots");
        set(s, s.marked, s.black);
        WEFT_STEP("take a run: its slots are allocated");
        set(s, s.allocated, 1);
      } else {
        WEFT_STEP("take a run: its slots are allocated");
        set(s, s.allocated, 1);
        WEFT_STEP("take a run: mark its slots");
        set(s, s.marked, s.black);
      }
      s.run = 1;
      s.deferring = 0;
    }
    WEFT_END
  }
  static void set(state& s, uint8_t (&bits)[slots], uint8_t value) {
    for (int i = s.next; i < slots; ++i) bits[i] |= value;
  }
  static void retire(state& s) {
    if (s.run) {
      for (int i = s.next; i < slots; ++i) s.allocated[i] = s.marked[i] = 0;
    }
    s.run = s.next = 0;
  }

  void collect(state& s, turn& t) const {
    WEFT_CODE(s.at[collector])
    WEFT_STEP("first stop: take the runs back, scan stacks");
    WEFT_WAIT_UNLESS(!s.deferring);
    if (rules_.retired_at_first) retire(s);
    s.phase = marking;
    for (int i = 0; i < slots; ++i) s.marked[i] |= s.given[i];
    for (;;) {
      WEFT_STEP("");
      const int choice = t.choose(slots + 1);
      if (choice == slots) {
        t.label = "second stop: take the runs back";
        WEFT_WAIT_UNLESS(!s.deferring);
        if (rules_.retired_at_second) retire(s);
        s.phase = over;
        WEFT_RETURN;
      }
      t.label = "mark: a stale word that looks like a slot";
      if (!s.allocated[choice] || s.marked[choice]) return t.block();
      s.marked[choice] = 1;
      s.peeked |= !s.given[choice];
    }
    WEFT_END
  }

  tail_rules rules_;
};

TEST(gc_tail_model, the_protocol) { expect_right(tail_world({})); }

TEST(gc_tail_model, mutant_allocated_before_marked) {
  tail_rules r;
  r.marked_first = false;
  expect_wrong(tail_world(r), "looked into a slot that nobody has");
}

TEST(gc_tail_model, mutant_runs_are_white) {
  tail_rules r;
  r.black = false;
  expect_wrong(tail_world(r));
}

// A run from before the cycle: its slots are given out while marking is on, and are not marked.
TEST(gc_tail_model, mutant_runs_survive_the_first_stop) {
  tail_rules r;
  r.retired_at_first = false;
  expect_wrong(tail_world(r));
}

TEST(gc_tail_model, mutant_tails_stay_marked) {
  tail_rules r;
  r.retired_at_second = false;
  expect_wrong(tail_world(r), "a free slot counts as an object");
}

// The flag was looked at before the stop, the bits are set after it.
TEST(gc_tail_model, mutant_stopped_while_taking_a_run) {
  tail_rules r;
  r.atomic_take = false;
  expect_wrong(tail_world(r));
}

}  // namespace
}  // namespace weft::model
