// What ends a wait besides a waker: runtime/timed_wait.cc with the real cancel_source, the tree of
// runtime/context.cc, and the deadline of a join. Each wait has one end, and says which.
#include <weft/context.h>
#include <weft/detail/join_state.h>

#include "runtime/timed_wait.h"
#include "tests/model/real/explorer.h"

namespace weft::model {
namespace {

using namespace std::chrono_literals;
using cancellable = std::pair<context, cancel_function>;

// A context's part of it, as cancel_node does it.
struct source : detail::cancel_source {
  void cancel() {
    sched::critical in_runtime;
    lock_.lock();
    cancelled_.store(true);
    lock_.unlock();
    fire_listeners();
  }
};

WEFT_MODEL_WORLD(Limit, WakerDeadlineAndCancellation) {
  struct shared {
    source cancellation;
    detail::small_lock lock;
    detail::waiter_list waiting;
    int permits = 0;
    detail::wait_end end{};
  };
  auto* s = new shared;
  w.task("waiter", [=] {
    detail::wait_limit limit(&s->cancellation);
    limit.deadline_ns = base::now_ns() + 1000;
    sched::critical in_runtime;
    detail::waiter me;
    me.task = sched::current_task();
    s->lock.lock();
    if (s->permits > 0) {
      --s->permits;
    } else {
      s->waiting.push_back(&me);
      s->end = wait_within(me, limit, sched::wait_reason::semacquire, s, s->lock);
      if (s->end == detail::wait_end::woken) return;
      if (me.queued) s->waiting.erase(&me);
    }
    s->lock.unlock();
    expect(s->end != detail::wait_end::cancelled || limit.cancelled(), "nobody has cancelled");
  });
  // One task for both, or the search would take seconds; the deadline meets either anywhere.
  w.task("waker and canceller", [=] {
    const bool cancels_first = choose(2) == 1;
    if (cancels_first) s->cancellation.cancel();
    sched::critical in_runtime;
    s->lock.lock();
    detail::waiter* found = detail::pop_claimable(s->waiting);
    if (found == nullptr) ++s->permits;
    s->lock.unlock();
    if (found != nullptr) sched::ready(found->task);
    if (!cancels_first) s->cancellation.cancel();
  });
  w.at_end([=] {
    expect(s->permits == (s->end == detail::wait_end::woken ? 0 : 1), "a permit lost or doubled");
  });
}

// A child is cancelled whether it is made before its parent's cancellation or after.
WEFT_MODEL_WORLD(Context, ChildMeetsCancellation) {
  auto* parent = new cancellable(with_cancel(background()));
  w.task("maker", [=] {
    cancellable child = with_cancel(parent->first);
    child.first.done().recv();
    expect(child.first.err() == errc::canceled, "done without an error");
  });
  w.task("canceller", [=] { parent->second(); });
}

// A context ends once, with one reason, whichever comes first.
WEFT_MODEL_WORLD(Context, DeadlineMeetsCancellation) {
  auto* c = new cancellable(with_timeout(background(), 1us));
  auto* seen = new error_code;
  auto is_reason = [](const error_code& e) {
    return e == errc::canceled || e == errc::context_deadline_exceeded;
  };
  w.task("waiter", [=] {
    c->first.done().recv();
    *seen = c->first.err();
    expect(is_reason(*seen), "done without a reason");
  });
  w.task("canceller", [=] {
    c->second();
    expect(is_reason(c->first.err()), "cancelled, and has no reason");
    bool open = true;
    static_cast<void>(c->first.done().try_recv(open));
    expect(!open, "cancelled, and its channel is open");
  });
  w.at_end([=] { expect(c->first.err() == *seen, "the reason has changed"); });
}

WEFT_MODEL_WORLD(Join, DeadlineMeetsTheEnd) {
  auto* s = new detail::join_state;
  auto* value = new int(0);
  w.task("worker", [=] {
    *value = 1;
    s->finish();
  });
  w.task("joiner", [=] {
    if (s->wait(1us)) s->wait();
    expect(*value == 1 && s->done(), "the join ended early");
  });
}

}  // namespace
}  // namespace weft::model
