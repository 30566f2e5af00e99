// Model of concurrent marking: snapshot at the beginning, a deletion barrier that looks at the flag
// after the store, stacks of parked tasks scanned one by one before they are resumed.
//
// World   two workers run three or four tasks, of which all but two are parked; three objects, one
//         traced root slot outside of them. A task has one local (its stack); a worker in the
//         middle of a store has two registers. Tasks do what their menus allow, in any order, for
//         as long as the cycle lasts.
// Stops   a stop of the world is one step of the collector: the workers stand still wherever they
//         are. A worker that is stopped first and one that is stopped last differ only in that the
//         first did not move in between, which is among the interleavings.
// Marks   an object is white, buffered (marked, in the buffer of a worker), grey (in the queue) or
//         black. Reading an object and shading what it refers to is one step: what changes in
//         between is an overwrite, which the barrier sees.
// Wrong   when the second stop ends the cycle, an object that the program can reach is not marked.
#include <bit>
#include <cstring>

#include "tests/model/check.h"

namespace weft::model {
namespace {

enum operation : uint8_t {
  rest,
  load_root,      // local = root
  load_field,     // local = local->field
  drop,           // local = null
  store_root,     // root = local
  clear_root,     // root = null
  clear_field,    // local->field = null
  copy_root,      // local->field = root
  exchange_root,  // atomic_ref: the old value is what the exchange returned
  move_over,      // a bulk move over root and the field of object 1
  switch_task,    // park, and resume another
  peek,           // local = local of a parked task, by a raw reference into its frame
  steal,          // the same, and the parked task's local = null
  operations
};
constexpr const char* operation_names[operations] = {"",
                                                     "load the root",
                                                     "load a field",
                                                     "drop the local",
                                                     "store to the root: load what is there",
                                                     "clear the root: load what is there",
                                                     "clear a field: load what is there",
                                                     "copy the root to a field: load what is there",
                                                     "exchange the root",
                                                     "bulk move: look at the flag, shade",
                                                     "switch: pick a task",
                                                     "read a parked task's frame",
                                                     "read a parked task's frame, to clear it"};

using menu = uint32_t;
constexpr menu items(std::initializer_list<operation> list) {
  menu m = 0;
  for (operation o : list) m |= 1u << o;
  return m;
}
constexpr menu reads = items({load_root, switch_task});
constexpr menu root_stores = items({drop, store_root, switch_task});
constexpr menu stores = items({load_root, load_field, clear_root, clear_field, switch_task});

struct gc_rules {
  int tasks = 3;   // 0 and 1 run at first, the others are parked
  int fields = 1;  // objects 1 to `fields` have one field
  menu of_task[4] = {stores, reads, root_stores, reads};
  bool buffered = false;  // a store waits in its processor's buffer (x86-TSO)

  // Ways to do it.
  bool only_safepoints = false;  // a worker stops only between two operations
  bool check_before = false;     // the barrier looks at the flag before the store
  bool rescan_running = true;    // at the second stop: registers and locals of running tasks
  bool rescan_all = false;       // at the second stop: all stacks
  bool deletion = true;          // shade what is overwritten
  bool insertion = false;        // shade what is written
  bool scan_before_resume = true;
  bool ragged_start = false;  // the flag is published without a stop; workers scan themselves later
  bool joins_at_first_stop = false;  // parked frames that others may overwrite are scanned there
  bool locked_writers = true;        // the program lets one task at a time write to a slot

  // Mutants.
  bool stop_inside_shade = false;   // between setting the mark and pushing the object
  bool stop_inside_resume = false;  // between looking at the flag and running
  bool stop_inside_move = false;    // between shading the range and overwriting it
  bool claim_ignored = false;       // a task is resumed while its stack is being scanned
  bool buffers_kept = false;        // the second stop leaves the workers' buffers alone
  bool greys_dropped = false;       // what the second stop finds is marked but not followed
};

class gc_world {
 public:
  static constexpr int threads = 3;
  static constexpr int collector = 2;
  static constexpr int objects = 3;
  enum phase : uint8_t { before, marking, over };
  enum colour : uint8_t { white, buffered, grey, black, unpushed };

  struct thread {
    control<1> at;
    uint8_t task;        // of a worker
    uint8_t op;          // what it is in the middle of
    uint8_t slot;        // the word that is stored to; the task that is resumed; the task claimed
    uint8_t fresh, old;  // registers: what is stored, what was overwritten
    uint8_t seen;        // the flag, looked at early
    uint8_t deferring;   // a stop must wait
  };
  struct state {
    tso_memory<threads, 1 + objects, 1> memory;  // the root, the fields
    uint8_t phase, root_scanned, claimed;        // claimed: 1 + task
    uint8_t colour[1 + objects];
    uint8_t local[4], scanned[4], runs_on[4], picked[4];  // runs_on: 1 + worker
    uint8_t worker_scanned[2];                            // of a ragged start
    thread of[threads];
  };

  explicit gc_world(const gc_rules& rules) : rules_(rules) {}

  // root -> 1 -> 2; object 3 is on the stack of the first parked task alone.
  state initial() const {
    state s;
    std::memset(&s, 0, sizeof s);
    s.memory.words[0] = 1;
    s.memory.words[1] = 2;
    s.local[2] = 3;
    s.of[1].task = 1;
    s.runs_on[0] = 1;
    s.runs_on[1] = 2;
    for (int i = 0; i < threads; ++i) s.of[i].at.call(0);
    return s;
  }
  bool live(const state& s, int) const { return s.phase != over; }
  bool done(const state& s) const { return s.phase == over; }
  static const char* thread_name(int i) {
    static constexpr const char* names[] = {"worker 0", "worker 1", "collector"};
    return names[i];
  }
  static const char* word_name(int i) {
    static constexpr const char* names[] = {"the root", "field 1", "field 2", "field 3"};
    return names[i];
  }
  const char* wrong(const state& s) const {
    if (s.phase != over) return nullptr;
    uint8_t reached = follow(s, static_cast<uint8_t>(s.memory.words[0]));
    for (int i = 0; i < rules_.tasks; ++i) reached |= follow(s, s.local[i]);
    for (int i = 0; i < collector; ++i) reached |= follow(s, s.of[i].fresh);
    for (int i = 1; i <= objects; ++i)
      if ((reached >> i & 1) != 0 && s.colour[i] == white) return "an object in use is lost";
    return nullptr;
  }
  void run(state& s, int me, turn& t) const {
    if (me == collector)
      collect(s, t);
    else
      work(s, me, t);
  }

 private:
  static uint8_t follow(const state& s, uint8_t from) {
    uint8_t reached = 0;
    while (from != 0 && (reached >> from & 1) == 0) {
      reached |= static_cast<uint8_t>(1 << from);
      from = static_cast<uint8_t>(s.memory.words[from]);
    }
    return reached;
  }
  static void shade(state& s, uint8_t object, colour as) {
    if (object != 0 && s.colour[object] == white) s.colour[object] = as;
  }
  void write(state& s, int me, int word, uint8_t value) const {
    s.memory.store(me, word, value);
    if (!rules_.buffered) s.memory.drain(me);
  }
  uint8_t read(const state& s, int me, int word) const {
    return static_cast<uint8_t>(s.memory.load(me, word));
  }

  // --- A worker ---

  void work(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    WEFT_CODE(th.at)
    for (;;) {
      th.op = th.slot = th.fresh = th.old = th.seen = th.deferring = 0;
      WEFT_STEP("");
      begin(s, me, t);
      if (t.blocked) return;
      if (th.op == rest) continue;
      if (th.op == switch_task) {
        WEFT_STEP("switch: scan the picked task's stack if that is due, run it");
        WEFT_WAIT_UNLESS(s.claimed != th.slot + 1 || rules_.claim_ignored);
        resume(s, me);
      } else if (th.op == steal) {
        WEFT_STEP("clear a parked task's local");
        s.local[th.slot] = 0;
      } else if (th.op == move_over) {
        WEFT_STEP("bulk move: overwrite the root");
        write(s, me, 0, 0);
        WEFT_STEP("bulk move: overwrite the field");
        write(s, me, 1, 0);
      } else if (rules_.check_before) {
        WEFT_STEP("store: shade if the flag was set");
        if (th.seen) {
          th.old = read(s, me, th.slot);
          barrier(s, me);
        }
        WEFT_STEP("store: write");
        write(s, me, th.slot, th.fresh);
      } else {
        if (th.op != exchange_root) {
          WEFT_STEP("store: write");
          write(s, me, th.slot, th.fresh);
        }
        WEFT_STEP("store: look at the flag, shade");
        if (s.phase == marking) barrier(s, me);
        if (rules_.stop_inside_shade && th.old != 0 && s.colour[th.old] == unpushed) {
          WEFT_STEP("store: push what was shaded");
          s.colour[th.old] = buffered;
        }
      }
    }
    WEFT_END
  }

  void barrier(state& s, int me) const {
    const thread& th = s.of[me];
    if (rules_.deletion) shade(s, th.old, rules_.stop_inside_shade ? unpushed : buffered);
    if (rules_.insertion) shade(s, th.fresh, buffered);
  }

  // The first step of an operation; the whole of it if it leaves `op` at rest.
  void begin(state& s, int me, turn& t) const {
    thread& th = s.of[me];
    uint8_t& local = s.local[th.task];
    menu list = rules_.of_task[th.task];
    int choice = t.choose(std::popcount(list) + rules_.tasks - 3);
    int other = 0;  // with two parked tasks a switch has two choices
    if (choice >= std::popcount(list)) {
      choice = std::popcount(list & (items({switch_task}) - 1));
      other = 1;
    }
    while (choice-- > 0) list &= list - 1;
    const auto op = static_cast<operation>(std::countr_zero(list));
    t.label = operation_names[op];
    switch (op) {
      case load_root:
        local = read(s, me, 0);
        return;
      case load_field:
        if (local == 0 || local > rules_.fields) return t.block();
        local = read(s, me, local);
        return;
      case drop:
        local = 0;
        return;
      case store_root:
        return begin_store(s, me, op, 0, local, t);
      case clear_root:
        return begin_store(s, me, op, 0, 0, t);
      case clear_field:
      case copy_root:
        if (local == 0 || local > rules_.fields) return t.block();
        return begin_store(s, me, op, local, op == copy_root ? read(s, me, 0) : uint8_t{0}, t);
      case exchange_root:
        th.op = op;
        th.old = static_cast<uint8_t>(s.memory.exchange(me, 0, local));
        return;
      case move_over:
        if (busy(s, me, 0) || busy(s, me, 1)) return t.block();
        th.op = op;
        th.deferring = !rules_.stop_inside_move;
        if (s.phase == marking) {
          shade(s, read(s, me, 0), buffered);
          shade(s, read(s, me, 1), buffered);
        }
        return;
      case switch_task: {
        const int k = parked(s, other);
        if (k < 0) return t.block();
        th.op = op;
        th.slot = static_cast<uint8_t>(k);
        th.seen = s.phase == marking;
        th.deferring = !rules_.stop_inside_resume;
        s.picked[k] = 1;
        return;
      }
      case peek:
      case steal: {
        const int k = parked(s, 0);
        if (k < 0) return t.block();
        local = s.local[k];
        if (op == steal) {
          th.op = op;
          th.slot = static_cast<uint8_t>(k);
        }
        return;
      }
      default:
        t.fail("no such operation");
    }
  }

  void begin_store(state& s, int me, operation op, int word, uint8_t value, turn& t) const {
    thread& th = s.of[me];
    if (busy(s, me, word)) return t.block();
    th.op = op;
    th.slot = static_cast<uint8_t>(word);
    th.fresh = value;
    if (rules_.check_before)
      th.seen = s.phase == marking;  // what is there is loaded only if it is to be shaded
    else
      th.old = read(s, me, word);
  }

  // The other worker is in the middle of writing to the word, and the program has a lock for that,
  // which is not seen free before the store has arrived.
  bool busy(const state& s, int me, int word) const {
    const thread& o = s.of[1 - me];
    if (!rules_.locked_writers) return false;
    for (int i = 0; i < s.memory.used[1 - me]; ++i)
      if (s.memory.buffer[1 - me][i].word == word) return true;
    if (o.op == move_over) return word <= 1;
    return o.op >= store_root && o.op <= copy_root && o.slot == word;
  }

  // The n-th task that is off its worker and that nobody resumes.
  int parked(const state& s, int n) const {
    for (int i = 0; i < rules_.tasks; ++i)
      if (s.runs_on[i] == 0 && s.picked[i] == 0 && n-- == 0) return i;
    return -1;
  }

  void resume(state& s, int me) const {
    thread& th = s.of[me];
    const bool due = th.seen && !s.scanned[th.slot] && s.claimed != th.slot + 1;
    if (due && rules_.scan_before_resume) {
      shade(s, s.local[th.slot], buffered);
      s.scanned[th.slot] = 1;
    }
    s.runs_on[th.task] = 0;
    s.runs_on[th.slot] = static_cast<uint8_t>(me + 1);
    s.picked[th.slot] = 0;
    th.task = th.slot;
  }

  // --- The collector ---

  bool can_stop(const state& s) const {
    for (int i = 0; i < collector; ++i) {
      if (s.of[i].deferring) return false;
      if (rules_.only_safepoints && s.of[i].op != rest) return false;
    }
    return true;
  }
  static void scan_worker(state& s, int w) {
    const thread& th = s.of[w];
    shade(s, s.local[th.task], grey);
    shade(s, th.fresh, grey);
    shade(s, th.old, grey);
    s.scanned[th.task] = s.worker_scanned[w] = 1;
  }
  static void drain_all(state& s) {
    for (int i = 0; i < threads; ++i) s.memory.drain(i);
  }

  void collect(state& s, turn& t) const {
    thread& th = s.of[collector];
    WEFT_CODE(th.at)
    WEFT_STEP("first stop: scan what runs, set the flag");
    WEFT_WAIT_UNLESS(rules_.ragged_start || can_stop(s));
    drain_all(s);
    s.phase = marking;
    if (!rules_.ragged_start)
      for (int w = 0; w < collector; ++w) scan_worker(s, w);
    if (rules_.joins_at_first_stop) {
      for (int i = 0; i < rules_.tasks; ++i) {
        shade(s, s.local[i], grey);
        s.scanned[i] = 1;
      }
    }
    for (;;) {
      WEFT_STEP("");
      mark(s, t);
      if (t.blocked) return;
      if (s.claimed != 0) {
        WEFT_STEP("mark: scan the claimed task's stack");
        shade(s, s.local[s.claimed - 1], grey);
        s.scanned[s.claimed - 1] = 1;
        s.claimed = 0;
      }
    }
    WEFT_END
  }

  void mark(state& s, turn& t) const {
    const int choice = t.choose(13);
    if (choice == 0) {
      t.label = "mark: scan the root";
      if (s.root_scanned) return t.block();
      s.root_scanned = 1;
      shade(s, read(s, collector, 0), grey);
    } else if (choice <= 3) {
      t.label = "mark: scan an object";
      if (s.colour[choice] != grey) return t.block();
      s.colour[choice] = black;
      shade(s, read(s, collector, choice), grey);
    } else if (choice <= 7) {
      t.label = "mark: claim a parked task";
      const int k = choice - 4;
      if (k >= rules_.tasks || s.runs_on[k] != 0 || s.scanned[k]) return t.block();
      s.claimed = static_cast<uint8_t>(k + 1);
    } else if (choice == 8) {
      t.label = "mark: take the workers' buffers";
      if (!any(s, buffered)) return t.block();
      flush(s);
    } else if (choice <= 10) {
      t.label = "mark: a worker scans itself";
      const int w = choice - 9;
      if (!rules_.ragged_start || s.worker_scanned[w] || s.of[w].deferring) return t.block();
      s.memory.drain(w);
      scan_worker(s, w);
    } else {
      second_stop(s, choice == 12, t);
    }
  }

  static bool any(const state& s, colour c) {
    for (int i = 1; i <= objects; ++i)
      if (s.colour[i] == c) return true;
    return false;
  }
  static void flush(state& s) {
    for (uint8_t& c : s.colour)
      if (c == buffered) c = grey;
  }

  // Ends the cycle if it finds nothing new; otherwise marking goes on, or is finished in the stop.
  void second_stop(state& s, bool finish, turn& t) const {
    t.label = "second stop";
    if (!s.root_scanned || any(s, grey) || !can_stop(s)) return t.block();
    for (int i = 0; i < rules_.tasks; ++i)
      if (s.runs_on[i] == 0 && !s.scanned[i]) return t.block();
    if (rules_.ragged_start && !(s.worker_scanned[0] && s.worker_scanned[1])) return t.block();
    drain_all(s);
    if (!rules_.buffers_kept) flush(s);
    if (rules_.rescan_running)
      for (int w = 0; w < collector; ++w) scan_worker(s, w);
    if (rules_.rescan_all)
      for (int i = 0; i < rules_.tasks; ++i) shade(s, s.local[i], grey);
    const bool more = any(s, grey) && !rules_.greys_dropped;
    if (!more && finish) return t.block();  // the same as without
    if (more && !finish) {
      t.label = "second stop: new work, marking goes on";
      return;
    }
    while (!rules_.greys_dropped && any(s, grey)) {
      for (int i = 1; i <= objects; ++i) {
        if (s.colour[i] != grey) continue;
        s.colour[i] = black;
        shade(s, static_cast<uint8_t>(s.memory.words[i]), grey);
      }
    }
    s.phase = over;
  }

  gc_rules rules_;
};

constexpr const char* lost = "an object in use is lost";

// Deep: two objects have fields, every task does everything.
gc_rules larger(gc_rules r) {
  if (!deep()) return r;
  r.fields = 2;
  for (menu& m : r.of_task)
    m |= items({load_root, load_field, drop, store_root, clear_root, clear_field, copy_root});
  return r;
}

TEST(gc_model, the_protocol) { expect_right(gc_world(larger({}))); }

TEST(gc_model, the_protocol_with_store_buffers) {
  gc_rules r;
  r.buffered = true;
  r.of_task[0] = root_stores;
  expect_right(gc_world(larger(r)));
}

TEST(gc_model, stops_at_safepoints_only) {
  gc_rules r;
  r.only_safepoints = true;
  expect_right(gc_world(r));
  r.check_before = true;
  expect_right(gc_world(r));
}

// Stopped between the store and the check; another task had loaded the old value.
TEST(gc_model, mutant_second_stop_leaves_running_registers) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::rescan_running, lost);
}

TEST(gc_model, mutant_flag_looked_at_before_the_store) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::check_before, lost);
}

TEST(gc_model, mutant_resumed_without_a_scan) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::scan_before_resume, lost);
}

TEST(gc_model, mutant_resumed_during_the_scan) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::claim_ignored, lost);
}

TEST(gc_model, mutant_stopped_inside_resume) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::stop_inside_resume, lost);
}

// The mark is set and nobody has the object in a queue: the rescan takes it for done.
TEST(gc_model, mutant_stopped_inside_shade) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::stop_inside_shade, lost);
}

TEST(gc_model, mutant_buffers_not_flushed_at_the_second_stop) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::buffers_kept, lost);
}

TEST(gc_model, mutant_greys_of_the_second_stop_not_followed) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::greys_dropped, lost);
}

// A raw reference into the frame of a parked task.
TEST(gc_model, parked_frames_read_by_others) {
  gc_rules r;
  r.of_task[1] |= items({peek});
  expect_right(gc_world(larger(r)));
}

TEST(gc_model, mutant_parked_frames_overwritten_by_others) {
  gc_rules r;
  r.of_task[0] |= items({steal});
  expect_wrong(gc_world(r), lost);
}

// The two defences: frames that can be shared are scanned while all stand still; or everything that
// is written is shaded as well, and all stacks are scanned again at the end.
TEST(gc_model, overwritten_frames_scanned_at_the_first_stop) {
  gc_rules r;
  r.of_task[0] = root_stores | items({steal});
  r.joins_at_first_stop = true;
  expect_right(gc_world(larger(r)));
}

TEST(gc_model, overwritten_frames_in_paranoid_mode) {
  gc_rules r;
  r.of_task[0] = root_stores | items({steal});
  r.insertion = r.rescan_all = true;
  expect_right(gc_world(larger(r)));
}

TEST(gc_model, mutant_overwritten_frames_with_insertion_alone) {
  gc_rules r;
  r.of_task[0] |= items({steal});
  r.insertion = true;
  expect_wrong(gc_world(r), lost);
}

TEST(gc_model, mutant_ragged_start_without_insertion) {
  expect_mutant_wrong<gc_world>({}, &gc_rules::ragged_start, lost);
}

TEST(gc_model, ragged_start_with_both_barriers) {
  gc_rules r;
  r.ragged_start = r.insertion = true;
  r.of_task[0] = items({load_root, clear_root, switch_task});
  expect_right(gc_world(larger(r)));
}

TEST(gc_model, mutant_insertion_alone_without_a_final_scan_of_stacks) {
  gc_rules r;
  r.deletion = false;
  r.insertion = true;
  expect_wrong(gc_world(r), lost);
}

// Two tasks write to one ref without a lock. The first has loaded the old value when the second
// stores another one; then the snapshot is taken; then the first overwrites what it has not seen.
// The program has a race, and needs atomic_ref.
TEST(gc_model, mutant_racing_writers_of_a_plain_ref) {
  gc_rules r;
  r.of_task[0] = r.of_task[1] = root_stores | items({load_root});
  r.locked_writers = false;
  expect_wrong(gc_world(r), lost);
}

TEST(gc_model, racing_writers_of_an_atomic_ref) {
  gc_rules r;
  r.of_task[0] = r.of_task[1] = items({load_root, drop, exchange_root, switch_task});
  r.of_task[2] = reads;
  r.locked_writers = false;
  expect_right(gc_world(larger(r)));
}

TEST(gc_model, bulk_moves) {
  gc_rules r;
  r.of_task[0] = reads | items({store_root, move_over});
  r.of_task[2] = items({load_root, drop, store_root, switch_task});
  expect_right(gc_world(larger(r)));
}

TEST(gc_model, mutant_stopped_inside_a_bulk_move) {
  gc_rules r;
  r.of_task[0] = reads | items({store_root, move_over});
  r.stop_inside_move = true;
  expect_wrong(gc_world(r), lost);
}

TEST(gc_model, two_parked_tasks) {
  gc_rules r;
  r.tasks = 4;
  r.of_task[0] = items({load_root, clear_root, switch_task});
  r.of_task[1] = r.of_task[3] = items({drop, switch_task});
  r.of_task[2] = root_stores;
  expect_right(gc_world(larger(r)));
  r.scan_before_resume = false;
  expect_wrong(gc_world(r), lost);
}

}  // namespace
}  // namespace weft::model
