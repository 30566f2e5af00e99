#include "base/kernel_slice.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace weft::base {
namespace {

// The kernel's struct sched_attr as it was first; glibc 2.36 has neither it nor the calls.
struct attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};
static_assert(sizeof(attributes) == 48);

}  // namespace

void ask_for_slices_of(uint64_t ns) noexcept {
#if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
  attributes a{};
  if (::syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0) return;
  if (a.policy != SCHED_OTHER && a.policy != SCHED_BATCH) return;
  a.size = sizeof a;
  a.runtime = ns;
  a.deadline = a.period = 0;
  ::syscall(SYS_sched_setattr, 0, &a, 0);
#else
  static_cast<void>(ns);
#endif
}

}  // namespace weft::base
