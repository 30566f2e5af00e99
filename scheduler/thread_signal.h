#pragma once
// The runtime's own signal to one of its threads. One signal (SIGURG, as in Go: ignored by default
// and rarely used; WEFT_SIGNALS names another), one handler; who needs it asks here.
#include "scheduler/thread.h"

namespace weft::sched {

// Installs the handler. May be called any number of times, from any thread.
void install_thread_signal() noexcept;

// Interrupts `th`, which must not be able to end meanwhile (registry lock, or it holds a
// processor). False if there is no such thread. System calls restart where the kernel can do that
// (SA_RESTART); sleeps and waits with a time limit return EINTR.
bool send_thread_signal(const thread& th) noexcept;

// What upper layers do in the handler, on the interrupted thread: no locks, no allocation, bounded
// time; errno is kept by the handler. Returns whether the signal was meant for it: one that was for
// nobody is the program's own. One visitor per process, set once; null while there is none.
using signal_visitor = bool (*)(void* ucontext) noexcept;
void set_signal_visitor(signal_visitor visit) noexcept;

// Lets `th` execute a full memory fence by the signal; the stand-in for membarrier. Returns true
// once it has. False if it did not within `patience_ns` or while `wanted()` became false: it may
// block the signal, or not get a CPU.
bool fence_by_signal(thread& th, int64_t patience_ns, bool (*wanted)(const thread&)) noexcept;

}  // namespace weft::sched
