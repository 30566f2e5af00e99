// Profiles without code.
//
//   WEFT_CPUPROFILE=FILE              the whole run's CPU profile
//   WEFT_MEMPROFILE, WEFT_BLOCKPROFILE, WEFT_MUTEXPROFILE, WEFT_WAITPROFILE, WEFT_TASKPROFILE=FILE
//                                     the profiles heap, block, mutex, wait and goroutine, at exit
//   WEFT_PROFILE_SIGNAL=USR1          a signal writes all profiles to WEFT_PROFILE_DIR
//   WEFT_PROFILE_SIGNAL=cpu:USR1,all:USR2
//                                     with cpu: one begins a CPU profile, the next writes it
//
// "At exit" is exit() and the return from main, which is after weft::run; SIGQUIT, when it ends the
// process; and fatal errors and exceptions that nobody catches, after their report. Those leave
// locks and memory in any state, so there a thread of its own writes, and the process waits for it
// for a limited time. Not written: when the process dies of a signal (a wild pointer, kill -9) or
// _exit().
#include "profiler/profile_files.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include <weft/pprof.h>
#include <weft/result.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/futex.h"
#include "base/options.h"
#include "profiler/pprof_encoder.h"
#include "scheduler/fork.h"
#include "scheduler/service_thread.h"

namespace weft::prof {
namespace {

using base::option;

constexpr int64_t patience_when_dying_ns = 5'000'000'000;

struct variable {
  option name;
  const char* text;
  const char* profile;
  int64_t rate;  // the finest, for profiles that record nothing unless asked; 0: leave it alone
};
constexpr variable variables[] = {
    {option::WEFT_MEMPROFILE, "WEFT_MEMPROFILE", "heap", 0},
    {option::WEFT_BLOCKPROFILE, "WEFT_BLOCKPROFILE", "block", 1},
    {option::WEFT_MUTEXPROFILE, "WEFT_MUTEXPROFILE", "mutex", 1},
    {option::WEFT_WAITPROFILE, "WEFT_WAITPROFILE", "wait", 1},
    {option::WEFT_TASKPROFILE, "WEFT_TASKPROFILE", "goroutine", 0},
};

struct wanted_file {
  const char* variable;
  profile_file file;
  const profile_source* profile;  // null: the CPU's
};

// Never destroyed: written by exit handlers, while other threads run on.
struct everything_wanted {
  std::vector<wanted_file> files;
  std::unique_ptr<cpu_consumer> cpu;
  std::atomic<bool> written{false};
};
everything_wanted& wanted() {
  static auto* const w = new everything_wanted;
  return *w;
}

[[noreturn]] void refuse(option o, const char* variable, const char* why) {
  const std::string value(base::option_value(o));
  base::fatalf("%s=%s: %s", variable, value.c_str(), why);
}

[[noreturn]] void refuse_signal(const char* why) {
  refuse(option::WEFT_PROFILE_SIGNAL, "WEFT_PROFILE_SIGNAL", why);
}

void open_files() {
  everything_wanted& w = wanted();
  auto open = [&](option o, const char* name, const profile_source* p) {
    try {
      w.files.push_back({name, profile_file(base::option_value(o)), p});
    } catch (const std::exception& e) {
      refuse(o, name, e.what());
    }
  };
  for (const variable& v : variables) {
    if (base::option_value(v.name).empty()) continue;
    profile_source* p = find_profile(v.profile);
    if (p == nullptr) refuse(v.name, v.text, "this program has no such profile");
    open(v.name, v.text, p);
    if (v.rate != 0) p->set_rate(v.rate);
  }
  if (!base::option_value(option::WEFT_CPUPROFILE).empty()) {
    open(option::WEFT_CPUPROFILE, "WEFT_CPUPROFILE", nullptr);
    w.cpu = std::make_unique<cpu_consumer>(cpu_profile_rate());
  }
}

// A thread, because the caller may hold what the writing needs; then the process just ends.
void write_while_dying() noexcept {
  if (wanted().files.empty() || sched::in_forked_child()) return;
  static std::atomic<uint32_t> done{0};
  auto write = [](void*) {
    write_profile_files();
    done.store(1, std::memory_order_release);
    base::futex_wake(done, 1);
  };
  if (sched::start_service_thread("weft-profiles", write) != 0) return;
  const int64_t end = base::true_now_ns() + patience_when_dying_ns;
  while (done.load(std::memory_order_acquire) == 0) {
    const int64_t left = end - base::true_now_ns();
    if (left <= 0) {
      base::log_line("profiles are not written: the failure holds what that needs");
      return;
    }
    base::futex_wait(done, 0, left);
  }
}

// ---- signals
// -------------------------------------------------------------------------------------

int g_signal_pipe[2] = {-1, -1};
int g_cpu_signal = 0, g_all_signal = 0;

int signal_number(std::string_view text) {
  static constexpr struct {
    std::string_view name;
    int number;
  } names[] = {{"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"WINCH", SIGWINCH}};
  if (text.starts_with("SIG")) text.remove_prefix(3);
  for (const auto& n : names) {
    if (n.name == text) return n.number;
  }
  int number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  if (!whole || number < SIGRTMIN || number > SIGRTMAX) return 0;
  return number;
}

void on_profile_signal(int signo) {
  if (sched::in_forked_child()) return;  // the pipe is the parent's
  const int saved = errno;
  const char what = signo == g_cpu_signal ? 'c' : 'a';
  [[maybe_unused]] ssize_t n = ::write(g_signal_pipe[1], &what, 1);
  errno = saved;
}

std::string profile_directory() {
  std::string dir(base::option_value(option::WEFT_PROFILE_DIR));
  return dir.empty() ? "." : dir;
}

std::string next_file(const std::string& directory, std::string name) {
  static std::atomic<int> number{0};
  for (char& c : name) {
    if (c == '/' || c == '%') c = '_';
  }
  return directory + "/" + name + "." + std::to_string(::getpid()) + "." +
         std::to_string(++number) + ".pb.gz";
}

bool write_to(const std::string& path, const std::string& bytes) {
  try {
    profile_file(path).write(bytes);
    base::log_line("wrote %s", path.c_str());
    return true;
  } catch (const std::exception& e) {
    base::log_line("%s", e.what());
    return false;
  }
}

void serve_signals(void*) {
  std::unique_ptr<cpu_consumer> cpu;
  for (;;) {
    char what;
    const ssize_t n = ::read(g_signal_pipe[0], &what, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    try {
      if (what == 'a') {
        write_all_profiles(profile_directory());
      } else if (cpu == nullptr) {
        cpu = std::make_unique<cpu_consumer>(cpu_profile_rate());
        base::log_line("a CPU profile has begun; the same signal ends it");
      } else {
        write_to(next_file(profile_directory(), "cpu"), encoded(*std::exchange(cpu, nullptr)));
      }
    } catch (const std::exception& e) {
      base::log_line("a profile was not written: %s", e.what());
    }
  }
}

void take_signal(int signo) {
  struct sigaction current {};
  ::sigaction(signo, nullptr, &current);
  if (current.sa_handler != SIG_DFL && current.sa_handler != SIG_IGN)
    refuse_signal("the program has a handler for that signal");
  struct sigaction action {};
  action.sa_handler = on_profile_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(signo, &action, nullptr);
}

void install_signals() {
  constexpr const char* form =
      "it must be SIGNAL or all:SIGNAL,cpu:SIGNAL, where SIGNAL is HUP, USR1, USR2, WINCH or the "
      "number of a real-time signal, and the two differ";
  std::string_view rest = base::option_value(option::WEFT_PROFILE_SIGNAL);
  if (rest.empty()) return;
  while (!rest.empty()) {
    std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    int& signo = item.starts_with("cpu:") ? g_cpu_signal : g_all_signal;
    if (item.starts_with("cpu:") || item.starts_with("all:")) item.remove_prefix(4);
    if (signo != 0 || (signo = signal_number(item)) == 0) refuse_signal(form);
  }
  if (g_cpu_signal == g_all_signal) refuse_signal(form);
  const std::string dir = profile_directory();
  if (::access(dir.c_str(), W_OK | X_OK) != 0)
    base::fatalf("WEFT_PROFILE_DIR=%s: %s", dir.c_str(), last_system_error().message().c_str());
  if (::pipe2(g_signal_pipe, O_CLOEXEC) != 0) refuse_signal("no file descriptors");
  if (sched::start_service_thread("weft-profiles", serve_signals) != 0)
    refuse_signal("no more threads");
  for (int signo : {g_cpu_signal, g_all_signal}) {
    if (signo != 0) take_signal(signo);
  }
}

}  // namespace

profile_file::profile_file(std::string_view path) {
  for (size_t i = 0; i < path.size(); ++i) {
    const std::string_view two = path.substr(i, 2);
    if (two == "%p") path_ += std::to_string(::getpid());
    if (two == "%%") path_ += '%';
    if (two == "%p" || two == "%%")
      ++i;
    else
      path_ += path[i];
  }
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) throw system_error(last_system_error(), "cannot write " + path_);
}

profile_file::~profile_file() {
  if (fd_ >= 0) ::close(fd_);
}

profile_file::profile_file(profile_file&& o) noexcept
    : path_(std::move(o.path_)), fd_(std::exchange(o.fd_, -1)) {}

void profile_file::write(std::string_view bytes) {
  bool ok = ::ftruncate(fd_, 0) == 0 || errno == EINVAL;  // a pipe or device has no length
  for (size_t at = 0; ok && at < bytes.size();) {
    const ssize_t n = ::write(fd_, bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == EINTR) continue;
    ok = n > 0;
    if (ok) at += static_cast<size_t>(n);
  }
  if (!ok) throw system_error(last_system_error(), "cannot write " + path_);
}

std::string encoded(const profile_source& p, const collect_options& options) {
  return gzip(encode(p.collect(options)));
}

std::string encoded(cpu_consumer& consumer) {
  cpu_result r = consumer.stop();
  return gzip(encode(cpu_profile(std::move(r.samples), r.hz, {r.start_nanos, r.duration_nanos})));
}

size_t write_all_profiles(const std::string& directory) {
  size_t written = 0;
  for (const profile_source* p : all_profiles()) {
    written += write_to(next_file(directory, std::string(p->name())), encoded(*p)) ? 1 : 0;
  }
  return written;
}

void write_profile_files() noexcept {
  everything_wanted& w = wanted();
  // A forked child that exits has no threads to ask, and the files are its parent's.
  if (w.files.empty() || sched::in_forked_child() || w.written.exchange(true)) return;
  for (wanted_file& f : w.files) {
    try {
      f.file.write(f.profile != nullptr ? encoded(*f.profile) : encoded(*w.cpu));
    } catch (const std::exception& e) {
      base::log_line("%s: %s", f.variable, e.what());
    }
  }
}

void install_profile_files() {
  open_files();
  install_signals();
  if (wanted().files.empty()) return;
  std::atexit(write_profile_files);
  base::set_last_hook(write_while_dying);
}

}  // namespace weft::prof
