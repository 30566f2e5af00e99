// Model of [L1] in scheduler/locked_thread.cc: a task that is locked to its thread parks, yields,
// blocks and loses its processor, and every time some processor finds its way back to that thread.
//
// Two processors; the owner is the thread of the locked task, the only task there is. Two helpers
// stand for the other workers: they look for the task in the queue when a processor is idle. How
// they learn of it is idle_model.cc's matter, so here they just do; that a retake is atomic is
// retake_model.cc's.
#include "tests/model/check.h"

namespace weft::model {
namespace {

struct locked_rules {
  int rounds = 3;
  int retakes = 2;
  // Mutants.
  bool keeps_processor = false;   // the owner waits without handing its processor off
  bool reset_on_arrival = false;  // park_word is cleared when the owner begins to wait
  bool is_a_spare = false;        // the waiting owner may be given a processor for any work
  bool word_first = false;        // park_word is set before next_p
  bool helper_keeps = false;      // the bringer goes on using the processor
};

class locked_world {
 public:
  static constexpr int threads = 5;
  enum who : int { owner, helper, helper_2, waker, monitor, transit = 8, nobody = 9 };
  enum word : int { park_word, next_p };
  enum function : uint8_t { owner_f, helper_f, waker_f, monitor_f };
  enum act : uint8_t { parks, yields, blocks, requeues };

  struct thread {
    control<1> at;
    uint8_t count, p, value;
  };
  struct state {
    tso_memory<threads, 2, 3> memory;
    uint8_t holder[3];        // of processors 1 and 2
    uint8_t queued, waiting;  // the task is in a queue; on a wait list
    uint8_t in_user, gone;    // the task executes user code; its processor was retaken
    thread of[threads];
  };

  explicit locked_world(const locked_rules& rules) : rules_(rules) {}

  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.holder[1] = owner;
    s.holder[2] = nobody;
    s.of[owner].p = 1;
    s.of[owner].count = static_cast<uint8_t>(rules_.rounds);
    s.of[monitor].count = static_cast<uint8_t>(rules_.retakes);
    s.of[owner].at.call(owner_f);
    s.of[helper].at.call(helper_f);
    s.of[helper_2].at.call(helper_f);
    s.of[waker].at.call(waker_f);
    s.of[monitor].at.call(monitor_f);
    return s;
  }
  bool live(const state& s, int i) const { return !s.of[i].at.ended(); }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"owner", "helper", "helper 2", "waker", "monitor"};
    return names[i];
  }
  static const char* word_name(int i) { return i == park_word ? "park_word" : "next_p"; }
  const char* wrong(const state&) const { return nullptr; }
  bool done(const state& s) const {
    return s.of[owner].at.ended() && s.holder[1] == nobody && s.holder[2] == nobody &&
           s.queued == 0 && s.waiting == 0;
  }

  void run(state& s, int me, turn& t) const {
    switch (s.of[me].at.function[0]) {
      case owner_f:
        return run_owner(s, me, t);
      case helper_f:
        return run_helper(s, me, t);
      case waker_f:
        return run_waker(s, me, t);
      case monitor_f:
        return run_monitor(s, me, t);
      default:
        t.fail("no such function");
    }
  }

 private:
  static void use_p(state& s, int me, turn& t) {
    if (s.holder[s.of[me].p] != me) t.fail("a thread uses a processor that it does not hold");
  }
  static void give_away(state& s, int me, turn& t) {
    use_p(s, me, t);
    s.holder[s.of[me].p] = nobody;
    s.of[me].p = 0;
  }
  static bool take_idle(state& s, int me) {
    for (uint8_t p = 1; p <= 2; ++p) {
      if (s.holder[p] != nobody) continue;
      s.holder[p] = static_cast<uint8_t>(me);
      s.of[me].p = p;
      return true;
    }
    return false;
  }

  void run_owner(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    while (th.count > 0) {
      --th.count;
      WEFT_STEP("task: user code");
      use_p(s, me, t);
      if (s.queued != 0 || s.waiting != 0) t.fail("the task runs although it is listed somewhere");
      s.in_user = 1;
      WEFT_STEP("task: enters the runtime");
      s.in_user = 0;
      th.value = static_cast<uint8_t>(t.choose(3));
      if (s.gone == 0 && th.value == blocks) {
        WEFT_STEP("begin_blocking: hand off P");
        give_away(s, me, t);
        s.gone = 1;
        WEFT_STEP("task: enters the runtime after the call");
        th.value = static_cast<uint8_t>(t.choose(2));
      }
      if (s.gone != 0) {
        WEFT_STEP("reacquire: take an idle P");
        s.gone = 0;
        if (!take_idle(s, me)) th.value = requeues;
      }
      if (th.value == blocks) continue;
      WEFT_STEP("task: has left its stack, is listed");
      s.memory.fence(me);
      if (th.value == parks)
        s.waiting = 1;
      else
        s.queued = 1;
      if (rules_.reset_on_arrival) {
        WEFT_STEP("await: park_word = 0");
        s.memory.store(me, park_word, 0);
      }
      if (th.p != 0 && !rules_.keeps_processor) {
        WEFT_STEP("await: hand off P");
        s.memory.fence(me);
        give_away(s, me, t);
      }
      WEFT_STEP("await: sleep until park_word");
      WEFT_WAIT_UNLESS(s.memory.load(me, park_word) == 1);
      if (!rules_.reset_on_arrival) {
        WEFT_STEP("await: park_word = 0");
        s.memory.store(me, park_word, 0);
      }
      WEFT_STEP("await: acquire next_p");
      th.p = static_cast<uint8_t>(s.memory.load(me, next_p));
      if (s.holder[th.p] != transit) t.fail("the owner gets a processor that nobody brought");
      s.holder[th.p] = owner;
    }
    WEFT_STEP("task ends: hand off P");
    s.memory.fence(me);
    give_away(s, me, t);
    WEFT_END
  }

  void run_helper(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    for (;;) {
      WEFT_STEP("helper: take an idle P");
      WEFT_WAIT_UNLESS(s.queued != 0 && take_idle(s, me));
      s.memory.fence(me);
      th.value = 1;
      if (rules_.is_a_spare) {
        WEFT_STEP("helper: somebody is to look for work: myself or the spare?");
        th.value = static_cast<uint8_t>(t.choose(2));
      }
      if (th.value != 0) {
        WEFT_STEP("helper: take the task from the queue");
        use_p(s, me, t);
        if (s.queued == 0) {
          give_away(s, me, t);
          continue;
        }
        s.queued = 0;
      }
      if (rules_.word_first) {
        WEFT_STEP("bring: park_word = 1");
        s.memory.store(me, park_word, 1);
      }
      WEFT_STEP("bring: next_p = P");
      use_p(s, me, t);
      s.holder[th.p] = transit;
      s.memory.store(me, next_p, th.p);
      if (!rules_.word_first) {
        WEFT_STEP("bring: park_word = 1");
        s.memory.store(me, park_word, 1);
      }
      if (rules_.helper_keeps) {
        WEFT_STEP("helper: uses P");
        use_p(s, me, t);
      }
      th.p = 0;
    }
    WEFT_END
  }

  void run_waker(state& s, int me, turn& t) const {
    WEFT_CODE(s.of[me].at)
    for (;;) {
      WEFT_STEP("waker: ready");
      WEFT_WAIT_UNLESS(s.waiting != 0);
      s.waiting = 0;
      s.queued = 1;
    }
    WEFT_END
  }

  void run_monitor(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    while (th.count > 0) {
      --th.count;
      WEFT_STEP("monitor: retake the owner's P");
      WEFT_WAIT_UNLESS(s.in_user != 0 && s.gone == 0);
      th.p = s.of[owner].p;
      if (s.holder[th.p] != owner) t.fail("retaken from a thread that does not hold it");
      s.holder[th.p] = monitor;
      s.of[owner].p = 0;
      s.gone = 1;
      WEFT_STEP("monitor: hand off P");
      give_away(s, me, t);
    }
    WEFT_END
  }

  locked_rules rules_;
};

TEST(locked_model, park_yield_block_and_retake) {
  locked_rules r;
  if (deep()) r.rounds = r.retakes = 5;
  expect_right(locked_world(r));
}

TEST(locked_model, mutant_owner_keeps_its_processor) {
  expect_mutant_wrong<locked_world>({}, &locked_rules::keeps_processor);
}

TEST(locked_model, mutant_word_reset_on_arrival) {
  expect_mutant_wrong<locked_world>({}, &locked_rules::reset_on_arrival);
}

TEST(locked_model, mutant_owner_is_a_spare) {
  expect_mutant_wrong<locked_world>({}, &locked_rules::is_a_spare);
}

TEST(locked_model, mutant_word_before_next_p) {
  expect_mutant_wrong<locked_world>({}, &locked_rules::word_first);
}

TEST(locked_model, mutant_bringer_keeps_the_processor) {
  expect_mutant_wrong<locked_world>({}, &locked_rules::helper_keeps);
}

}  // namespace
}  // namespace weft::model
