// runtime/mutex.cc, shared_mutex.cc, condition_variable.cc, wait_group.cc over timed_wait.cc: one
// owner at a time,
// no lost wake-up, and nobody touches what he no longer owns.
#include <weft/condition_variable.h>
#include <weft/mutex.h>
#include <weft/shared_mutex.h>
#include <weft/wait_group.h>

#include "tests/model/real/explorer.h"

namespace weft::model {
namespace {

using namespace std::chrono_literals;

struct guarded {
  mutex m;
  int inside = 0;
  int entries = 0;
  void visit() {
    expect(++inside == 1, "two owners at once");
    step();
    --inside;
    ++entries;
  }
};

WEFT_MODEL_WORLD(Mutex, TwoTasksTwice) {
  auto* g = new guarded;
  for (const char* name : {"task 1", "task 2"}) {
    w.task(name, [=] {
      for (int i = 0; i < 2; ++i) {
        std::lock_guard hold(g->m);
        g->visit();
      }
    });
  }
  w.at_end([=] { expect(g->entries == 4 && g->m.try_lock(), "the mutex stays locked"); });
}

WEFT_MODEL_WORLD(Mutex, ThreeTasksImpatient) {
  w.time_passes = true;
  auto* g = new guarded;
  for (const char* name : {"task 1", "task 2", "task 3"}) {
    w.task(name, [=] {
      std::lock_guard hold(g->m);
      g->visit();
    });
  }
  w.at_end([=] { expect(g->entries == 3 && g->m.try_lock(), "the mutex stays locked"); });
}

WEFT_MODEL_WORLD(Mutex, DeadlineMeetsUnlock) {
  w.time_passes = true;
  auto* g = new guarded;
  w.task("owner", [=] {
    std::lock_guard hold(g->m);
    g->visit();
  });
  w.task("patient", [=] {
    std::lock_guard hold(g->m);
    g->visit();
  });
  w.task("timed", [=] {
    if (!g->m.try_lock_for(1us)) return;
    g->visit();
    g->m.unlock();
  });
  w.at_end([=] { expect(g->entries >= 2 && g->m.try_lock(), "the mutex stays locked"); });
}

struct read_or_written {
  shared_mutex m;
  int readers = 0, writers = 0;
  int visits = 0;
  void read() {
    std::shared_lock hold(m);
    ++readers;
    expect(writers == 0, "a reader beside a writer");
    step();
    --readers;
    ++visits;
  }
  void write() {
    expect(++writers == 1 && readers == 0, "a writer beside others");
    step();
    --writers;
    ++visits;
  }
  void expect_open(int least) {
    expect(visits >= least && m.try_lock(), "the shared_mutex stays locked");
  }
};

WEFT_MODEL_WORLD(SharedMutex, WritersAndReaders) {
  auto* g = new read_or_written;
  w.task("reader", [=] { g->read(); });
  for (const char* name : {"writer 1", "writer 2"}) {
    w.task(name, [=] {
      std::lock_guard hold(g->m);
      g->write();
    });
  }
  w.at_end([=] { g->expect_open(3); });
}

// Readers that a writer kept out get in when it gives up.
WEFT_MODEL_WORLD(SharedMutex, DeadlineMeetsReaders) {
  auto* g = new read_or_written;
  for (const char* name : {"reader 1", "reader 2"}) w.task(name, [=] { g->read(); });
  w.task("timed writer", [=] {
    if (!g->m.try_lock_for(1us)) return;
    g->write();
    g->m.unlock();
  });
  w.at_end([=] { g->expect_open(2); });
}

WEFT_MODEL_WORLD(Condition, NotifyIsNotLost) {
  struct shared {
    mutex m;
    condition_variable c;
    bool set = false;
    int woken = 0;
  };
  auto* s = new shared;
  for (const char* name : {"waiter 1", "waiter 2"}) {
    w.task(name, [=] {
      std::unique_lock hold(s->m);
      s->c.wait(hold, [=] { return s->set; });
      ++s->woken;
      s->c.notify_one();  // the next one
    });
  }
  w.task("notifier", [=] {
    std::lock_guard hold(s->m);
    s->set = true;
    s->c.notify_one();
  });
  w.at_end([=] { expect(s->woken == 2, "a waiter did not wake"); });
}

WEFT_MODEL_WORLD(Condition, DeadlineMeetsNotify) {
  struct shared {
    mutex m;
    condition_variable c;
    bool set = false, saw = false;
  };
  auto* s = new shared;
  w.task("waiter", [=] {
    std::unique_lock hold(s->m);
    s->saw = s->c.wait_for(hold, 1ms, [=] { return s->set; });
    expect(s->saw == s->set, "a notification was taken for a deadline");
  });
  w.task("notifier", [=] {
    std::lock_guard hold(s->m);
    s->set = true;
    s->c.notify_all();
  });
}

// The group is destroyed by the first that may.
WEFT_MODEL_WORLD(WaitGroup, DiesAfterWait) {
  struct shared {
    wait_group* group = new wait_group;
    int finished = 0;
  };
  auto* s = new shared;
  s->group->add(2);
  for (const char* name : {"worker 1", "worker 2"}) {
    w.task(name, [=] {
      ++s->finished;
      s->group->done();
    });
  }
  w.task("waiter", [=] {
    s->group->wait();
    expect(s->finished == 2, "the wait ended early");
    delete s->group;
  });
}

}  // namespace
}  // namespace weft::model
