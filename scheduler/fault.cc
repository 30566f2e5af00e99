// Hardware faults.
//
// Which   A guard's fault looks like any unmapped page's (si_code 1). It is an overflow when the
//         address lies in the guard of the task that executes and the stack pointer is near it; an
//         access into some other guard is a wild pointer that would have hit a stack. The task is
//         found through the thread's record, not through its stack pointer.
// Whose   An overflow and an access into a guard are reported here, because no handler of the
//         program can do anything about them. Any other fault goes to the handler that the program
//         had installed before weft::run, as the kernel would have called it; one that it installs
//         later replaces ours and gets everything (it should have SA_ONSTACK, as ours: an overflow
//         leaves no stack to run it on).
// How     The handler takes no lock and allocates nothing. It describes the fault in a record,
//         wakes a thread that has waited for nothing else, and sleeps: so the stack stays as it is
//         while that thread unwinds and symbolizes it. When that takes too long (the fault was
//         inside the allocator), the handler writes what it can by itself.
// End     Overflow: exit status 2, as Go. Other faults: the default action of the signal, by going
//         back to the instruction, so that a core file shows the fault and not its handler
//         (WEFT_FAULT=exit: status 2). One report per process; a second thread that faults waits
//         for its end.
// Rejected: reporting in the handler (nothing can be symbolized); longjmp out of an overflow into
//         the task's end (destructors of the frames would not run, and locks would stay held).
#include "scheduler/fault.h"
#include "scheduler/core_dump.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <iterator>
#include <string_view>

#include "base/check.h"
#include "base/futex.h"
#include "base/options.h"
#include "base/report_turn.h"
#include "scheduler/fork.h"
#include "scheduler/service_thread.h"
#include "scheduler/signals.h"
#include "scheduler/stack_memory.h"
#include "scheduler/task.h"
#include "scheduler/thread.h"

namespace weft::sched {

int64_t g_fault_patience_ns = 10'000'000'000;

namespace {

constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr uintptr_t near_guard = uintptr_t{64} << 10;

struct sigaction g_previous[std::size(signals)];
fault_port g_port;
bool g_exits = false;  // WEFT_FAULT=exit

fault_record g_record;  // written before g_stage becomes asked
enum stage : uint32_t { idle, asked, reported, failed };
std::atomic<uint32_t> g_stage{idle};
std::atomic<int> g_reporter_tid{0};  // the thread that waits for g_stage to become asked

// A line put together without stdio.
class line {
 public:
  line& operator<<(const char* s) noexcept {
    while (*s != 0 && size_ < sizeof text_) text_[size_++] = *s++;
    return *this;
  }
  line& hex(uint64_t v) noexcept { return *this << "0x", number(v, 16); }
  line& dec(uint64_t v) noexcept { return number(v, 10); }
  void write_to(int fd) noexcept {
    const char* at = text_;
    while (size_ > 0) {
      ssize_t n = ::write(fd, at, size_);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;
      at += n;
      size_ -= static_cast<size_t>(n);
    }
  }

 private:
  line& number(uint64_t v, unsigned base) noexcept {
    char digits[24];
    size_t n = sizeof digits - 1;
    digits[n] = 0;
    do {
      digits[--n] = "0123456789abcdef"[v % base];
      v /= base;
    } while (v != 0);
    return *this << digits + n;
  }

  char text_[1024];
  size_t size_ = 0;
};

struct signal_words {
  const char* name;
  const char* meaning;
};
signal_words words_of(int signal) noexcept {
  switch (signal) {
    case SIGSEGV:
      return {"SIGSEGV", "segmentation violation"};
    case SIGBUS:
      return {"SIGBUS", "bus error"};
    case SIGFPE:
      return {"SIGFPE", "floating-point exception"};
    default:
      return {"SIGILL", "illegal instruction"};
  }
}

size_t index_of(int signal) noexcept {
  return static_cast<size_t>(std::find(std::begin(signals), std::end(signals), signal) -
                             std::begin(signals));
}

uint64_t task_on(const stack_slot& slot) noexcept {
  size_t n = task_record_count();
  for (size_t i = 0; i < n; ++i) {
    const task& t = task_record(i);
    const char* s = reinterpret_cast<const char*>(t.stk);
    if (s >= slot.base && s < slot.base + slot.size) return t.id;
  }
  return 0;
}

void read_registers(const void* context, uintptr_t& pc, uintptr_t& sp) noexcept {
  const auto* c = static_cast<const ucontext_t*>(context);
#if defined(__x86_64__)
  pc = static_cast<uintptr_t>(c->uc_mcontext.gregs[REG_RIP]);
  sp = static_cast<uintptr_t>(c->uc_mcontext.gregs[REG_RSP]);
#elif defined(__aarch64__)
  pc = c->uc_mcontext.pc;
  sp = c->uc_mcontext.sp;
#endif
}

fault_record classify(int signal, const siginfo_t* info, const void* context) noexcept {
  fault_record f{};
  f.kind = fault_kind::plain;
  f.signal = signal;
  f.code = info->si_code;
  f.context = context;
  f.tid = static_cast<int>(::syscall(SYS_gettid));
  read_registers(context, f.pc, f.sp);
  f.th = self_or_null();
  f.t = f.th != nullptr ? f.th->current.load(std::memory_order_relaxed) : nullptr;
  if (!from_hardware(f)) {
    f.address = static_cast<uintptr_t>(info->si_pid);
    return f;
  }
  f.address = reinterpret_cast<uintptr_t>(info->si_addr);
  if (signal != SIGSEGV && signal != SIGBUS) return f;
  if (f.t != nullptr && f.t->stk != nullptr) {
    auto lo = reinterpret_cast<uintptr_t>(f.t->stk->lo);
    auto base = reinterpret_cast<uintptr_t>(f.t->stk->base);
    if (f.address >= base && f.address < lo && f.sp >= base - near_guard &&
        f.sp < lo + near_guard) {
      f.kind = fault_kind::overflow;
      return f;
    }
  }
  if (const stack_slab* slab = find_slab(f.address)) {
    stack_slot slot = slot_at(*slab, f.address);
    if (f.address - reinterpret_cast<uintptr_t>(slot.base) < slab->guard) {
      f.kind = fault_kind::in_guard;
      f.guard_owner = task_on(slot);
    }
  }
  return f;
}

// Calls the program's own handler, if it has one. It may end the process in its own way.
bool leave_to_program(const fault_record& f, siginfo_t* info, void* context) noexcept {
  struct sigaction& previous = g_previous[index_of(f.signal)];
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
    include_executing_stacks_in_core();
  return call_previous(previous, f.signal, info, context);
}

// After the handler's return the instruction faults again, or the signal that was sent comes again.
void arrange_default_death(const fault_record& f) noexcept {
  if (!in_forked_child()) prepare_core_dump();
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  ::sigaction(f.signal, &action, nullptr);
  if (!from_hardware(f)) ::syscall(SYS_tgkill, ::getpid(), f.tid, f.signal);
}

void report_without_help(const fault_record& f) noexcept {
  write_fault_head(f, STDERR_FILENO);
  if (g_port.raw_frames != nullptr) g_port.raw_frames(f, STDERR_FILENO);
}

void report_without_names(const fault_record& f, const char* why) noexcept {
  line note;
  note << "\nweft: " << why << "; without names:\n";
  note.write_to(STDERR_FILENO);
  report_without_help(f);
}

void have_it_reported(const fault_record& f) noexcept {
  g_record = f;
  // [ord fault.stage] release: publishes the record
  g_stage.store(asked, std::memory_order_release);
  base::futex_wake(g_stage, 1);
  timespec start;
  ::clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    const uint32_t now_at = g_stage.load(std::memory_order_acquire);
    if (now_at == reported) return;
    if (now_at == failed) return report_without_names(f, "the report failed");
    timespec now;
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t left = g_fault_patience_ns - (int64_t{now.tv_sec - start.tv_sec} * 1'000'000'000 +
                                          now.tv_nsec - start.tv_nsec);
    if (left <= 0) return report_without_names(f, "the report did not end in time");
    base::futex_wait(g_stage, asked, left);
  }
}

void on_fault(int signal, siginfo_t* info, void* context) noexcept {
  int saved = errno;
  fault_record f = classify(signal, info, context);
  if (f.tid == g_reporter_tid.load(std::memory_order_relaxed)) {
    // The report itself faulted. The thread that waits for it knows what to do; this one's death
    // would cut that short.
    g_stage.store(failed, std::memory_order_release);
    base::futex_wake(g_stage, 1);
    for (;;) ::pause();
  }
  if (f.kind == fault_kind::plain && leave_to_program(f, info, context)) {
    errno = saved;
    return;
  }
  if (in_forked_child()) {  // the reporter is the parent's
    arrange_default_death(f);
    return;
  }
  // Whoever comes second waits for the process's end, but not for ever: the first may be stuck.
  base::report_turn turn = base::try_begin_report();
  for (int64_t waited = 0; turn == base::report_turn::others && waited < 2 * g_fault_patience_ns;
       waited += 10'000'000) {
    timespec pause{0, 10'000'000};
    ::nanosleep(&pause, nullptr);
    turn = base::try_begin_report();
  }
  if (turn != base::report_turn::mine) {  // the report itself faulted, or never ended
    arrange_default_death(f);
    return;
  }
  have_it_reported(f);
  if (f.kind == fault_kind::overflow || g_exits) ::_exit(2);
  arrange_default_death(f);
}

void reporter_main(void*) {
  g_reporter_tid.store(::gettid(), std::memory_order_relaxed);
  while (g_stage.load(std::memory_order_acquire) != asked)  // [ord fault.stage]
    base::futex_wait(g_stage, idle, -1);
  if (g_port.report != nullptr)
    g_port.report(g_record, STDERR_FILENO);
  else
    write_fault_head(g_record, STDERR_FILENO);
  g_stage.store(reported, std::memory_order_release);
  base::futex_wake(g_stage, 1);
}

bool start_reporter() noexcept {
  const int error = start_service_thread("weft-fault", reporter_main);
  if (error != 0)
    base::log_line("faults are not reported: cannot start a thread for it: %s",
                   std::strerror(error));
  return error == 0;
}

}  // namespace

void set_fault_port(const fault_port& port) noexcept { g_port = port; }
const fault_port& current_fault_port() noexcept { return g_port; }

void write_fault_head(const fault_record& f, int fd) noexcept {
  line out;
  const signal_words w = words_of(f.signal);
  if (f.kind == fault_kind::overflow) {
    const stack& s = *f.t->stk;
    out << "runtime: task stack exceeds ";
    out.dec(static_cast<uint64_t>(s.hi + 64 - s.base)) << "-byte limit\nruntime: sp=";
    out.hex(f.sp) << " stack=[";
    out.hex(reinterpret_cast<uintptr_t>(s.lo)) << ", ";
    out.hex(reinterpret_cast<uintptr_t>(s.hi))
        << "]\nfatal error: stack overflow\n\nruntime: task ";
    out.dec(f.t->id) << " has a stack of class " << stack_class_name(s.cls) << ", ";
    out.dec(static_cast<uint64_t>(s.hi - s.lo))
        << " bytes usable; spawn_options::stack_size gives up to 1 GiB\n";
    out.write_to(fd);
    return;
  }
  if (f.kind == fault_kind::in_guard) {
    out << "fatal error: wild access into the guard of ";
    if (f.guard_owner != 0)
      (out << "task ").dec(f.guard_owner) << "'s stack\n";
    else
      out << "an unused task stack\n";
  } else if (!from_hardware(f)) {
    (out << w.name << ": " << w.meaning << ", sent by process ").dec(f.address) << "\n";
  } else if (f.signal == SIGSEGV && f.address < 4096 && f.code != SI_KERNEL) {
    out << "panic: runtime error: invalid memory address or nil pointer dereference\n";
  } else if (f.signal == SIGFPE && f.code == FPE_INTDIV) {
    out << "panic: runtime error: integer divide by zero\n";
  } else if (f.signal == SIGSEGV || f.signal == SIGBUS) {
    (out << "unexpected fault address ").hex(f.address) << "\nfatal error: fault\n";
  } else {
    out << "fatal error: " << w.meaning << "\n";
  }
  out << "[signal " << w.name << ": " << w.meaning << " code=";
  out.hex(static_cast<uint32_t>(f.code)) << " addr=";
  out.hex(from_hardware(f) ? f.address : 0) << " pc=";
  out.hex(f.pc) << "]\n";
  out.write_to(fd);
}

bool is_fault_handler(const struct sigaction& action) noexcept {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_fault;
}

void install_fault_handlers() noexcept {
  std::string_view mode = base::option_value(base::option::WEFT_FAULT);
  if (mode == "off") return;
  if (mode != "core" && mode != "exit")
    base::log_line("WEFT_FAULT=%.*s ignored: it must be core, exit or off",
                   static_cast<int>(mode.size()), mode.data());
  g_exits = mode == "exit";
  if (!start_reporter()) return;
  for (size_t i = 0; i < std::size(signals); ++i) ::sigaction(signals[i], nullptr, &g_previous[i]);
  for (int signal : signals) {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace weft::sched
