#include "profiler/stack_here.h"

#include <pthread.h>
#include <unwind.h>

#include "profiler/stack_bounds.h"
#include "profiler/unwind.h"
#include "scheduler/thread.h"

// The dynamic linker's: an address in the first frame of the first thread.
extern "C" void* __libc_stack_end;  // NOLINT(bugprone-reserved-identifier)

namespace weft::prof {
namespace {

// The thread that the process began with; its stack is not below its thread record.
constinit pthread_t g_first_thread{};
[[gnu::constructor]] void remember_first_thread() { g_first_thread = ::pthread_self(); }

// The part of the current stack above `sp`, on a thread that the runtime does not know, without
// pthread_getattr_np(), which reads /proc and takes a lock that may be held here: glibc puts a
// thread's record on top of its stack. Empty on any other stack (an alternate one, a fiber's).
stack_range foreign_range(uintptr_t sp) noexcept {
  constexpr uintptr_t most = uintptr_t{1} << 30;
  const pthread_t self = ::pthread_self();
  const bool first = g_first_thread == pthread_t{} || self == g_first_thread;
  auto top = first ? reinterpret_cast<uintptr_t>(__libc_stack_end) : uintptr_t{self};
  if (sp >= top || top - sp > most) return {sp, sp};
  return {sp, top};
}

struct libgcc_walk {
  std::span<uintptr_t> pcs;
  size_t depth = 0;
  size_t skip = 1;  // stack_here() itself
  bool full = false;
};

_Unwind_Reason_Code add_frame(_Unwind_Context* context, void* argument) {
  auto& walk = *static_cast<libgcc_walk*>(argument);
  const uintptr_t pc = ::_Unwind_GetIP(context);
  if (pc == 0) return _URC_END_OF_STACK;
  if (walk.skip > 0) {
    --walk.skip;
    return _URC_NO_REASON;
  }
  if (walk.depth == walk.pcs.size()) {
    walk.full = true;
    return _URC_END_OF_STACK;
  }
  walk.pcs[walk.depth++] = pc;
  return _URC_NO_REASON;
}

// Of the frame at this address.
stack_range range_at(uintptr_t frame) noexcept {
  sched::thread* th = sched::self_or_null();
  // A foreign range begins below this frame, where unwind_here()'s will be.
  return th != nullptr ? range_for(*th, th->current.load(std::memory_order_relaxed), frame)
                       : foreign_range(frame - 4096);
}

// The first frame is in the function that unwound.
captured_stack without_first(const unwind_result& walked, std::span<uintptr_t> pcs) noexcept {
  const size_t depth = walked.depth > 0 ? walked.depth - 1 : 0;
  for (size_t i = 0; i < depth; ++i) pcs[i] = pcs[i + 1];
  return {depth, walked.end != unwind_end::outermost};
}

}  // namespace

captured_stack stack_here_by_tables(std::span<uintptr_t> pcs) noexcept {
  const stack_range range = range_at(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)));
  return without_first(unwind_here(range, pcs), pcs);
}

captured_stack stack_here(std::span<uintptr_t> pcs) noexcept {
  const stack_range range = range_at(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)));
  const unwind_result walked = unwind_here(range, pcs);
  if (walked.end == unwind_end::outermost || walked.end == unwind_end::truncated)
    return without_first(walked, pcs);
  libgcc_walk walk{pcs};
  ::_Unwind_Backtrace(add_frame, &walk);
  return {walk.depth, walk.full};
}

}  // namespace weft::prof
