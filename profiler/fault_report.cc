// What a fault report says of the faulting task: its block of a task dump, with the innermost and
// the outermost frames of a stack however deep.
//
//   runtime: task stack exceeds 65536-byte limit          head: scheduler/fault.cc
//   ...
//   goroutine 7 [running, name "parser"]:
//   descend(...)
//   ...
//   ...1211 frames elided...
//   ...
//   created by main in goroutine 1
#include "profiler/fault_report.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>

#include "profiler/stack_bounds.h"
#include "profiler/task_dump.h"
#include "profiler/unwind.h"
#include "runtime/label_node.h"
#include "scheduler/fault.h"
#include "scheduler/stack.h"

namespace weft::prof {
namespace {

constexpr size_t kept = 128;  // at each end: more than a dump shows

struct two_ends {
  uintptr_t inner[kept];
  uintptr_t outer[kept];
  unwind_ends_result result;
};

void unwind_fault(const sched::fault_record& f, stack_range range, two_ends& out) noexcept {
  regs from = regs_from_ucontext(f.context);
  // Below it nothing is anybody's; on overflow it lies in the guard.
  if (from.rsp > range.lo) range.lo = from.rsp;
  out.result = unwind_ends(from, range, out.inner, out.outer);
  const bool nowhere = out.result.total == 1 && out.result.end == unwind_end::no_table;
  if (!nowhere || from.rsp + sizeof(uintptr_t) > range.hi || from.rsp < range.lo) return;
  // A call through a bad pointer: all that it did was to push the return address.
  from.rip = *reinterpret_cast<const uintptr_t*>(from.rsp) - 1;
  from.rsp += sizeof(uintptr_t);
  two_ends caller;
  caller.result = unwind_ends(from, range, caller.inner, caller.outer);
  if (caller.result.total > 1) out = caller;
}

// The mapping around an address: the bounds of a stack of which nothing else is known.
stack_range mapping_of(uintptr_t address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string text; std::getline(maps, text);) {
    unsigned long lo = 0;
    unsigned long hi = 0;
    if (std::sscanf(text.c_str(), "%lx-%lx", &lo, &hi) == 2 && address >= lo && address < hi)
      return {lo, hi};
  }
  return {address, address};
}

std::string thread_name(int tid) {
  std::ifstream comm("/proc/self/task/" + std::to_string(tid) + "/comm");
  std::string name;
  std::getline(comm, name);
  return "thread " + name;
}

stack_range range_of(const sched::fault_record& f) {
  if (f.kind == sched::fault_kind::overflow) return task_stack_range(*f.t);
  stack_range r{0, 0};
  if (f.th != nullptr) r = range_for(*f.th, f.t, f.sp);
  return r.hi > r.lo ? r : mapping_of(f.sp);
}

void describe(const sched::fault_record& f, task_snapshot& s) {
  s.status = "running";
  const sched::task* t = f.t;
  if (t == nullptr || t->foreign) {
    s.name = thread_name(f.tid);
    if (t == nullptr) return;
  }
  s.id = t->id;
  s.parent_id = t->parent_id;
  if (t->name != nullptr) s.name = t->name;
  s.locked_to_thread = t->locked_to_thread;
  s.created_by = t->created_by;
  if (const void* labels = t->labels.load(std::memory_order_acquire))
    s.labels = static_cast<const weft::detail::label_node*>(labels)->pairs;
}

void report(const sched::fault_record& f, int fd) {
  sched::write_fault_head(f, fd);
  unwind_refresh();
  two_ends ends;
  unwind_fault(f, range_of(f), ends);
  task_snapshot s;
  describe(f, s);
  s.leaf_is_exact = true;
  s.pcs.assign(ends.inner, ends.inner + ends.result.inner);
  s.pcs.insert(s.pcs.end(), ends.outer, ends.outer + ends.result.outer);
  s.elided_pcs = ends.result.total - ends.result.inner - ends.result.outer;
  const auto sink = [fd](std::string_view piece) {
    while (!piece.empty()) {
      ssize_t n = ::write(fd, piece.data(), piece.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      piece.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  };
  sink("\n");
  task_dump_writer writer(sink);
  writer.add(s);
  writer.finish();
}

void raw_frames(const sched::fault_record& f, int fd) noexcept {
  if (f.t == nullptr || f.t->stk == nullptr) return;
  const stack_range range = task_stack_range(*f.t);
  two_ends ends;
  unwind_fault(f, range, ends);
  char text[24];
  const auto print = [&](uintptr_t pc) {
    size_t at = sizeof text;
    text[--at] = '\n';
    do {
      text[--at] = "0123456789abcdef"[pc % 16];
      pc /= 16;
    } while (pc != 0);
    text[--at] = 'x';
    text[--at] = '0';
    text[--at] = '\t';
    [[maybe_unused]] ssize_t n = ::write(fd, text + at, sizeof text - at);
  };
  for (size_t i = 0; i < ends.result.inner; ++i) print(ends.inner[i]);
  for (size_t i = 0; i < ends.result.outer; ++i) print(ends.outer[i]);
  if (ends.result.total > 1) return;
  // No tables, if this is the first time that anybody asks for a stack: every word that points into
  // a module may be a return address.
  constexpr size_t words = 512;
  const auto* at = reinterpret_cast<const uintptr_t*>(std::max(f.sp & ~uintptr_t{7}, range.lo));
  for (size_t i = 0; i < words && reinterpret_cast<uintptr_t>(at + i + 1) <= range.hi; ++i) {
    dl_find_object found;
    if (::_dl_find_object(reinterpret_cast<void*>(at[i]), &found) == 0) print(at[i]);
  }
}

}  // namespace

void install_fault_reports() { sched::set_fault_port({report, raw_frames}); }

}  // namespace weft::prof
