// Model of lock() of a weak reference (gc/weak.cc): it gives out an object only if that outlives
// the cycle. Marking itself is gc_model.cc's.
//
// World   one object, which a root refers to, and a weak reference. A worker locks the weak one,
//         drops what it got, or parks with it: the stack of a task that has parked was scanned
//         before it ran, and is not looked at again in this cycle. Another worker clears the root.
// Swept   a span is swept in steps: it says so, the cell of a dead object is cleared, the marks
//         become the allocation bits, the marks are cleared, it says that it is done.
// Wrong   an object that was found dead is held by somebody; or lock() has said that one is dead
//         which was not.
#include <cstring>

#include "tests/model/check.h"

namespace weft::model {
namespace {

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
  expect_mutant_wrong<weak_world>({}, &weak_rules::shade_while_marking,
                                  "a dead object was given out");
}

// It saw that marking is on; when it shades, marking has ended.
TEST(gc_weak_model, mutant_stopped_inside_lock) {
  expect_mutant_wrong<weak_world>({}, &weak_rules::stop_inside_lock, "a dead object was given out");
}

TEST(gc_weak_model, mutant_unswept_objects_are_taken_for_alive) {
  expect_mutant_wrong<weak_world>({}, &weak_rules::mark_asked, "a dead object was given out");
}

// The sweep has cleared the mark in between.
TEST(gc_weak_model, mutant_sweep_overtakes_the_look_at_the_mark) {
  expect_mutant_wrong<weak_world>({}, &weak_rules::sweep_looked_at_twice,
                                  "a living object was said to be dead");
}

}  // namespace
}  // namespace weft::model
