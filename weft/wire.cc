// Where the layers meet: the ports that lower layers declare are connected to what the upper ones
// offer. Nothing registers itself; this is the whole list. weft::run calls it once, before the
// first task.
#include "net/debug_endpoints.h"
#include "profiler/capture.h"
#include "profiler/cpu_sampler.h"
#include "profiler/fault_report.h"
#include "profiler/heap_profile.h"
#include "profiler/profile_files.h"
#include "profiler/reports.h"
#include "profiler/thread_profile.h"
#include "profiler/unwind.h"
#include "profiler/wait_probe.h"

// Called by weft::malloc, which is in use before anything else is: for the first sample, in the
// middle of an allocation, and once more when the environment may be read.
static bool malloc_is_sampled = false;

extern "C" void weft_wire_heap_profile(bool loading) noexcept {
  weft::prof::install_heap_profile();
  if (!loading) return;
  malloc_is_sampled = true;
  weft::prof::heap_profile_from_environment();
}

extern "C" void weft_wire_all() {
  weft::prof::install_heap_profile();
  weft::prof::heap_profile_from_environment();
  // Some milliseconds, for samples that take a quarter of the time.
  if (malloc_is_sampled) weft::prof::unwind_refresh();
  weft::prof::install_capture_signal();
  weft::prof::install_cpu_sampler();
  weft::prof::install_thread_profile();
  weft::prof::install_reports();
  weft::prof::install_fault_reports();
  weft::prof::install_wait_probes();
  weft::prof::install_profile_files();
  weft::debug::serve_from_environment();
}
