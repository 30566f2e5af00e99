#include "base/check.h"

#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace weft::base {
namespace {

std::atomic<fatal_hook> g_fatal_hook{nullptr};
std::atomic<bool> g_dying{false};

// stdio may be locked by the thread that failed; write(2) is not.
void write_all(const char* text, size_t size) {
  while (size > 0) {
    ssize_t n = ::write(STDERR_FILENO, text, size);
    if (n <= 0) return;
    text += n;
    size -= static_cast<size_t>(n);
  }
}

}  // namespace

void check_failed(const char* expression, const char* file, int line) noexcept {
  char text[512];
  int n = std::snprintf(text, sizeof text, "weft: internal check failed: %s at %s:%d\n", expression,
                        file, line);
  write_all(text, static_cast<size_t>(n) < sizeof text ? static_cast<size_t>(n) : sizeof text - 1);
  std::abort();
}

void set_fatal_hook(fatal_hook hook) noexcept { g_fatal_hook.store(hook); }

void fatal(const char* message) noexcept {
  // Only one report at a time: whoever fails second waits for the first one's exit.
  while (g_dying.exchange(true)) ::pause();
  static constexpr char head[] = "fatal error: ";
  write_all(head, sizeof head - 1);
  write_all(message, std::strlen(message));
  write_all("\n", 1);
  if (fatal_hook hook = g_fatal_hook.load()) hook();
  ::_exit(2);
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
  write_all(text, size);
}

}  // namespace weft::base
