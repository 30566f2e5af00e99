#pragma once

namespace weft::gc {

// The collector calls it between two small pieces of work, outside of pauses. If the kernel has
// taken its core away since the last time, to give it to another thread for a while, it sleeps for
// a moment: the kernel then wakes it on a core that is free, if there is one. Where it is it would
// take turns with a task, which loses 4 ms each time.
void give_way() noexcept;

// For who has just been woken by a thread that is about to leave its core.
void let_waker_leave() noexcept;

}  // namespace weft::gc
