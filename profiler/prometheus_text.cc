#include "profiler/prometheus_text.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>
#include <weft/gc/gc.h>
#include <weft/mem_stats.h>
#include <weft/task.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

#include "scheduler/runtime_control.h"
#include "scheduler/stack.h"
#include "scheduler/thread.h"

namespace weft::prof {
namespace {

// Backslash and newline everywhere, quotes in label values too.
std::string escaped(std::string_view s, bool quotes) {
  std::string out;
  for (char c : s) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string number(double v) {
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v > 0 ? "+Inf" : "-Inf";
  char buffer[64];
  const bool whole = std::nearbyint(v) == v && std::fabs(v) < 9.0e15;
  auto [end, error] = whole ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<int64_t>(v))
                            : std::to_chars(buffer, buffer + sizeof buffer, v);
  return {buffer, end};
}

// The fields of /proc/self/stat after the command's name, which may hold spaces; [0] is field 3.
std::vector<std::string> stat_fields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream rest(line.substr(name_end + 1));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

std::optional<double> boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  }
  return std::nullopt;
}

std::optional<double> open_descriptors() {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
  if (folder == nullptr) return std::nullopt;
  double count = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count - 1;  // the folder itself is open while it is read
}

double limit(decltype(RLIMIT_AS) which) {
  rlimit l{};
  if (::getrlimit(which, &l) != 0) return -1;
  // client_golang prints what "unlimited" reads as, and so do dashboards.
  return static_cast<double>(l.rlim_cur);
}

void write_process(prometheus_writer& out) {
  rusage use{};
  if (::getrusage(RUSAGE_SELF, &use) == 0) {
    auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    out.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
                seconds(use.ru_utime) + seconds(use.ru_stime));
  }
  if (auto open = open_descriptors())
    out.gauge("process_open_fds", "Number of open file descriptors.", *open);
  out.gauge("process_max_fds", "Maximum number of open file descriptors.", limit(RLIMIT_NOFILE));
  out.gauge("process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.", limit(RLIMIT_AS));
  const std::vector<std::string> fields = stat_fields();
  if (fields.size() < 22) return;
  // proc(5): field 22 starttime, 23 vsize, 24 rss; fields[0] is field 3.
  if (auto booted = boot_time()) {
    out.gauge("process_start_time_seconds",
              "Start time of the process since unix epoch in seconds.",
              *booted + std::stod(fields[19]) / static_cast<double>(::sysconf(_SC_CLK_TCK)));
  }
  out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", std::stod(fields[20]));
  out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.",
            std::stod(fields[21]) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
}

void write_scheduler(prometheus_writer& out) {
  out.gauge("go_goroutines", "Number of goroutines that currently exist.",
            static_cast<double>(num_tasks()));
  out.gauge("go_threads", "Number of OS threads created.",
            static_cast<double>(sched::thread_count()));
  out.gauge(
      "go_sched_gomaxprocs_threads",
      "The current runtime.GOMAXPROCS setting, or the number of operating system threads that "
      "can execute user-level Go code simultaneously.",
      sched::current_max_procs());
  out.family("go_info", "gauge", "Information about the Go environment.");
  out.value(1, {{"version", "weft " WEFT_VERSION}});
  out.counter("weft_threads_created_total", "OS threads that the runtime ever started.",
              static_cast<double>(sched::threads_created()));
  out.counter("weft_sched_retakes_total",
              "Processors taken from a task that held one for too long while others waited.",
              static_cast<double>(sched::retakes()));
}

// client_golang's Go collector, names and help; the heap is the collected one.
void write_memory(prometheus_writer& out) {
  const mem_stats m = read_mem_stats();
  const auto n = [](uint64_t v) { return static_cast<double>(v); };
  std::vector<uint64_t> pauses(m.pause_ns.begin(),
                               m.pause_ns.begin() + std::min<size_t>(m.num_gc, m.pause_ns.size()));
  std::sort(pauses.begin(), pauses.end());
  out.family("go_gc_duration_seconds", "summary",
             "A summary of the pause duration of garbage collection cycles.");
  static constexpr std::pair<size_t, std::string_view> quantiles[] = {
      {0, "0"}, {1, "0.25"}, {2, "0.5"}, {3, "0.75"}, {4, "1"}};
  for (auto [quarter, name] : quantiles) {
    const double pause = pauses.empty() ? 0 : n(pauses[(pauses.size() - 1) * quarter / 4]);
    out.value(pause / 1e9, {{"quantile", name}});
  }
  out.value(n(m.pause_total_ns) / 1e9, {}, "_sum");
  out.value(m.num_gc, {}, "_count");

  const gc::heap_stats s = gc::stats();
  if (s.percent != 0) {
    out.gauge("go_gc_gogc_percent",
              "Heap size target percentage configured by the user, otherwise 100.", s.percent);
    out.gauge("go_gc_gomemlimit_bytes",
              "Go runtime memory limit configured by the user, otherwise math.MaxInt64.",
              static_cast<double>(s.memory_limit));
  }
  struct memory_row {
    const char* type;
    const char* name;
    const char* help;
    uint64_t mem_stats::*value;
  };
  static constexpr memory_row rows[] = {
      {"gauge", "go_memstats_alloc_bytes", "Number of bytes allocated and still in use.",
       &mem_stats::alloc},
      {"counter", "go_memstats_alloc_bytes_total",
       "Total number of bytes allocated, even if freed.", &mem_stats::total_alloc},
      {"gauge", "go_memstats_sys_bytes", "Number of bytes obtained from system.", &mem_stats::sys},
      {"counter", "go_memstats_mallocs_total", "Total number of mallocs.", &mem_stats::mallocs},
      {"counter", "go_memstats_frees_total", "Total number of frees.", &mem_stats::frees},
      {"gauge", "go_memstats_heap_alloc_bytes", "Number of heap bytes allocated and still in use.",
       &mem_stats::heap_alloc},
      {"gauge", "go_memstats_heap_sys_bytes", "Number of heap bytes obtained from system.",
       &mem_stats::heap_sys},
      {"gauge", "go_memstats_heap_idle_bytes", "Number of heap bytes waiting to be used.",
       &mem_stats::heap_idle},
      {"gauge", "go_memstats_heap_inuse_bytes", "Number of heap bytes that are in use.",
       &mem_stats::heap_inuse},
      {"gauge", "go_memstats_heap_released_bytes", "Number of heap bytes released to OS.",
       &mem_stats::heap_released},
      {"gauge", "go_memstats_heap_objects", "Number of allocated objects.",
       &mem_stats::heap_objects},
      {"gauge", "go_memstats_stack_inuse_bytes", "Number of bytes in use by the stack allocator.",
       &mem_stats::stack_inuse},
      {"gauge", "go_memstats_stack_sys_bytes",
       "Number of bytes obtained from system for stack allocator.", &mem_stats::stack_sys},
      {"gauge", "go_memstats_mspan_inuse_bytes", "Number of bytes in use by mspan structures.",
       &mem_stats::mspan_inuse},
      {"gauge", "go_memstats_mspan_sys_bytes",
       "Number of bytes used for mspan structures obtained from system.", &mem_stats::mspan_sys},
      {"gauge", "go_memstats_mcache_inuse_bytes", "Number of bytes in use by mcache structures.",
       &mem_stats::mcache_inuse},
      {"gauge", "go_memstats_mcache_sys_bytes",
       "Number of bytes used for mcache structures obtained from system.", &mem_stats::mcache_sys},
      {"gauge", "go_memstats_buck_hash_sys_bytes",
       "Number of bytes used by the profiling bucket hash table.", &mem_stats::buck_hash_sys},
      {"gauge", "go_memstats_gc_sys_bytes",
       "Number of bytes used for garbage collection system metadata.", &mem_stats::gc_sys},
      {"gauge", "go_memstats_other_sys_bytes", "Number of bytes used for other system allocations.",
       &mem_stats::other_sys},
      {"gauge", "go_memstats_next_gc_bytes",
       "Number of heap bytes when next garbage collection will take place.", &mem_stats::next_gc},
  };
  for (const memory_row& row : rows) {
    out.family(row.name, row.type, row.help);
    out.value(n(m.*row.value));
  }
  out.gauge("go_memstats_last_gc_time_seconds",
            "Number of seconds since 1970 of last garbage collection.", n(m.last_gc) / 1e9);
}

void write_stacks(prometheus_writer& out) {
  const sched::stack_stats s = sched::stack_statistics();
  out.gauge("weft_stacks_in_use", "Stacks that tasks have.", static_cast<double>(s.in_use));
  out.family("weft_stacks_free", "gauge", "Stacks that wait for reuse, with their memory or not.");
  out.value(static_cast<double>(s.free), {{"memory", "kept"}});
  out.value(static_cast<double>(s.cold), {{"memory", "returned"}});
  out.gauge("weft_stacks_reserved_bytes", "Address space reserved for stacks.",
            static_cast<double>(s.reserved_bytes));
  out.counter("weft_stacks_trimmed_bytes_total",
              "Stack memory given back to the system since the start.",
              static_cast<double>(s.trimmed_bytes));
  static constexpr std::pair<uint32_t, std::string_view> fallbacks[] = {
      {sched::stacks_no_guard_install, "no_guard_install"},
      {sched::stacks_unguarded, "unguarded"},
      {sched::stacks_locked_memory, "locked_memory"},
      {sched::stacks_strict_commit, "strict_commit"},
      {sched::stacks_limited_space, "limited_space"},
      {sched::stacks_no_batch_advice, "no_batch_advice"},
  };
  out.family("weft_stack_fallback", "gauge",
             "1 where this system lacks something that stacks would use; docs/stacks.md.");
  for (auto [bit, name] : fallbacks) out.value((s.fallbacks & bit) != 0 ? 1 : 0, {{"what", name}});
}

}  // namespace

void prometheus_writer::family(std::string_view name, std::string_view type,
                               std::string_view help) {
  family_ = name;
  text_.append("# HELP ").append(name).append(" ").append(escaped(help, false)).append("\n# TYPE ");
  text_.append(name).append(" ").append(type).append("\n");
}

void prometheus_writer::value(double v, const labels& of, std::string_view suffix) {
  text_.append(family_).append(suffix);
  char open = '{';
  for (const auto& [key, text] : of) {
    text_ += open;
    text_.append(key).append("=\"").append(escaped(text, true)).append("\"");
    open = ',';
  }
  if (!of.empty()) text_ += '}';
  text_.append(" ").append(number(v)).append("\n");
}

void prometheus_writer::gauge(std::string_view name, std::string_view help, double v) {
  family(name, "gauge", help);
  value(v);
}

void prometheus_writer::counter(std::string_view name, std::string_view help, double v) {
  family(name, "counter", help);
  value(v);
}

void write_process_metrics(prometheus_writer& out) {
  write_scheduler(out);
  write_memory(out);
  write_stacks(out);
  write_process(out);
}

}  // namespace weft::prof
