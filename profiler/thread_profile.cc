// Threads, by who made the runtime start them.
//
// A note is taken on the thread that is about to start another: its stack, and the labels of the
// task that it runs. It is looked up by the address of the new thread's record when that thread
// reports in and when it ends, so the notes are those of the live threads. Threads that the runtime
// did not start as workers (the main thread, the program's own, the monitor) have no note; they are
// listed by their names, so that the profile's total is the number of threads of the process.
//
// The sink runs inside the runtime, maybe on a task in the middle of a channel operation, so notes
// lie in memory of their own, under a lock that is held for a few instructions. The unwinder's
// tables are not built for this: that is a tenth of a second's work, which a program that is never
// profiled should not pay. stack_here() then walks by libgcc, whose microseconds are nothing beside
// making a thread.
#include "profiler/thread_profile.h"

#include <dirent.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_set>

#include "base/events.h"
#include "base/leak_roots.h"
#include "base/spinlock.h"
#include "profiler/goroutine_profile.h"
#include "profiler/stack_here.h"
#include "profiler/text_format.h"
#include "runtime/label_node.h"
#include "scheduler/task.h"
#include "scheduler/thread.h"

namespace weft::prof {
namespace {

using weft::detail::label_node;

constexpr size_t max_frames = 125;
constexpr size_t notes_per_block = 16;

struct note {
  note* next = nullptr;
  const sched::thread* record = nullptr;
  const label_node* labels = nullptr;  // retained
  int tid = 0;                         // 0: has not reported in yet
  uint16_t depth = 0;
  bool truncated = false;
  char root[17] = {};  // who it was, if no task: a pseudo frame
  uintptr_t pcs[max_frames];
};

base::spinlock g_lock;
note* g_live = nullptr;
note* g_free = nullptr;
uint64_t g_started = 0;

// Null when the system has no memory left: the thread is then listed by its name.
note* take_note() noexcept {
  g_lock.lock();
  note* n = g_free;
  if (n != nullptr) g_free = n->next;
  g_lock.unlock();
  if (n != nullptr) return n;
  void* block = ::mmap(nullptr, notes_per_block * sizeof(note), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return nullptr;
  base::keeps_pointers(block, notes_per_block * sizeof(note));
  auto* made = static_cast<note*>(block);
  std::lock_guard hold(g_lock);
  for (size_t i = 1; i < notes_per_block; ++i) {
    made[i].next = g_free;
    g_free = &made[i];
  }
  return made;
}

void fill(note& n, const sched::thread* record) noexcept {
  n.record = record;
  n.labels = nullptr;
  n.tid = 0;
  n.depth = 0;
  n.truncated = false;
  n.root[0] = '\0';
  sched::thread* here = sched::self_or_null();
  const sched::task* t = here != nullptr ? here->current.load(std::memory_order_relaxed) : nullptr;
  if (t != nullptr) {
    const void* labels = t->labels.load(std::memory_order_relaxed);  // own: nobody changes them
    n.labels = weft::detail::retain_labels(static_cast<const label_node*>(labels));
  } else {
    const bool worker = here != nullptr && !here->foreign;
    const char* who = worker ? "scheduler" : here != nullptr ? here->role : "unknown thread";
    std::snprintf(n.root, sizeof n.root, "[%s]", who);
  }
  const captured_stack stack = stack_here(n.pcs);
  n.depth = static_cast<uint16_t>(stack.depth);
  n.truncated = stack.truncated;
}

void thread_created(const sched::thread* record) noexcept {
  note* n = take_note();
  if (n != nullptr) fill(*n, record);
  std::lock_guard hold(g_lock);
  ++g_started;
  if (n == nullptr) return;
  n->next = g_live;
  g_live = n;
}

void thread_started(const sched::thread* record, int tid) noexcept {
  std::lock_guard hold(g_lock);
  for (note* n = g_live; n != nullptr; n = n->next) {
    if (n->record == record && n->tid == 0) {
      n->tid = tid;
      return;
    }
  }
}

void thread_stopped(int tid) noexcept {
  const label_node* labels = nullptr;
  {
    std::lock_guard hold(g_lock);
    for (note** link = &g_live; *link != nullptr; link = &(*link)->next) {
      note* n = *link;
      if (n->tid != tid) continue;
      *link = n->next;
      labels = n->labels;
      n->next = g_free;
      g_free = n;
      break;
    }
  }
  weft::detail::drop_labels(labels);  // the thread is on its way out: it may free memory
}

// The ids of the process's threads, from /proc; empty where that cannot be read.
std::vector<int> thread_ids() {
  std::vector<int> ids;
  DIR* all = ::opendir("/proc/self/task");
  if (all == nullptr) return ids;
  while (const dirent* entry = ::readdir(all)) {
    if (int tid = std::atoi(entry->d_name); tid > 0) ids.push_back(tid);
  }
  ::closedir(all);
  return ids;
}

std::string name_of_thread(int tid) {
  if (tid == ::getpid()) return "[main thread]";
  char name[32] = {};
  std::string path = "/proc/self/task/" + std::to_string(tid) + "/comm";
  if (FILE* f = std::fopen(path.c_str(), "re")) {
    if (std::fgets(name, sizeof name, f) == nullptr) name[0] = '\0';
    std::fclose(f);
  }
  std::string_view text = name;
  return "[thread " + std::string(text.substr(0, text.find('\n'))) + "]";
}

class thread_source final : public profile_source {
 public:
  std::string_view name() const noexcept override { return "threadcreate"; }
  std::string_view description() const noexcept override {
    return "Stack traces that led to the creation of new OS threads";
  }

  int64_t count() const noexcept override {
    long n = 0;
    if (FILE* f = std::fopen("/proc/self/status", "re")) {
      char line[256];
      while (std::fgets(line, sizeof line, f) != nullptr) {
        if (std::sscanf(line, "Threads: %ld", &n) == 1) break;
      }
      std::fclose(f);
    }
    return n;
  }

  profile_data collect(const collect_options&) const override {
    return count_profile("threadcreate", take().samples, wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int, const collect_options&) const override {
    taken t = take();
    if (!write_count_text(sink, "threadcreate", t.samples)) return false;
    return sink("# workers: " + std::to_string(t.workers) + " live, " + std::to_string(t.started) +
                " ever started\n");
  }

 private:
  struct taken {
    std::vector<sample> samples;
    size_t workers = 0;
    uint64_t started = 0;
  };

  static taken take() {
    // Copied first: making samples allocates, and an allocation may be what starts a thread.
    std::vector<note> notes;
    taken result;
    for (;;) {
      size_t wanted = 0;
      {
        std::lock_guard hold(g_lock);
        for (const note* n = g_live; n != nullptr; n = n->next) ++wanted;
        if (wanted <= notes.capacity()) {
          for (const note* n = g_live; n != nullptr; n = n->next) {
            notes.push_back(*n);
            notes.back().labels = weft::detail::retain_labels(n->labels);
          }
          result.started = g_started;
          break;
        }
      }
      notes.reserve(wanted + 16);
    }
    result.workers = notes.size();
    // What /proc lists is what exists; the notes tell who asked for it. A thread that has not
    // reported in yet is listed by its name.
    sample_set set(1);
    std::unordered_set<int> unexplained;
    for (int tid : thread_ids()) unexplained.insert(tid);
    const bool readable = !unexplained.empty();
    for (const note& n : notes) {
      const labels of_creator = labels::from_node(n.labels);
      weft::detail::drop_labels(n.labels);
      if (unexplained.erase(n.tid) == 0 && readable) continue;
      set.add({{{n.pcs, n.depth}, false, n.truncated}, &of_creator.pairs(), {}, n.root}, 1);
    }
    for (int tid : unexplained) set.add({{}, nullptr, {}, name_of_thread(tid)}, 1);
    result.samples = set.take();
    return result;
  }
};

void on_event(const base::event& e, void*) noexcept {
  const auto* record = reinterpret_cast<const sched::thread*>(e.a);
  const int tid = static_cast<int>(e.b);
  switch (e.kind) {
    case base::event_kind::thread_create:
      return thread_created(record);
    case base::event_kind::thread_start:
      return thread_started(record, tid);
    case base::event_kind::thread_stop:
      return thread_stopped(tid);
    default:
      return;
  }
}

constexpr uint32_t bit(base::event_kind kind) { return 1u << static_cast<int>(kind); }

}  // namespace

profile_source& thread_profile() {
  static thread_source profile;
  return profile;
}

void install_thread_profile() {
  static const bool installed =
      base::add_sink(bit(base::event_kind::thread_create) | bit(base::event_kind::thread_start) |
                         bit(base::event_kind::thread_stop),
                     on_event, nullptr);
  static_cast<void>(installed);
}

}  // namespace weft::prof
