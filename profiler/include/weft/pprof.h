#pragma once
// Profiles of the running program, in the formats that `go tool pprof` reads. Go's runtime/pprof.
//
//   std::ofstream out("cpu.pb.gz");
//   weft::pprof::start_cpu_profile(out);
//   work();
//   weft::pprof::stop_cpu_profile();
//
// The same profiles over HTTP: <weft/debug/debug.h>.
#include <cstdint>
#include <iosfwd>
#include <string_view>
#include <vector>

namespace weft {

// Rate of CPU profiles started from now on, 1 to 1000 Hz (default 100); outside that range throws
// std::invalid_argument. Thread-safe.
void set_cpu_profile_rate(int hz);
int cpu_profile_rate() noexcept;

// Mean number of allocated bytes between two samples of the heap profile, from now on: 1 samples
// every allocation, 0 or less none; default 524288 (also WEFT_DEBUG=memprofilerate=N). What was
// sampled before keeps its weight. Thread-safe.
void set_mem_profile_rate(int64_t bytes) noexcept;
int64_t mem_profile_rate() noexcept;

// Records one in n task creations on average, with the stack that created it, in the profile
// "taskcreate": 1 every one, 0 or less none, the default. What was recorded before keeps its
// weight. Thread-safe; the first call in a process may take a tenth of a second.
void set_task_create_profile_rate(int64_t n);
int64_t task_create_profile_rate() noexcept;

// The block profile: how long tasks and threads waited for channels, select, locks, condition
// variables, semaphores, wait groups, latches, barriers and the end of other tasks; not for sleep,
// I/O or a processor. From now on a wait of at least `ns` is counted as it is, a shorter one of d
// with probability d / ns as one of ns, so sums are right at every rate: 1 counts everything, 0 or
// less (the default; also WEFT_DEBUG=blockprofilerate=NS) nothing. Go's SetBlockProfileRate. While
// it is on, each such wait costs three looks at the clock. Thread-safe.
void set_block_profile_rate(int64_t ns) noexcept;
int64_t block_profile_rate() noexcept;

// The mutex profile: how long others waited for mutex, shared_mutex or recursive_mutex because the
// unlocking task held it, those still queued included. One in n contentions is counted, n times: 1
// all, 0 (the default; also WEFT_DEBUG=mutexprofilefraction=N) none; a negative n changes nothing.
// Returns what it was. Go's SetMutexProfileFraction. Thread-safe.
int set_mutex_profile_fraction(int n) noexcept;

// The wait profile: all times in which tasks, and threads in weft's primitives, did not run, by
// reason: I/O, sleep, channels, locks, blocking calls, and "runnable" for want of a processor. `ns`
// is as in the block profile; 0 or less none; default 10 ms (also WEFT_DEBUG=waitprofilerate=NS).
// From 2^20 ns on it is rounded down to a power of two, costs next to nothing per wait, and is made
// coarser by itself while recording would take more than 1/200 of the processors' time; below, each
// wait costs three looks at the clock. At most 2^33 ns. Thread-safe.
void set_wait_profile_rate(int64_t ns) noexcept;
int64_t wait_profile_rate() noexcept;

// Writes every task's stack as text: one block per task, "goroutine ID [STATUS, …]:" as Go's dumps,
// the calling task first. No task is stopped for longer than microseconds. Returns the number of
// tasks.
size_t dump_tasks(std::ostream& out);

namespace pprof {

// Starts collecting a CPU profile; stop_cpu_profile() writes it to `out` (gzip'ed profile.proto),
// which must live until then. Throws panic_error ("cpu profiling already in use") if one was
// started here and not stopped; HTTP requests for profiles run beside it. Thread-safe.
void start_cpu_profile(std::ostream& out);
// Writes the profile and ends collecting. Does nothing when none was started.
void stop_cpu_profile();

// Writes the profile "heap" as gzip'ed profile.proto: what is in use, and what was ever allocated,
// by stack, sampled. The garbage-collected heap is as of the end of the last collection; the
// ordinary heap is there in programs that link weft::malloc, as of now.
void write_heap_profile(std::ostream& out);

// A named profile: one of weft's own, or one that the program keeps with create():
//
//   auto& open_files = weft::pprof::profile::create("open_files");
//   open_files.add(file);       // where was it opened, and by a task with which labels
//   open_files.remove(file);
//
// Objects live for the process's life. All functions are thread-safe.
class profile {
 public:
  virtual ~profile() = default;
  virtual std::string_view name() const noexcept = 0;
  // A sentence for the index page; "" for the program's own profiles.
  virtual std::string_view description() const noexcept = 0;
  // Number of entries now: for "goroutine" the tasks that exist, for the program's own profiles the
  // values that were added and not removed.
  virtual int64_t count() const noexcept = 0;
  // Writes the profile. debug 0: gzip'ed profile.proto; 1: text with names; 2: for "goroutine" the
  // full dump of all tasks, else as 1. May take seconds for many tasks; the caller is not suspended
  // between.
  virtual void write_to(std::ostream& out, int debug) const = 0;

  // A new, empty profile, at once in the index of /debug/pprof/ and found by lookup(). Throws
  // panic_error for an empty name, one that exists, and those that weft keeps for itself.
  static profile& create(std::string_view name);

  // Adds `value`, of which only the address matters, with the calling task's labels and the stack
  // of the caller of add(), up to 128 frames; `skip` leaves out so many more frames, for wrappers
  // (a function that the compiler inlined is no frame of its own). Entries with equal stacks and
  // labels are one record with their number. Throws panic_error if the value is there already, and
  // on weft's own profiles. A microsecond or so; the first call in a process takes longer.
  virtual void add(const void* value, int skip = 0) = 0;
  // Forgets `value`; nothing happens if it is not there, or on weft's own profiles.
  virtual void remove(const void* value) noexcept = 0;
};

// The profile of that name, or null. Built in: "goroutine" ("task" is the same one),
// "heap", "allocs", "threadcreate", "taskcreate" and "stack".
profile* lookup(std::string_view name);
// All profiles, sorted by name.
std::vector<profile*> profiles();

}  // namespace pprof
}  // namespace weft
