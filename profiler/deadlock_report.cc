// deadlock 1: 2 tasks wait for each other
//   task 7 "left" [sync.Mutex.Lock 0x7f3b5c2d10] waits for task 8
//   task 8 "right" [sync.Mutex.Lock 0x7f3b5c2d38] waits for task 7
//
// goroutine 7 [sync.Mutex.Lock, name "left"]:
// …
// A document of its own rather than a part of the goroutine dump, whose readers know only Go's
// lines.
#include "profiler/deadlock_report.h"

#include <weft/deadlock.h>

#include <cinttypes>
#include <cstdio>
#include <string>
#include <unordered_map>

#include "profiler/capture.h"
#include "profiler/go_quote.h"
#include "profiler/task_dump.h"

namespace weft::prof {
namespace {

void append_wait(std::string& out, const deadlock_wait& w) {
  out += "  task " + std::to_string(w.task);
  if (!w.name.empty()) out += " " + go_runtime_quote(w.name);
  char object[32];
  std::snprintf(object, sizeof object, " 0x%" PRIxPTR, reinterpret_cast<uintptr_t>(w.object));
  out += " [" + std::string(w.reason) + object + "] waits for task " + std::to_string(w.waits_for) +
         "\n";
}

}  // namespace

size_t write_deadlocks(const text_sink& sink) {
  const std::vector<deadlock> all = find_deadlocks();
  if (all.empty()) {
    sink("no deadlocks\n");
    return 0;
  }
  std::unordered_map<uint64_t, task_snapshot> stacks;
  for (const deadlock& d : all) {
    for (const deadlock_wait& w : d.waits) stacks.emplace(w.task, task_snapshot{});
  }
  capture_options options;
  options.system_tasks = true;  // threads that are no tasks count as such
  capture_tasks(options, [&](const task_snapshot& t) {
    if (auto found = stacks.find(t.id); found != stacks.end()) found->second = t;
  });
  size_t number = 0;
  for (const deadlock& d : all) {
    std::string head = number > 0 ? "\n" : "";
    head += "deadlock " + std::to_string(++number) + ": ";
    head += d.waits.size() == 1 ? "a task waits for itself\n"
                                : std::to_string(d.waits.size()) + " tasks wait for each other\n";
    for (const deadlock_wait& w : d.waits) append_wait(head, w);
    head += '\n';
    if (!sink(head)) return all.size();
    task_dump_writer writer(sink);
    for (const deadlock_wait& w : d.waits) {
      const task_snapshot& t = stacks[w.task];
      if (t.id != 0) writer.add(t);
    }
    if (!writer.finish()) return all.size();
  }
  return all.size();
}

}  // namespace weft::prof
