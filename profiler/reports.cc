// Reports: what a process says when it dies of a panic or a fatal error, and on SIGQUIT.
//
// A signal handler can neither symbolize nor take locks. SIGQUIT's only writes a byte to a pipe; a
// thread that waits at the other end, and needs no free worker, makes the dump.
#include "profiler/reports.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include <weft/deadlock.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/options.h"
#include "base/report_turn.h"
#include "profiler/capture.h"
#include "profiler/deadlock_report.h"
#include "profiler/goroutine_profile.h"
#include "profiler/profile_files.h"
#include "profiler/task_dump.h"
#include "profiler/unwind.h"
#include "scheduler/fork.h"
#include "scheduler/ports.h"
#include "scheduler/service_thread.h"

namespace weft::prof {
namespace {

text_sink to_fd(int fd) {
  return [fd](std::string_view piece) {
    while (!piece.empty()) {
      ssize_t n = ::write(fd, piece.data(), piece.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      piece.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  };
}

bool shows_system() { return base::traceback_level() >= base::traceback::system; }

// As in Go, "single" narrows the report of a panic only: a fatal error concerns all tasks.
// Deadlocks come last: readers of Go's reports stop at what they do not know.
void dump_tasks_to(int fd) {
  write_task_dump(to_fd(fd), {.system_tasks = shows_system()});
  if (find_deadlocks().empty()) return;
  to_fd(fd)("\n");
  write_deadlocks(to_fd(fd));
}

void dump_all(int fd) {
  if (base::traceback_level() == base::traceback::none) return;
  to_fd(fd)("\n");
  dump_tasks_to(fd);
}

void dump_current(int fd) {
  if (base::traceback_level() == base::traceback::none) return;
  if (base::traceback_level() != base::traceback::single) {
    dump_tasks_to(fd);
    return;
  }
  task_dump_writer writer(to_fd(fd));
  writer.add(capture_self());
  writer.finish();
}

void dump_task(int fd, sched::task& t, uint64_t id) {
  task_snapshot snapshot;
  if (!capture_task(t, id, snapshot)) return;
  task_dump_writer writer(to_fd(fd));
  writer.add(snapshot);
  writer.finish();
  to_fd(fd)("\n");
}

void* keep_stack() { return new task_snapshot(capture_self()); }

void write_kept(int fd, const void* kept) {
  task_dump_writer writer(to_fd(fd));
  writer.add(*static_cast<const task_snapshot*>(kept));
  writer.finish();
  to_fd(fd)("\n");
}

void drop_kept(void* kept) { delete static_cast<task_snapshot*>(kept); }

int g_quit_pipe[2] = {-1, -1};

void on_quit(int) {
  if (sched::in_forked_child()) {
    // The pipe is the parent's: die as any process would.
    ::signal(SIGQUIT, SIG_DFL);
    ::raise(SIGQUIT);
    return;
  }
  int saved = errno;
  char c = 'q';
  [[maybe_unused]] ssize_t n = ::write(g_quit_pipe[1], &c, 1);
  errno = saved;
}

void serve_quit(void* exit_too) {
  const bool exits = exit_too != nullptr;
  for (;;) {
    char c;
    ssize_t n = ::read(g_quit_pipe[0], &c, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    // A fatal error's report shows the tasks too, and ends the process.
    base::begin_report();
    to_fd(STDERR_FILENO)("SIGQUIT: quit\n\n");
    write_task_dump(to_fd(STDERR_FILENO));
    to_fd(STDERR_FILENO)("\n");
    if (exits) {
      write_profile_files();
      ::_exit(2);
    }
    base::give_report_turn_back();
  }
}

void install_quit_handler() {
  std::string_view mode = base::option_value(base::option::WEFT_SIGQUIT);
  if (mode == "off") return;
  if (mode != "exit" && mode != "dump") {
    base::log_line("WEFT_SIGQUIT=%.*s ignored: it must be exit, dump or off",
                   static_cast<int>(mode.size()), mode.data());
    mode = "exit";
  }
  struct sigaction current {};
  if (::sigaction(SIGQUIT, nullptr, &current) != 0) return;
  // Shells start background processes with SIGQUIT ignored; like Go, that is not taken for a wish.
  if (current.sa_handler != SIG_DFL && current.sa_handler != SIG_IGN) return;
  if (::pipe2(g_quit_pipe, O_CLOEXEC) != 0) return;
  if (int error = sched::start_service_thread("weft-sigquit", serve_quit,
                                              mode == "exit" ? g_quit_pipe : nullptr)) {
    base::log_line("SIGQUIT shows no tasks: cannot start a thread for it: %s",
                   std::strerror(error));
    return;
  }
  struct sigaction action {};
  action.sa_handler = on_quit;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGQUIT, &action, nullptr);
}

}  // namespace

void install_reports() {
  sched::set_report_port({dump_all, dump_current, dump_task, keep_stack, write_kept, drop_kept});
  install_quit_handler();
  // The first unwind builds a table for a tenth of a second or more; a detector's report would come
  // too late to show what its task is doing.
  for (const char* detector : {"longrun", "chandead", "lockorder", "lockpark"}) {
    if (!base::debug_switch(detector).empty()) unwind_refresh();
  }
}

}  // namespace weft::prof
