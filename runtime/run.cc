#include <weft/error.h>
#include <weft/run.h>

#include <cxxabi.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>

#include "base/check.h"
#include "base/futex.h"
#include "base/options.h"
#include "runtime/label_node.h"
#include "runtime/run_world.h"
#include "scheduler/park.h"
#include "scheduler/ports.h"
#include "scheduler/runtime_control.h"

// Defined by weft/wire.cc, which is linked into programs that use more than the core: connects
// profiles, reports and the debug server to the scheduler's ports.
extern "C" [[gnu::weak]] void weft_wire_all();

namespace weft::detail {
namespace {

std::atomic<bool> g_running{false};

std::string describe(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    int status = 0;
    char* name = abi::__cxa_demangle(typeid(x).name(), nullptr, nullptr, &status);
    std::string text = std::string(x.what()) + " (" + (name != nullptr ? name : "?") + ")";
    std::free(name);
    return text;
  } catch (const std::string& s) {
    return s;
  } catch (const char* s) {
    return s;
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    return std::string("exception of type ") + (type != nullptr ? type->name() : "unknown");
  }
}

// Go's report of an uncaught panic. Runs before any frame is unwound: no frame of a task catches,
// so the stack below is still that of the throw.
[[noreturn]] void report_and_exit() {
  static std::atomic<bool> dying{false};
  while (dying.exchange(true)) ::pause();
  std::string value = "std::terminate called without an exception";
  if (std::exception_ptr e = std::current_exception()) value = describe(e);
  std::string text = "panic: ";
  for (char c : value) {
    text += c;
    if (c == '\n') text += '\t';  // Go marks continuation lines so
  }
  text += "\n\n";
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
  const sched::report_port& port = sched::current_report_port();
  if (port.dump_current != nullptr) port.dump_current(STDERR_FILENO);
  ::_exit(2);
}

void start_process_once() {
  static const bool once = [] {
    if (!base::debug_switch("help").empty()) {
      base::print_options();
      std::exit(0);
    }
    std::set_terminate(report_and_exit);
    base::set_fatal_hook([]() noexcept {
      const sched::report_port& port = sched::current_report_port();
      if (port.dump_all != nullptr) port.dump_all(STDERR_FILENO);
    });
    install_label_hooks();
    if (weft_wire_all != nullptr) weft_wire_all();
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace

void run_main(const options& o, const body_ops& ops, void* callable) {
  if (o.max_procs < 0 || o.max_procs > 1024)
    throw std::invalid_argument("weft::run: max_procs must be 0 (automatic) to 1024");
  run_world(o, ops, callable, nullptr);
}

void run_world(const options& o, const body_ops& ops, void* callable,
               sched::directed_world* world) {
  if (g_running.exchange(true)) throw panic_error("weft::run is already running");
  start_process_once();
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
      done.store(1, std::memory_order_release);
      base::futex_wake(done, 1);
    }
  };
  static std::atomic<uint32_t> done;
  done.store(0, std::memory_order_relaxed);
  main_body body{ops, callable, done};
  spawn_params params;
  params.main = true;
  spawn_task(body_ops_for<main_body>, &body, params);
  while (done.load(std::memory_order_acquire) == 0) base::futex_wait(done, 0, -1);
  sched::stop();
  g_running.store(false);
}

}  // namespace weft::detail
