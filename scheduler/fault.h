#pragma once
// Hardware faults: stack overflow told from a wild pointer, and both from the program's own
// affairs. fault.cc has the design.
#include <signal.h>

#include <cstdint>

namespace weft::sched {

struct task;
struct thread;

enum class fault_kind : uint8_t {
  plain,     // a wild or null pointer, a division by zero
  overflow,  // of the stack of the task that executes
  in_guard,  // an access into the guard of a task's stack that is no overflow of it
};

struct fault_record {
  fault_kind kind;
  int signal;
  int code;           // si_code
  uintptr_t address;  // si_addr; what si_pid says for a signal that somebody sent
  uintptr_t pc, sp;
  const void* context;  // ucontext_t
  const thread* th;     // null: unknown to the runtime
  const task* t;        // what it executes; null: nothing, or th is null
  int tid;
  uint64_t guard_owner;  // in_guard: id of the task whose guard it is; 0: of an unused stack
};

// Whether the signal was raised by an instruction, not sent by a process.
inline bool from_hardware(const fault_record& f) noexcept { return f.code > 0; }

// Text of reports, supplied by a layer above. Null members are replaced by a few plain lines.
struct fault_port {
  // Writes everything there is to say. Runs on a thread of its own while the faulting thread waits;
  // may allocate and symbolize.
  void (*report)(const fault_record&, int fd) = nullptr;
  // Appends the program counters of the faulting stack. Runs inside the handler, when report() did
  // not end in time.
  void (*raw_frames)(const fault_record&, int fd) noexcept = nullptr;
};
void set_fault_port(const fault_port& port) noexcept;
const fault_port& current_fault_port() noexcept;

// How long the faulting thread waits for report(): 10 s. Tests shorten it.
extern int64_t g_fault_patience_ns;

// The lines before the stack, also used when report() cannot: async-signal-safe.
void write_fault_head(const fault_record& f, int fd) noexcept;

// Takes SIGSEGV, SIGBUS, SIGFPE and SIGILL over, unless WEFT_FAULT=off. Once, at start-up.
void install_fault_handlers() noexcept;

// Whether `action` is what install_fault_handlers() installs.
bool is_fault_handler(const struct sigaction& action) noexcept;

}  // namespace weft::sched
