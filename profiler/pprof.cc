#include <weft/blocking.h>
#include <weft/error.h>
#include <weft/pprof.h>
#include <weft/task.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <ostream>
#include <stdexcept>

#include "base/alloc_sampling.h"
#include "profiler/contention_profile.h"
#include "profiler/cpu_sampler.h"
#include "profiler/goroutine_profile.h"
#include "profiler/heap_profile.h"
#include "profiler/pprof_encoder.h"
#include "profiler/profile_registry.h"
#include "profiler/stack_profile.h"
#include "profiler/task_create_profile.h"
#include "profiler/thread_profile.h"
#include "profiler/user_profile.h"
#include "profiler/wait_probe.h"
#include "profiler/wait_profile.h"

namespace weft {
namespace {

// Every built-in profile. A new one is its own file and a line here.
std::vector<prof::profile_source*> built_in() {
  return {&prof::goroutine_profile(),   &prof::thread_profile(),
          &prof::heap_profile_source(), &prof::allocs_profile_source(),
          &prof::task_create_profile(), &prof::stack_profile(),
          &prof::block_profile(),       &prof::mutex_profile(),
          &prof::wait_profile(),        &prof::wall_profile()};
}

std::atomic<int> g_rate{prof::default_cpu_hz};

struct started_profile {
  std::mutex lock;
  std::unique_ptr<prof::cpu_consumer> consumer;
  std::ostream* out = nullptr;
};
started_profile& started() {
  static auto* const s = new started_profile;
  return *s;
}

}  // namespace

void set_cpu_profile_rate(int hz) {
  if (hz < 1 || hz > prof::max_cpu_hz)
    throw std::invalid_argument("set_cpu_profile_rate: the rate must be 1 to 1000 Hz");
  g_rate.store(hz, std::memory_order_relaxed);
}

int cpu_profile_rate() noexcept { return g_rate.load(std::memory_order_relaxed); }

void set_mem_profile_rate(int64_t bytes) noexcept { base::set_mem_profile_rate(bytes); }

int64_t mem_profile_rate() noexcept { return base::mem_profile_rate(); }

void set_task_create_profile_rate(int64_t n) { prof::set_task_create_rate(n); }

int64_t task_create_profile_rate() noexcept { return prof::task_create_rate(); }

void set_block_profile_rate(int64_t ns) noexcept { prof::set_block_rate(ns); }
int64_t block_profile_rate() noexcept { return prof::block_rate(); }
int set_mutex_profile_fraction(int n) noexcept { return prof::set_mutex_fraction(n); }
void set_wait_profile_rate(int64_t ns) noexcept { prof::set_wait_rate(ns); }
int64_t wait_profile_rate() noexcept { return prof::wait_rate(); }

size_t dump_tasks(std::ostream& out) {
  return prof::write_task_dump(prof::into_stream(out), {.give_up_processor = true, .waits = true});
}

void pprof::start_cpu_profile(std::ostream& out) {
  started_profile& s = started();
  std::lock_guard hold(s.lock);
  if (s.consumer != nullptr) throw panic_error("cpu profiling already in use");
  s.consumer = std::make_unique<prof::cpu_consumer>(cpu_profile_rate());
  s.out = &out;
}

void pprof::stop_cpu_profile() {
  started_profile& s = started();
  std::lock_guard hold(s.lock);
  if (s.consumer == nullptr) return;
  prof::cpu_result r = s.consumer->stop();
  s.consumer.reset();
  std::string bytes = prof::gzip(prof::encode(
      prof::cpu_profile(std::move(r.samples), r.hz, {r.start_nanos, r.duration_nanos})));
  s.out->write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  s.out->flush();
}

void pprof::write_heap_profile(std::ostream& out) { prof::heap_profile_source().write_to(out, 0); }

pprof::profile* pprof::lookup(std::string_view name) { return prof::find_profile(name); }

std::vector<pprof::profile*> pprof::profiles() {
  std::vector<prof::profile_source*> all = prof::all_profiles();
  return {all.begin(), all.end()};
}

namespace prof {

profile_source* find_profile(std::string_view name) {
  if (name == "task") name = "goroutine";
  for (profile_source* p : built_in()) {
    if (p->name() == name) return p;
  }
  return find_user_profile(name);
}

std::vector<profile_source*> all_profiles() {
  std::vector<profile_source*> all = built_in();
  append_user_profiles(all);
  std::ranges::sort(all, {}, &profile_source::name);
  return all;
}

void profile_source::add(const void*, int) {
  throw panic_error("pprof: Add called on built-in Profile " + std::string(name()));
}

std::optional<profile_data> profile_source::collect_over(const std::function<bool()>& pause,
                                                         const collect_options& options) const {
  profile_data first = collect(options);
  if (!pause()) return std::nullopt;
  return delta_profile(first, collect(options));
}

void profile_source::write_to(std::ostream& out, int debug) const {
  if (debug > 0) {
    write_text(into_stream(out), debug, {});
    return;
  }
  // Others need not wait for a million stacks to be named and packed.
  std::string bytes = blocking([this] { return gzip(encode(collect({}))); });
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

text_sink into_stream(std::ostream& out) {
  return [&out](std::string_view piece) {
    out.write(piece.data(), static_cast<std::streamsize>(piece.size()));
    return out.good();
  };
}

}  // namespace prof
}  // namespace weft
