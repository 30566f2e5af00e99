#include "scheduler/context.h"

#include <cxxabi.h>

#include <cerrno>

#include "scheduler/thread.h"

#if WEFT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if defined(WEFT_CONTEXT_BOOST)
#include <boost/context/detail/fcontext.hpp>
#endif

#if WEFT_TSAN
// The owners of an exception, and of its message, are counted inside libstdc++, which is not
// compiled for the sanitizer: it takes the last owner's release for a race with what earlier owners
// read. A program's own definition takes precedence.
extern "C" [[gnu::weak]] const char* __tsan_default_suppressions();
extern "C" [[gnu::weak]] const char* __tsan_default_suppressions() {
  return "race:std::__exception_ptr::exception_ptr::_M_release\n"
         "race:std::runtime_error::~runtime_error\n";
}
#endif

// Defined by scheduler.cc: the body of every task context. Not noexcept: an exception that no frame
// of the task catches must find no handler at all, so that std::terminate runs with the stack
// intact.
extern "C" void weft_task_main();

namespace weft::sched {

WEFT_OPAQUE thread_globals current_thread_globals() noexcept {
  asm volatile("");
  return {reinterpret_cast<thread_globals::eh_globals*>(abi::__cxa_get_globals()), &errno};
}

#if defined(WEFT_CONTEXT_BOOST)

namespace bc = boost::context::detail;

extern "C" [[gnu::used, gnu::visibility("hidden")]] void weft_boost_entry(bc::transfer_t from) {
  *static_cast<void**>(from.data) = from.fctx;
  weft_task_main();
}

namespace {

// jump_fcontext hands the context that was left to the one that continues, which stores it.
void store_left_context(const bc::transfer_t& from) noexcept {
  *static_cast<void**>(from.data) = from.fctx;
}

#if defined(__x86_64__)
// Boost's code has no unwind information and would end every backtrace in a bogus frame. This is
// its first caller with some: an undefined rip and a zero rbp say that nothing comes before.
asm(R"(
    .text
    .p2align 4
    .type weft_context_entry, @function
weft_context_entry:
    .cfi_startproc
    .cfi_undefined %rip
    xorl %ebp, %ebp
    subq $8, %rsp
    call weft_boost_entry
    hlt
    .cfi_endproc
    .size weft_context_entry, .-weft_context_entry
)");
extern "C" [[gnu::visibility("hidden")]] void weft_context_entry(bc::transfer_t from);
#else
void weft_context_entry(bc::transfer_t from) { weft_boost_entry(from); }
#endif

void raw_switch(void** save_sp, void* to_sp) noexcept {
  store_left_context(bc::jump_fcontext(to_sp, save_sp));
}

void* raw_make(void* bottom, void* top) noexcept {
  size_t size = static_cast<size_t>(static_cast<char*>(top) - static_cast<char*>(bottom));
  return bc::make_fcontext(top, size, weft_context_entry);
}

}  // namespace

saved_registers registers_of(const context& c) noexcept {
  auto* frame = static_cast<const uintptr_t*>(c.sp);
#if defined(__x86_64__)
  // Boost 1.81: +0 mxcsr/fcw, +0x10 r12..r15, +0x30 rbx, +0x38 rbp, +0x40 rip.
  return {frame[8], reinterpret_cast<uintptr_t>(frame + 9), frame[7], frame[6]};
#else
  // aarch64: x29 and x30 at +0x90.
  return {frame[0x98 / 8], reinterpret_cast<uintptr_t>(frame) + 0xb0, frame[0x90 / 8], 0};
#endif
}

#else

extern "C" void weft_switch(void** save_sp, void* to_sp) noexcept;
extern "C" void weft_context_entry() noexcept;

namespace {

void raw_switch(void** save_sp, void* to_sp) noexcept { weft_switch(save_sp, to_sp); }

void* raw_make(void*, void* top) noexcept {
  auto* frame = static_cast<uintptr_t*>(top) - 9;
  for (int i = 0; i < 6; ++i) frame[i] = 0;
  frame[6] = reinterpret_cast<uintptr_t>(&weft_context_entry);
  frame[7] = frame[8] = 0;  // rsp is 16-byte aligned at the entry's call
  return frame;
}

}  // namespace

saved_registers registers_of(const context& c) noexcept {
  auto* frame = static_cast<const uintptr_t*>(c.sp);
  return {frame[6], reinterpret_cast<uintptr_t>(frame + 7), frame[5], frame[4]};
}

#endif

void make_context(context& c, [[maybe_unused]] void* bottom, void* top) noexcept {
  c.sp = raw_make(bottom, top);
#if WEFT_ASAN
  c.asan_fake_stack = nullptr;
  c.asan_bottom = bottom;
  c.asan_size = static_cast<size_t>(static_cast<char*>(top) - static_cast<char*>(bottom));
#endif
}

void context_started(const thread* th, const context&) noexcept {
#if WEFT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  *th->globals.eh = {nullptr, 0};
  *th->globals.err = 0;
}

[[gnu::noinline]] thread* switch_context(thread* th, context& from, context& to,
                                         [[maybe_unused]] bool from_ends) noexcept {
  const thread_globals::eh_globals exceptions = *th->globals.eh;
  const int error = *th->globals.err;
#if WEFT_ASAN
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.asan_fake_stack, to.asan_bottom,
                                 to.asan_size);
#endif
#if WEFT_TSAN
  __tsan_switch_to_fiber(to.tsan_fiber, 0);
#endif
  raw_switch(&from.sp, to.sp);
#if WEFT_ASAN
  __sanitizer_finish_switch_fiber(from.asan_fake_stack, nullptr, nullptr);
#endif
  th = self();
  *th->globals.eh = exceptions;
  *th->globals.err = error;
  return th;
}

}  // namespace weft::sched
