// runtime/chan.cc and runtime/select.cc: no value is lost, doubled or overtaken; a select carries
// out exactly one case.
#include <weft/chan.h>
#include <weft/select.h>

#include "tests/model/real/explorer.h"

namespace weft::model {
namespace {

using namespace std::chrono_literals;

// Values 1..n, each received at most once.
struct tally {
  int count[8] = {};
  int sum = 0;
  void got(std::optional<int> v) {
    if (!v) return;
    expect(*v > 0 && *v < 8, "a value that nobody sent");
    expect(++count[*v] == 1, "a value arrived twice");
    sum += *v;
  }
};

WEFT_MODEL_WORLD(Channel, TwoSendersOneReceiver) {
  auto* c = new chan<int>(0);
  auto* seen = new tally;
  w.task("sender 1", [=] { c->send(1); });
  w.task("sender 2", [=] { c->send(2); });
  w.task("receiver", [=] {
    seen->got(c->recv());
    seen->got(c->recv());
  });
  w.at_end([=] { expect(seen->sum == 3, "a value was lost"); });
}

WEFT_MODEL_WORLD(Channel, BufferedIsFirstInFirstOut) {
  auto* c = new chan<int>(1);
  w.task("sender", [=] {
    for (int i = 1; i <= 3; ++i) c->send(i);
  });
  w.task("receiver", [=] {
    for (int i = 1; i <= 3; ++i) expect(c->recv() == i, "a value was overtaken");
  });
  w.at_end([=] { expect(c->size() == 0, "a value is left"); });
}

WEFT_MODEL_WORLD(Channel, TwoReceiversShare) {
  auto* c = new chan<int>(1);
  auto* seen = new tally;
  w.task("sender", [=] {
    c->send(1);
    c->send(2);
  });
  for (const char* name : {"receiver 1", "receiver 2"}) w.task(name, [=] { seen->got(c->recv()); });
  w.at_end([=] { expect(seen->sum == 3, "a value was lost"); });
}

// What a send that did not throw handed over is received; a close wakes everybody.
WEFT_MODEL_WORLD(Channel, CloseMeetsSenderAndReceiver) {
  struct outcome {
    bool sent = false, refused = false;
    std::optional<int> received;
  };
  auto* c = new chan<int>(0);
  auto* o = new outcome;
  w.task("sender", [=] {
    try {
      c->send(1);
      o->sent = true;
    } catch (const panic_error&) {
      o->refused = true;
    }
  });
  w.task("receiver", [=] { o->received = c->recv(); });
  w.task("closer", [=] { c->close(); });
  w.at_end([=] {
    expect(o->sent != o->refused, "a send ended neither way");
    expect(o->sent == o->received.has_value(), "sent and received differ");
  });
}

WEFT_MODEL_WORLD(Channel, CloseWakesASender) {
  auto* c = new chan<int>(0);
  auto* refused = new bool(false);
  w.task("sender", [=] {
    try {
      c->send(1);
    } catch (const panic_error&) {
      *refused = true;
    }
  });
  w.task("closer", [=] { c->close(); });
  w.at_end([=] { expect(*refused, "a send on a closed channel went well"); });
}

WEFT_MODEL_WORLD(Channel, TryOperationsMeetWaiters) {
  auto* c = new chan<int>(0);
  auto* seen = new tally;
  w.task("sender", [=] { c->send(1); });
  w.task("taster", [=] {
    seen->got(c->try_recv());
    if (seen->sum == 0) seen->got(c->recv());
  });
  w.at_end([=] { expect(seen->sum == 1, "the value was lost"); });
}

WEFT_MODEL_WORLD(Select, TakesOneOfTwo) {
  auto* a = new chan<int>(0);
  auto* b = new chan<int>(0);
  auto* seen = new tally;
  w.task("sender a", [=] { a->send(1); });
  w.task("sender b", [=] { b->send(2); });
  w.task("selector", [=] {
    int ran = 0;
    int chosen = select(on_recv(*a,
                                [&](std::optional<int> v) {
                                  seen->got(v);
                                  ran = 1;
                                }),
                        on_recv(*b, [&](std::optional<int> v) {
                          seen->got(v);
                          ran = 2;
                        }));
    expect(ran == chosen + 1, "another case's function ran");
    seen->got(chosen == 0 ? b->recv() : a->recv());
  });
  w.at_end([=] { expect(seen->sum == 3, "a value was lost"); });
}

// Both ends of both channels are cases of selects: exactly one pair meets.
WEFT_MODEL_WORLD(Select, MeetsSelect) {
  auto* a = new chan<int>(0);
  auto* b = new chan<int>(0);
  auto* sent = new int(-1);
  auto* seen = new tally;
  w.task("offers", [=] { *sent = select(on_send(*a, 1), on_send(*b, 2)); });
  w.task("takes", [=] {
    int chosen = select(on_recv(*b, [=](std::optional<int> v) { seen->got(v); }),
                        on_recv(*a, [=](std::optional<int> v) { seen->got(v); }));
    expect(seen->sum == (chosen == 0 ? 2 : 1), "the wrong channel's value");
  });
  w.at_end([=] { expect(*sent + 1 == seen->sum, "sent and received differ"); });
}

// Late or in time: the value is there once.
WEFT_MODEL_WORLD(Select, DeadlineMeetsSender) {
  auto* c = new chan<int>(0);
  auto* seen = new tally;
  w.task("sender", [=] { c->send(1); });
  w.task("selector", [=] {
    int chosen = select(on_recv(*c, [=](std::optional<int> v) { seen->got(v); }), on_timeout(1ms));
    expect((chosen == 0) == (seen->sum == 1), "the deadline's case with a value");
    if (chosen == 1) seen->got(c->recv());
  });
  w.at_end([=] { expect(seen->sum == 1, "the value was lost"); });
}

WEFT_MODEL_WORLD(Select, CloseMeetsSelectOnTwoEnds) {
  auto* a = new chan<int>(0);
  auto* b = new chan<int>(0);
  auto* seen = new tally;
  w.task("closer", [=] { a->close(); });
  w.task("sender", [=] { b->send(2); });
  w.task("selector", [=] {
    bool closed = false;
    int chosen = select(on_recv(*a, [&](std::optional<int> v) { closed = !v.has_value(); }),
                        on_recv(*b, [=](std::optional<int> v) { seen->got(v); }));
    if (chosen == 0) {
      expect(closed, "a value from a channel that nobody sent to");
      seen->got(b->recv());
    }
  });
  w.at_end([=] { expect(seen->sum == 2, "the value was lost"); });
}

}  // namespace
}  // namespace weft::model
