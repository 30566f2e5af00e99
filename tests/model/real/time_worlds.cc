// runtime/time.cc: stop and reset against the event.
#include <weft/select.h>
#include <weft/time.h>

#include "tests/model/real/explorer.h"

namespace weft::model {
namespace {

using namespace std::chrono_literals;

// The value was received, or stop() says that it never will be.
WEFT_MODEL_WORLD(Time, StopMeetsTheEvent) {
  struct shared {
    timer t{1us};
    chan<int> quit{0};
    bool stopped = false, received = false;
  };
  auto* s = new shared;
  w.task("owner", [=] {
    s->stopped = s->t.stop();
    s->quit.close();
  });
  w.task("receiver", [=] {
    select(on_recv(s->t.channel(), [=](auto) { s->received = true; }),
           on_recv(s->quit, [](auto) {}));
  });
  w.at_end([=] { expect(s->stopped != s->received, "stopped and received, or neither"); });
}

// A tick of before cannot be received after reset() or stop().
WEFT_MODEL_WORLD(Time, ResetMeetsTheTick) {
  w.task("owner", [] {
    ticker t(1us);
    step();
    const auto before = now();
    t.reset(1ms);
    const auto tick = t.channel().recv();
    expect(tick.has_value() && *tick >= before + 1ms, "a tick of before the reset");
    t.stop();
    expect(!t.channel().try_recv().has_value(), "a tick of before the stop");
  });
}

// The function runs, or stop() says that it never will.
WEFT_MODEL_WORLD(Time, StopMeetsTheFunction) {
  auto* runs = new int(0);
  auto* stopped = new bool(false);
  w.task("owner", [=] {
    timer t = after_func(1us, [=] { ++*runs; });
    *stopped = t.stop();
  });
  w.at_end([=] { expect(*runs == (*stopped ? 0 : 1), "stopped and run, or neither"); });
}

}  // namespace
}  // namespace weft::model
