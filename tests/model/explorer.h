#pragma once
// Explores every interleaving of a small concurrent world.
//
// World     a class with the rules: the threads as step machines, what must never hold, what is a
//           good end. Its `state` is plain bytes, so that states can be copied, hashed, compared.
// Step      one visible action: what a thread does between two WEFT_STEPs. The explorer takes, in
//           every state, every step of every thread and every arrival of a buffered store.
// Memory    x86-TSO: a plain store waits in its thread's FIFO buffer, where only that thread sees
//           it; a fence or a locked instruction of the thread empties the buffer. drain() empties
//           another thread's, which membarrier does to each thread at some moment of its call. The
//           compiler's reorderings are not modelled; the code forbids them with its memory orders.
// Checked   world.wrong() in every state; fail() inside a step; a state in which nobody can go on
//           must be done(); and from every state such an end must be reachable, so nobody can be
//           kept busy for ever by the others' mistakes (lost wake-ups, livelocks).
// Result    The search is breadth-first: the trace of a violation is a shortest one.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <type_traits>
#include <vector>

namespace weft::model {

// WEFT_MODEL_DEEP=1 explores larger worlds.
inline bool deep() {
  const char* value = std::getenv("WEFT_MODEL_DEEP");
  return value != nullptr && std::strcmp(value, "0") != 0;
}

// Where a thread is: a small stack of (function, line). All bytes, so that a state has no padding.
struct line_number {
  uint8_t low, high;
  void operator=(int n) {
    low = static_cast<uint8_t>(n);
    high = static_cast<uint8_t>(n >> 8);
  }
  operator int() const { return low | high << 8; }
};

template <int Depth>
struct control {
  uint8_t depth;
  uint8_t function[Depth];
  line_number line[Depth];

  void call(uint8_t f) {
    if (depth == Depth) std::abort();
    function[depth] = f;
    line[depth] = 0;
    ++depth;
  }
  void leave() {
    --depth;
    function[depth] = 0;
    line[depth] = 0;
  }
  bool ended() const { return depth == 0; }
};

// One attempt at one step.
class turn {
 public:
  explicit turn(int choice) : choice_(choice) {}
  // The step has n outcomes that the model does not decide; the explorer takes all. Once per step.
  int choose(int n) {
    options = n;
    return choice_;
  }
  void block() { blocked = true; }  // the step is not possible now; nothing it did counts
  void fail(const char* why) {
    if (failure == nullptr) failure = why;
  }

  int options = 1;
  bool blocked = false;
  bool again = false;  // a call or return: the step goes on in another function
  const char* failure = nullptr;
  const char* label = "";

 private:
  int choice_;
};

// A step function looks like  void f(state& s, int me, turn& t) { WEFT_CODE(s.of[me].at); …
// WEFT_END; }
// clang-format off
#define WEFT_CODE(where) auto& at_ = (where); \
  switch (at_.line[at_.depth - 1]) { default: t.fail("no such line"); return; case 0:
#define WEFT_STEP(text) do { at_.line[at_.depth - 1] = __LINE__; return; case __LINE__: t.label = text; } while (false)
#define WEFT_CALL(f) do { at_.line[at_.depth - 1] = __LINE__; at_.call(f); t.again = true; return; case __LINE__:; } while (false)
#define WEFT_RETURN do { at_.leave(); t.again = true; return; } while (false)
#define WEFT_WAIT_UNLESS(condition) do { if (!(condition)) { t.block(); return; } } while (false)
#define WEFT_END WEFT_RETURN; }
// clang-format on

template <int Threads, int Words, int Slots>
struct tso_memory {
  static constexpr int threads = Threads;
  struct slot {
    int8_t word, value;
  };
  int8_t words[Words];
  int8_t used[Threads];
  slot buffer[Threads][Slots];

  int load(int thread, int word) const {
    for (int i = used[thread]; i-- > 0;)
      if (buffer[thread][i].word == word) return buffer[thread][i].value;
    return words[word];
  }
  // A full buffer makes room first, as the processor does.
  void store(int thread, int word, int value) {
    if (used[thread] == Slots) arrive(thread);
    buffer[thread][used[thread]++] = {static_cast<int8_t>(word), static_cast<int8_t>(value)};
  }
  void arrive(int thread) {
    slot* b = buffer[thread];
    words[b[0].word] = b[0].value;
    for (int i = 1; i < used[thread]; ++i) b[i - 1] = b[i];
    b[--used[thread]] = {0, 0};
  }
  void drain(int thread) {
    while (used[thread] > 0) arrive(thread);
  }
  void fence(int me) { drain(me); }
  // Locked instructions.
  int exchange(int me, int word, int value) {
    drain(me);
    int old = words[word];
    words[word] = static_cast<int8_t>(value);
    return old;
  }
  int add(int me, int word, int by) { return exchange(me, word, load(me, word) + by); }
  bool cas(int me, int word, int expected, int value) {
    drain(me);
    if (words[word] != expected) return false;
    words[word] = static_cast<int8_t>(value);
    return true;
  }
};

struct outcome {
  bool right = true;
  bool complete = true;  // false: stopped at the limit
  size_t states = 0;
  std::string why;    // of a violation
  std::string trace;  // the steps that lead to it
};

// Open addressing over 128-bit hashes: a collision among 10^7 states has odds of 10^-25.
class seen_set {
 public:
  seen_set() : table_(1 << 12) {}
  // The id of the state, `fresh` if it is new.
  uint32_t insert(const void* bytes, size_t size, bool& fresh) {
    if (2 * count_ >= table_.size()) grow();
    entry e = hash(bytes, size);
    entry& found = find(e);
    fresh = found.id == 0;
    if (fresh) {
      found = e;
      found.id = ++count_;
    }
    return found.id - 1;
  }

 private:
  struct entry {
    uint64_t a = 0, b = 0;
    uint32_t id = 0;  // + 1
  };
  static entry hash(const void* bytes, size_t size) {
    const auto* p = static_cast<const unsigned char*>(bytes);
    uint64_t a = 0x9e3779b97f4a7c15, b = 0xc2b2ae3d27d4eb4f;
    for (size_t i = 0; i < size; i += 8) {
      uint64_t w = 0;
      std::memcpy(&w, p + i, size - i < 8 ? size - i : 8);
      a = (a ^ w) * 0xff51afd7ed558ccd;
      a ^= a >> 32;
      b = (b + w) * 0x9fb21c651e98df25;
      b ^= b >> 29;
    }
    return {a, b, 0};
  }
  entry& find(const entry& e) {
    for (size_t i = e.a & (table_.size() - 1);; i = (i + 1) & (table_.size() - 1))
      if (table_[i].id == 0 || (table_[i].a == e.a && table_[i].b == e.b)) return table_[i];
  }
  void grow() {
    std::vector<entry> old(2 * table_.size());
    old.swap(table_);
    for (const entry& e : old)
      if (e.id != 0) find(e) = e;
  }

  std::vector<entry> table_;
  uint32_t count_ = 0;
};

// What a World provides:
//   struct state with tso_memory<…> memory;  static constexpr int threads;
//   state initial() const;                    every thread's control pushed on its first function
//   bool live(const state&, int thread) const;               false: the thread has no step (any
//   more) void run(state&, int thread, turn&) const;               calls the function on top of its
//   control const char* wrong(const state&) const;                   null, or what is violated bool
//   done(const state&) const;                           a good end, if nobody can go on static
//   const char* thread_name(int);
template <class World>
class explorer {
 public:
  using state = typename World::state;
  static_assert(std::has_unique_object_representations_v<state>, "a state must not have padding");

  explorer(const World& world, size_t limit) : world_(world), limit_(limit) {}

  outcome run() {
    state first = world_.initial();
    for (int i = 0; i < World::threads; ++i) {
      turn t(0);
      if (world_.live(first, i)) advance(first, i, t);  // up to its first step
    }
    visit(first, 0, {});
    while (!frontier_.empty() && result_.right) {
      if (origins_.size() > limit_) {
        result_.complete = false;
        break;
      }
      expand();
    }
    result_.states = origins_.size();
    if (result_.right && result_.complete) check_all_can_end();
    return result_;
  }

 private:
  static constexpr uint8_t arrival = 255;
  struct action {
    uint8_t thread = 0, choice = 0;
  };
  struct origin {
    uint32_t from;
    action by;
  };
  struct pending {
    uint32_t id;
    state at;
  };

  void advance(state& s, int thread, turn& t) const {
    do {
      t.again = false;
      world_.run(s, thread, t);
    } while (t.again && !t.blocked && world_.live(s, thread));
  }

  void visit(const state& s, uint32_t from, action by) {
    bool fresh = false;
    uint32_t id = seen_.insert(&s, sizeof s, fresh);
    if (fresh) {
      origins_.push_back({from, by});
      frontier_.push_back({id, s});
    }
    if (from != id) edges_.push_back({from, id});
  }

  void expand() {
    pending p = frontier_.front();
    frontier_.pop_front();
    bool moved = false;
    for (uint8_t i = 0; i < World::threads; ++i) {
      if (p.at.memory.used[i] > 0) {
        moved = true;
        state next = p.at;
        next.memory.arrive(i);
        take(p.id, next, {i, arrival}, nullptr);
        if (!result_.right) return;
      }
      int options = 1;
      for (uint8_t choice = 0; choice < options && world_.live(p.at, i); ++choice) {
        state next = p.at;
        turn t(choice);
        advance(next, i, t);
        options = t.options;
        if (t.blocked && t.failure == nullptr) continue;
        moved = true;
        take(p.id, next, {i, choice}, t.failure);
        if (!result_.right) return;
      }
    }
    if (moved) return;
    if (world_.done(p.at))
      ends_.push_back(p.id);
    else
      violate("nobody can go on, and it is no good end", p.id);
  }

  void take(uint32_t from, const state& next, action by, const char* failure) {
    if (failure == nullptr) failure = world_.wrong(next);
    if (failure != nullptr) {
      violate(failure, from);
      replay_step(by);
    } else {
      visit(next, from, by);
    }
  }

  void violate(const char* why, uint32_t id) {
    result_.right = false;
    result_.why = why;
    std::vector<action> path;
    for (uint32_t at = id; at != 0; at = origins_[at].from) path.push_back(origins_[at].by);
    replay_ = world_.initial();
    for (int i = 0; i < World::threads; ++i) {
      turn t(0);
      if (world_.live(replay_, i)) advance(replay_, i, t);
    }
    for (size_t i = path.size(); i-- > 0;) replay_step(path[i]);
  }

  void replay_step(action by) {
    result_.trace += std::string("  ") + World::thread_name(by.thread) + ": ";
    if (by.choice == arrival) {
      auto slot = replay_.memory.buffer[by.thread][0];
      replay_.memory.arrive(by.thread);
      result_.trace += "(its store of " + std::to_string(slot.value) + " to " +
                       World::word_name(slot.word) + " reaches memory)\n";
      return;
    }
    turn t(by.choice);
    advance(replay_, by.thread, t);
    result_.trace += t.label;
    if (t.options > 1) result_.trace += " [choice " + std::to_string(by.choice) + "]";
    result_.trace += '\n';
  }

  // Backwards from the good ends.
  void check_all_can_end() {
    std::vector<uint32_t> start(origins_.size() + 1);
    for (const edge& e : edges_) ++start[e.to + 1];
    for (size_t i = 1; i < start.size(); ++i) start[i] += start[i - 1];
    std::vector<uint32_t> before(edges_.size());
    std::vector<uint32_t> fill(start.begin(), start.end() - 1);
    for (const edge& e : edges_) before[fill[e.to]++] = e.from;
    std::vector<bool> can_end(origins_.size());
    for (uint32_t id : ends_) can_end[id] = true;
    for (size_t i = 0; i < ends_.size(); ++i) {
      for (uint32_t k = start[ends_[i]]; k < start[ends_[i] + 1]; ++k) {
        if (can_end[before[k]]) continue;
        can_end[before[k]] = true;
        ends_.push_back(before[k]);
      }
    }
    for (uint32_t id = 0; id < can_end.size(); ++id) {
      if (can_end[id]) continue;
      violate("from here no good end can be reached", id);
      return;
    }
  }

  struct edge {
    uint32_t from, to;
  };
  const World& world_;
  size_t limit_;
  seen_set seen_;
  std::deque<pending> frontier_;
  std::vector<origin> origins_;  // by id
  std::vector<edge> edges_;
  std::vector<uint32_t> ends_;
  state replay_;
  outcome result_;
};

template <class World>
outcome explore(const World& world, size_t limit = 20'000'000) {
  return explorer<World>(world, limit).run();
}

}  // namespace weft::model
