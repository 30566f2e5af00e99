#pragma once
// The runtime's signal handlers: one place for their flags and for living with the program's own.
#include <signal.h>

namespace weft::sched {

// True if the signal was meant for the runtime; false passes it on to the handler that was
// installed before. Async-signal-safe; errno is kept for it.
using signal_handler = bool (*)(siginfo_t* info, void* ucontext) noexcept;

// Installs `handler` with SA_SIGINFO | SA_RESTART | SA_ONSTACK: a system call of the program's that
// it interrupts goes on, and it runs on a signal stack, not on a task's. Once per signal: a second
// time is a bug of the caller's and ends the process.
void install_signal(int signo, signal_handler handler);

// The signals that WEFT_SIGNALS chooses: for captures (SIGURG) and for CPU profiles (SIGPROF).
int capture_signal() noexcept;
int profile_signal() noexcept;

// For a thread that is to receive both, whatever its creator blocks.
void unblock_own_signals() noexcept;

// From inside a handler: calls the handler that was installed before it as the kernel would have,
// with its mask, SA_NODEFER and SA_RESETHAND (`previous` is SIG_DFL afterwards). False: there is
// none, and the default action is due. Async-signal-safe.
bool call_previous(struct sigaction& previous, int signo, siginfo_t* info, void* ucontext) noexcept;

}  // namespace weft::sched
