#pragma once
// Checks of weft's own invariants. A failed WEFT_CHECK is a bug in weft, never in the program that
// uses it; it prints the expression and the place, and aborts, in every build type.

#include <cstddef>

namespace weft::base {

[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;

// Ends the process with "fatal error: MESSAGE" and the report of all tasks, exit status 2. For
// limits and misuse that no caller can handle; `message` names what was wrong and which setting
// changes it.
[[noreturn]] void fatal(const char* message) noexcept;
[[noreturn, gnu::format(printf, 1, 2)]] void fatalf(const char* format, ...) noexcept;

// The two halves of fatal(), for reports of another form. begin_report() makes the caller the one
// that reports: whoever comes second waits in it for the first one's exit, unless the reporter
// itself failed, which ends the process at once. end_report() ends the process with status 2, or by
// SIGABRT under WEFT_TRACEBACK=crash.
void begin_report() noexcept;
[[noreturn]] void end_report() noexcept;

// Writes to stderr without stdio. Async-signal-safe.
void write_stderr(const char* text, size_t size) noexcept;

// Called by fatal() before it exits, to print what is known of the tasks. Set once at start-up.
using fatal_hook = void (*)() noexcept;
void set_fatal_hook(fatal_hook hook) noexcept;

// Called by end_report() before it raises SIGABRT, to put into the core file what is kept out of
// it. Set at start-up; returns what was set before.
using crash_hook = void (*)() noexcept;
crash_hook set_crash_hook(crash_hook hook) noexcept;

// Called by end_report() first, to save what would be lost. It must come back in reasonable time.
// Set once at start-up.
using last_hook = void (*)() noexcept;
void set_last_hook(last_hook hook) noexcept;

// One line on stderr, "weft: " in front. For facts that are said once, such as the choice of
// poller.
[[gnu::format(printf, 1, 2)]] void log_line(const char* format, ...) noexcept;

}  // namespace weft::base

#define WEFT_CHECK(condition)         \
  (__builtin_expect(!!(condition), 1) \
       ? static_cast<void>(0)         \
       : ::weft::base::check_failed(#condition, __FILE__, __LINE__))

#ifdef NDEBUG
#define WEFT_DCHECK(condition) static_cast<void>(sizeof(!(condition)))
#else
#define WEFT_DCHECK(condition) WEFT_CHECK(condition)
#endif
