// What the thread sanitizer is not to report in these tests.
#include <weft/detail/config.h>

#if WEFT_TSAN
// A debug server lives until the process ends. A connection's thread that ends just before is
// joined by the accept thread a moment too late, and counts as leaked.
extern "C" const char* __tsan_default_suppressions();  // declared by no header
extern "C" const char* __tsan_default_suppressions() {
  return "thread:weft::net::blocking_server::impl::accept_loop\n";
}
#endif
