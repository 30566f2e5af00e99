#include <weft/error.h>
#include <weft/run.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "base/check.h"
#include "base/futex.h"
#include "base/options.h"
#include "runtime/label_node.h"
#include "runtime/lock_watch.h"
#include "runtime/panic.h"
#include "runtime/run_world.h"
#include "runtime/task_locals.h"
#include "scheduler/core_dump.h"
#include "scheduler/deadlock.h"
#include "scheduler/debug_layout.h"
#include "scheduler/fault.h"
#include "scheduler/fork.h"
#include "scheduler/park.h"
#include "scheduler/ports.h"
#include "scheduler/runtime_control.h"
#include "scheduler/world_stop.h"

// Defined by weft/wire.cc, which is linked into programs that use more than the core: connects
// profiles, reports and the debug server to the scheduler's ports.
extern "C" [[gnu::weak]] void weft_wire_all();

namespace weft::detail {
namespace {

std::atomic<bool> g_running{false};

void start_process_once() {
  static const bool once = [] {
    if (!base::debug_switch("help").empty()) {
      base::print_options();
      std::exit(0);
    }
    base::check_debug_switches();
    install_panic_report();
    base::set_fatal_hook([]() noexcept {
      const sched::report_port& port = sched::current_report_port();
      if (port.dump_all != nullptr) port.dump_all(STDERR_FILENO);
    });
    base::set_crash_hook(sched::prepare_core_dump);
    install_task_hooks();
    start_lock_order();
    if (weft_wire_all != nullptr) weft_wire_all();
    sched::install_fault_handlers();
    sched::keep_linked(weft_debug_layout_runtime);
    sched::install_core_dump_handlers();  // last: who has a handler of their own is asked first
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace

void run_main(const options& o, const body_ops& ops, void* callable) {
  if (o.max_procs < 0 || o.max_procs > 1024)
    throw std::invalid_argument("weft::run: max_procs must be 0 (automatic) to 1024");
  if (o.max_threads < 0 || o.max_threads > 1'000'000)
    throw std::invalid_argument("weft::run: max_threads must be 0 (as it is) to 1000000");
  sched::refuse_in_forked_child();
  run_world(o, ops, callable, nullptr);
}

void run_world(const options& o, const body_ops& ops, void* callable,
               sched::directed_world* world) {
  if (g_running.exchange(true)) throw panic_error("weft::run is already running");
  start_process_once();
  if (o.max_threads > 0) sched::set_thread_limit(o.max_threads);
  sched::start(o.max_procs > 0 ? o.max_procs : sched::default_max_procs(), world);
  sched::follow_machine(o.max_procs == 0 &&
                        base::option_value(base::option::WEFT_MAXPROCS).empty());

  struct main_body {
    const body_ops& ops;
    void* callable;
    std::atomic<uint32_t>& done;
    void operator()() const {
      // In a copy, because invoke destroys what it ran, and the caller will destroy *callable.
      const std::align_val_t align{ops.align};
      void* room = ::operator new(ops.size, align);
      ops.move_to(callable, room);
      ops.invoke(room);
      ::operator delete(room, align);
      destroy_task_locals();  // before run() returns
      sched::set_main_task_running(false);
      done.store(1, std::memory_order_release);
      base::futex_wake(done, 1);
    }
  };
  static std::atomic<uint32_t> done;
  done.store(0, std::memory_order_relaxed);
  main_body body{ops, callable, done};
  spawn_params params;
  params.main = true;
  sched::set_main_task_running(true);
  spawn_task(body_ops_for<main_body>, &body, params);
  {
    sched::service_thread not_an_actor;
    sched::resting rest(sched::self());
    while (done.load(std::memory_order_acquire) == 0) base::futex_wait(done, 0, -1);
  }
  sched::stop();
  g_running.store(false);
}

}  // namespace weft::detail
