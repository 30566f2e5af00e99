// Model of the rest of an allocation run (gc/alloc.cc): slots which a thread has in hand but has
// not given out are no objects.
//
// World   a thread takes a run of two slots, and gives them out one after the other. What it has
//         given out goes to the stack of a task that parks. Some stack has stale words that look
//         like references to the slots.
// Wrong   the marker looks into a slot that nobody has been given; an object that was made during
//         the cycle is not marked at its end, or a slot that nobody has been given is.
#include <cstring>

#include "tests/model/check.h"

namespace weft::model {
namespace {

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
  expect_mutant_wrong<tail_world>({}, &tail_rules::marked_first,
                                  "looked into a slot that nobody has");
}

TEST(gc_tail_model, mutant_runs_are_white) {
  expect_mutant_wrong<tail_world>({}, &tail_rules::black);
}

// A run from before the cycle: its slots are given out while marking is on, and are not marked.
TEST(gc_tail_model, mutant_runs_survive_the_first_stop) {
  expect_mutant_wrong<tail_world>({}, &tail_rules::retired_at_first);
}

TEST(gc_tail_model, mutant_tails_stay_marked) {
  expect_mutant_wrong<tail_world>({}, &tail_rules::retired_at_second,
                                  "a free slot counts as an object");
}

// The flag was looked at before the stop, the bits are set after it.
TEST(gc_tail_model, mutant_stopped_while_taking_a_run) {
  expect_mutant_wrong<tail_world>({}, &tail_rules::atomic_take);
}

}  // namespace
}  // namespace weft::model
