#include "gc/pacer.h"

#include <algorithm>
#include <cmath>

namespace weft::gc {
namespace {

// The trigger lies between these fractions of the way from what is live to the goal, in 64ths:
// below the first a program that allocates fast would mark all the time and grow by what it
// allocates marked, above the second nothing would be left for the start to be late.
constexpr uint64_t parts = 64, least_part = 45, most_part = 61;
// A sweep has to end before the next cycle begins.
constexpr uint64_t sweep_distance = uint64_t{1} << 20;
// Between trigger and goal, also if the cycle began late. The debt of allocations is over this.
constexpr uint64_t least_runway = uint64_t{64} << 10;
constexpr uint64_t least_work_left = 1000;
constexpr double overshoot = 1.1;
// Stands for "off" where a cycle that was asked for needs a percentage.
constexpr double huge_percent = 100'000;

uint64_t to_bytes(double v) noexcept {
  if (!(v > 0)) return 0;  // NaN too
  return v >= 1.8e19 ? UINT64_MAX : static_cast<uint64_t>(v);
}

uint64_t plus(uint64_t a, uint64_t b) noexcept { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

}  // namespace

mark_workers background_workers(int processors) noexcept {
  const double goal = processors * background_share;
  int dedicated = static_cast<int>(goal + 0.5);
  const double error = dedicated / goal - 1;
  if (std::abs(error) <= 0.3) return {dedicated, 0};
  if (dedicated > goal) --dedicated;
  return {dedicated, (goal - dedicated) / processors};
}

pacer::pacer(int percent, uint64_t memory_limit) noexcept : limit_(memory_limit) {
  set_percent(percent);
  commit(0, true);
}

void pacer::set_percent(int percent) noexcept {
  percent_ = percent < 0 ? -1 : percent;
  least_goal_ = percent < 0 ? no_goal : least_heap_goal * static_cast<uint64_t>(percent) / 100;
}

void pacer::set_memory_limit(uint64_t bytes) noexcept { limit_ = bytes; }

void pacer::set_memory_use(const memory_use& use) noexcept { use_ = use; }

void pacer::commit(uint64_t live, bool sweep_is_done) noexcept {
  sweep_trigger_ = sweep_is_done ? 0 : plus(live, sweep_distance);
  if (percent_ < 0) {
    percent_goal_ = no_goal;
  } else {
    const double grown = static_cast<double>(marked_ + last_stack_scan_ + roots_) * percent_ / 100;
    percent_goal_ = std::max(plus(marked_, to_bytes(grown)), least_goal_);
  }
  // Bytes that will be allocated while what is expected is scanned, if both get the CPU time that
  // is meant for them.
  const double work = static_cast<double>(last_heap_scan_ + last_stack_scan_ + roots_);
  runway_ = to_bytes(cons_mark_ * (1 - background_share) / background_share * work);
}

uint64_t pacer::goal_of_limit() const noexcept {
  if (limit_ == no_goal) return no_goal;
  const uint64_t heap = std::min(plus(use_.heap_free, use_.heap_objects), use_.total);
  const uint64_t others = use_.total - heap;  // cannot become objects
  const uint64_t over = use_.total > limit_ ? use_.total - limit_ : 0;
  // The others alone are too much: collect all the time, as far as the CPU limiter lets us.
  if (plus(others, over) >= limit_) return marked_;
  uint64_t goal = limit_ - (others + over);
  goal = goal < 2 * limit_headroom ? limit_headroom : goal - limit_headroom;
  return std::max(goal, marked_);
}

uint64_t pacer::goal_and_least_trigger(uint64_t& least) const noexcept {
  least = 0;
  uint64_t goal = percent_goal_;
  // Under the limit nothing may push the goal back.
  if (const uint64_t of_limit = goal_of_limit(); of_limit < goal) return of_limit;
  goal = std::max(goal, sweep_trigger_);
  least = sweep_trigger_;
  if (triggered_ != no_goal) goal = std::max(goal, plus(triggered_, least_runway));
  return goal;
}

uint64_t pacer::goal() const noexcept {
  uint64_t least;
  return goal_and_least_trigger(least);
}

uint64_t pacer::trigger() const noexcept {
  uint64_t least;
  const uint64_t goal = goal_and_least_trigger(least);
  if (goal == no_goal) return no_goal;
  if (marked_ >= goal) return goal;
  const uint64_t part = (goal - marked_) / parts;
  least = std::max({least, marked_, marked_ + part * least_part});
  // A large heap with little to scan needs no more room than a cycle with nothing to do.
  uint64_t most = marked_ + part * most_part;
  if (goal > least_heap_goal) most = std::max(most, goal - least_heap_goal);
  most = std::max(most, least);
  const uint64_t wanted = runway_ > goal ? least : goal - runway_;
  return std::min(std::clamp(wanted, least, most), goal);
}

void pacer::start_cycle(const start& s) noexcept {
  triggered_ = s.live;
  most_stacks_ = s.stacks;
  roots_ = s.roots;
  revise({s.live, s.scannable, 0, 0, 0});
}

void pacer::revise(const progress& p) noexcept {
  now_ = p;
  const double work = static_cast<double>(p.heap_work + p.stack_work + p.root_work);
  const double live = static_cast<double>(p.live);
  double goal = static_cast<double>(this->goal());
  // As much as last time; at most all that may refer to something.
  double expected = static_cast<double>(last_heap_scan_ + last_stack_scan_ + roots_);
  const double most = static_cast<double>(p.scannable + most_stacks_ + roots_);
  if (work > expected) {
    // The heap grows. The next cycle will use that memory anyway: move the goal in proportion to
    // the work, at most to where the next goal could be, so that the ratio stays as it is.
    const double began = static_cast<double>(triggered_);
    const double percent = percent_ < 0 ? huge_percent : percent_;
    const double moved = expected > 0 ? (goal - began) / expected * most + began : goal;
    goal = std::min(moved, (1 + percent / 100) * goal);
    expected = most;
  }
  if (live > goal) {
    goal *= overshoot;
    expected = most;
  }
  const double left = std::max(expected - work, double{least_work_left});
  const double room = std::max(goal - live, 1.0);
  assist_work_per_byte_ = left / room;
}

uint64_t pacer::hard_limit() const noexcept {
  const uint64_t g = goal();
  // Also from where it began: a forced cycle may begin beyond the goal.
  const uint64_t base = triggered_ == no_goal ? g : std::max(g, triggered_);
  return plus(base, base / 10);
}

void pacer::end_cycle(const end& e) noexcept {
  const double time = static_cast<double>(e.duration_ns) * e.processors;
  const double work = static_cast<double>(now_.heap_work + now_.stack_work + now_.root_work);
  if (now_.live > triggered_ && work > 0) {
    // Background marking is taken to have got its share.
    double share = background_share, idle = 0;
    if (time > 0) {
      share += static_cast<double>(e.assist_ns) / time;
      idle = static_cast<double>(e.idle_ns) / time;
    }
    share = std::min(share, 0.999);  // measured times may add up to more than there was
    const double ratio =
        static_cast<double>(now_.live - triggered_) * (share + idle) / (work * (1 - share));
    // The maximum: a cycle that begins too early costs less than one that tasks have to help with.
    cons_mark_ = ratio;
    for (const double r : last_cons_mark_) cons_mark_ = std::max(cons_mark_, r);
    std::move(last_cons_mark_ + 1, last_cons_mark_ + remembered, last_cons_mark_);
    last_cons_mark_[remembered - 1] = ratio;
  }
  marked_ = e.marked;
  last_heap_scan_ = now_.heap_work;
  last_stack_scan_ = now_.stack_work;
  triggered_ = no_goal;
}

}  // namespace weft::gc
