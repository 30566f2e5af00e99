#pragma once
// The runtime's signal handlers: one place for their flags and for living with the program's own.
#include <signal.h>

#include <string_view>

namespace weft::sched {

// True if the signal was meant for the runtime; false passes it on to the handler that was
// installed before. Async-signal-safe; errno is kept for it.
using signal_handler = bool (*)(siginfo_t* info, void* ucontext) noexcept;

// Installs `handler` with SA_SIGINFO | SA_RESTART | SA_ONSTACK: a system call of the program's that
// it interrupts goes on, and it runs on a signal stack, not on a task's. Once per signal.
void install_signal(int signo, signal_handler handler);

// The signal for `use` ("capture", "profile"): what WEFT_SIGNALS says, else `otherwise`.
int signal_for(std::string_view use, int otherwise);

}  // namespace weft::sched
