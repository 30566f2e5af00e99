#include "base/check.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/options.h"
#include "base/report_turn.h"

namespace weft::base {
namespace {

std::atomic<fatal_hook> g_fatal_hook{nullptr};
std::atomic<crash_hook> g_crash_hook{nullptr};
std::atomic<last_hook> g_last_hook{nullptr};
std::atomic<pid_t> g_reporter{0};  // the thread whose report is printed

}  // namespace

// stdio may be locked by the thread that failed; write(2) is not.
void write_stderr(const char* text, size_t size) noexcept {
  while (size > 0) {
    ssize_t n = ::write(STDERR_FILENO, text, size);
    if (n <= 0) return;
    text += n;
    size -= static_cast<size_t>(n);
  }
}

void check_failed(const char* expression, const char* file, int line) noexcept {
  char text[512];
  int n = std::snprintf(text, sizeof text, "weft: internal check failed: %s at %s:%d\n", expression,
                        file, line);
  write_stderr(text,
               static_cast<size_t>(n) < sizeof text ? static_cast<size_t>(n) : sizeof text - 1);
  std::abort();
}

void set_fatal_hook(fatal_hook hook) noexcept { g_fatal_hook.store(hook); }

crash_hook set_crash_hook(crash_hook hook) noexcept { return g_crash_hook.exchange(hook); }

void set_last_hook(last_hook hook) noexcept { g_last_hook.store(hook); }

void begin_report() noexcept {
  for (;;) {
    const report_turn turn = try_begin_report();
    if (turn == report_turn::mine) return;
    if (turn == report_turn::mine_still) ::_exit(2);
    timespec pause{0, 10'000'000};  // a report that was asked for by SIGQUIT may end
    ::nanosleep(&pause, nullptr);
  }
}

report_turn try_begin_report() noexcept {
  const pid_t me = ::gettid();
  pid_t reporter = 0;
  if (g_reporter.compare_exchange_strong(reporter, me)) return report_turn::mine;
  return reporter == me ? report_turn::mine_still : report_turn::others;
}

void give_report_turn_back() noexcept { g_reporter.store(0); }

void end_report() noexcept {
  if (last_hook hook = g_last_hook.exchange(nullptr)) hook();
  if (traceback_level() == traceback::crash) {
    // With the default action back, nobody else would be asked what belongs into the core.
    if (crash_hook hook = g_crash_hook.load()) hook();
    ::signal(SIGABRT, SIG_DFL);
    std::abort();
  }
  ::_exit(2);
}

void fatal(const char* message) noexcept {
  begin_report();
  static constexpr char head[] = "fatal error: ";
  write_stderr(head, sizeof head - 1);
  write_stderr(message, std::strlen(message));
  write_stderr("\n", 1);
  if (fatal_hook hook = g_fatal_hook.load()) hook();
  end_report();
}

void fatalf(const char* format, ...) noexcept {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  fatal(text);
}

void log_line(const char* format, ...) noexcept {
  char text[1024];
  int head = std::snprintf(text, sizeof text, "weft: ");
  va_list args;
  va_start(args, format);
  int n = std::vsnprintf(text + head, sizeof text - static_cast<size_t>(head) - 1, format, args);
  va_end(args);
  size_t size = static_cast<size_t>(head) + static_cast<size_t>(n > 0 ? n : 0);
  if (size > sizeof text - 2) size = sizeof text - 2;
  text[size++] = '\n';
  write_stderr(text, size);
}

}  // namespace weft::base
