// /debug/pprof/: what Go's net/http/pprof answers, to the byte where tools read it.
//
// Errors carry X-Go-Pprof: 1 and text/plain, or `go tool pprof` would not show their text. Handlers
// run on tasks (mounted on a program's mux) and on plain threads (the debug server) alike.
#include "net/debug_endpoints.h"

#include <weft/blocking.h>
#include <weft/debug/debug.h>
#include <weft/pprof.h>
#include <weft/task.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "net/debug_index.h"
#include "profiler/cpu_sampler.h"
#include "profiler/deadlock_report.h"
#include "profiler/pprof_encoder.h"
#include "profiler/profile_registry.h"
#include "profiler/symbolize.h"
#include "scheduler/thread.h"

namespace weft::debug {
namespace {

using http::request;
using http::response_writer;

constexpr std::string_view text = "text/plain; charset=utf-8";
constexpr int64_t second_ns = 1'000'000'000;
constexpr int64_t look_for_client_ns = 100'000'000;
// Longer intervals end with the client's patience; this only keeps nanoseconds within 64 bits.
constexpr int64_t longest_seconds = 1'000'000'000;

void nosniff(response_writer& w) { w.header("X-Content-Type-Options", "nosniff"); }

void fail(response_writer& w, int code, std::string message) {
  nosniff(w);
  w.header("X-Go-Pprof", "1");
  message += '\n';
  static_cast<void>(w.respond(code, text, message));
}

// Go's r.FormValue: a urlencoded body wins over the query, and one that cannot be read is ignored.
std::string form_value(request& r, std::string_view name) {
  auto form = r.try_form();
  return std::string(form ? (*form)->get(name) : r.query_value(name));
}

// As Go says it to a client that closed only its sending side.
void client_gone(response_writer& w) {
  w.close_connection();
  fail(w, 500, "context canceled");
}

// A parameter as Go's strconv.Atoi reads it; nullopt when absent or not a decimal integer.
std::optional<int64_t> integer(std::string_view s) {
  if (!s.empty() && s[0] == '+') s.remove_prefix(1);
  int64_t v = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (error != std::errc{} || end != s.data() + s.size() || s.empty()) return std::nullopt;
  return v;
}

bool on_task() {
  sched::thread* th = sched::self_or_null();
  return th != nullptr && !th->foreign;
}

// Waits `ns`, on a task by parking and on a thread by sleeping: a debug thread must not depend on
// workers. Returns false as soon as the client is found gone.
bool wait_for_client(request& r, int64_t ns) {
  int64_t end = base::now_ns() + ns;
  const bool parks = on_task();
  for (;;) {
    int64_t left = end - base::now_ns();
    if (left <= 0) return true;
    if (r.disconnected()) return false;
    std::chrono::nanoseconds slice(std::min(left, look_for_client_ns));
    if (parks)
      this_task::sleep_for(slice);
    else
      std::this_thread::sleep_for(slice);
  }
}

// What a program named its profile must not break the header.
std::string quoted(std::string_view name) {
  std::string out = "\"";
  for (char c : name) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < ' ' || c == '\x7f' ? '_' : c;
  }
  return out + '"';
}

void send_attachment(response_writer& w, const std::string& name, const std::string& bytes) {
  nosniff(w);
  w.header("Content-Type", "application/octet-stream");
  w.header("Content-Disposition", "attachment; filename=" + quoted(name));
  static_cast<void>(w.write(bytes));
}

void send_profile(response_writer& w, const std::string& name, const prof::profile_data& data) {
  // Other tasks need not wait until everything is named and packed.
  send_attachment(w, name, blocking([&] { return prof::gzip(prof::encode(data)); }));
}

// The right to do heavy work: stacks of all tasks, symbols, encoding. One request at a time has it,
// so that a crowd of scrapers costs no more than one. Requests that run as tasks and those on the
// debug server's threads have one each: a task may lose its processor while it has its turn, and
// the debug server must answer all the same.
class heavy_turn {
 public:
  heavy_turn() : busy_(on_task() ? busy_on_tasks : busy_on_threads) {}
  ~heavy_turn() { give_back(); }
  heavy_turn(const heavy_turn&) = delete;

  // Waits for the turn; false if there was none in time, which has been answered, or the client is
  // gone.
  bool take(response_writer& w, request& r) {
    for (int64_t waited = 0; busy_.exchange(true, std::memory_order_acquire);
         waited += turn_poll_ns) {
      if (waited >= turn_patience_ns) {
        w.header("Retry-After", "1");
        fail(w, 503, "another profile is being written; try again later");
        return false;
      }
      if (!wait_for_client(r, turn_poll_ns)) {
        client_gone(w);
        return false;
      }
    }
    mine_ = true;
    return true;
  }

  void give_back() {
    if (std::exchange(mine_, false)) busy_.store(false, std::memory_order_release);
  }

 private:
  static constexpr int64_t turn_poll_ns = 5'000'000;
  static constexpr int64_t turn_patience_ns = 60 * second_ns;
  static inline std::atomic<bool> busy_on_tasks{false}, busy_on_threads{false};

  std::atomic<bool>& busy_;
  bool mine_ = false;
};

// For long work: polls whether the client is still there, not more often than pays.
std::function<bool()> abandoned_by(request& r) {
  return [&r, last = base::now_ns()]() mutable {
    int64_t now = base::now_ns();
    if (now - last < 1'000'000) return false;
    last = now;
    return r.disconnected();
  };
}

void serve_cmdline(response_writer& w) {
  std::ifstream f("/proc/self/cmdline", std::ios::binary);
  std::string argv((std::istreambuf_iterator<char>(f)), std::istreambuf_iterator<char>());
  while (!argv.empty() && argv.back() == '\0') argv.pop_back();
  nosniff(w);
  static_cast<void>(w.respond(200, text, argv));
}

void serve_cpu_profile(response_writer& w, request& r) {
  int64_t seconds = integer(form_value(r, "seconds")).value_or(0);
  if (seconds <= 0) seconds = 30;
  prof::cpu_consumer consumer({.hz = cpu_profile_rate(), .by_task = form_value(r, "tasks") == "1"});
  bool wanted = wait_for_client(r, std::min(seconds, longest_seconds) * second_ns);
  prof::cpu_result result = consumer.stop();
  heavy_turn turn;
  if (!wanted) {
    client_gone(w);
  } else if (turn.take(w, r)) {
    send_profile(w, "profile",
                 prof::cpu_profile(std::move(result.samples), result.hz,
                                   {result.start_nanos, result.duration_nanos}));
  }
}

void serve_symbol(response_writer& w, request& r) {
  std::string words;
  if (r.method() == "POST") {
    auto body = r.read_all(1 << 20);
    if (!body) {
      fail(w, 400, "cannot read the request body: " + body.error().message());
      return;
    }
    words = std::move(*body);
  } else {
    words = std::string(r.query());
  }
  std::string out = "num_symbols: 1\n";
  for (size_t at = 0; at <= words.size();) {
    size_t plus = std::min(words.find('+', at), words.size());
    std::string word = words.substr(at, plus - at);
    at = plus + 1;
    char* end = nullptr;
    auto pc = static_cast<uintptr_t>(std::strtoull(word.c_str(), &end, 0));
    if (pc == 0 || end == word.c_str() || *end != '\0') continue;
    const std::string& name = prof::symbolize(pc).back().name;
    if (name.empty()) continue;
    char line[32];
    std::snprintf(line, sizeof line, "0x%" PRIxPTR " ", pc);
    out += line + name + "\n";
  }
  nosniff(w);
  static_cast<void>(w.respond(200, text, out));
}

// What changed in `seconds`: values of the second snapshot minus those of the first.
void serve_delta(response_writer& w, request& r, const prof::profile_source& p,
                 const std::string& name, std::string_view seconds_text, int64_t debug) {
  int64_t seconds = integer(seconds_text).value_or(0);
  if (seconds <= 0) {
    fail(w, 400, "invalid value for \"seconds\" - must be a positive integer");
    return;
  }
  if (!p.supports_delta()) {
    fail(w, 400, "\"seconds\" parameter is not supported for this profile type");
    return;
  }
  if (debug != 0) {
    fail(w, 400, "seconds and debug params are incompatible");
    return;
  }
  heavy_turn turn;
  if (!turn.take(w, r)) return;
  auto pause = [&] {
    turn.give_back();
    return wait_for_client(r, std::min(seconds, longest_seconds) * second_ns) && turn.take(w, r);
  };
  std::optional<prof::profile_data> delta;
  try {
    delta = p.collect_over(pause, {.abandoned = abandoned_by(r)});
  } catch (const std::exception&) {
    fail(w, 500, "failed to compute delta");
    return;
  }
  if (delta) {
    send_profile(w, name + "-delta", *delta);
  } else if (w.status() == 200) {  // nothing was answered: the client has gone
    client_gone(w);
  }
}

void serve_profile(response_writer& w, request& r, const std::string& name) {
  const prof::profile_source* p = prof::find_profile(name);
  if (p == nullptr) {
    fail(w, 404, "Unknown profile");
    return;
  }
  // A negative value is Go's binary body under a text header; here it is 0.
  int64_t debug = std::clamp<int64_t>(integer(form_value(r, "debug")).value_or(0), 0, 2);
  if (std::string seconds = form_value(r, "seconds"); !seconds.empty()) {
    serve_delta(w, r, *p, name, seconds, debug);
    return;
  }
  heavy_turn turn;
  if (!turn.take(w, r)) return;
  prof::collect_options options;
  options.gc = integer(form_value(r, "gc")).value_or(0) > 0;
  options.abandoned = abandoned_by(r);
  try {
    if (debug == 0) {
      send_profile(w, name, p->collect(options));
      return;
    }
    nosniff(w);
    w.header("Content-Type", text);
    p->write_text([&w](std::string_view piece) { return w.write(piece).has_value(); },
                  static_cast<int>(debug), options);
  } catch (const std::exception&) {
    if (w.bytes_written() != 0) throw;  // too late for another status: the connection ends
    fail(w, 500, "failed to collect profile");
  }
}

void dispatch(response_writer& w, request& r, const std::string& name) {
  std::string_view m = r.method();
  if (m != "GET" && m != "HEAD" && m != "POST") {
    w.header("Allow", "GET, HEAD, POST");
    fail(w, 405, "method not allowed");
  } else if (name.empty()) {
    nosniff(w);
    static_cast<void>(w.respond(200, "text/html; charset=utf-8", index_page()));
  } else if (name == "cmdline") {
    serve_cmdline(w);
  } else if (name == "profile") {
    serve_cpu_profile(w, r);
  } else if (name == "symbol") {
    serve_symbol(w, r);
  } else {
    serve_profile(w, r, name);
  }
}

}  // namespace

void handle(http::mux& m) {
  handle(m, "/debug/pprof");
  m.handle("GET /debug/weft/deadlocks", [](response_writer& w, request&) {
    nosniff(w);
    w.header("Content-Type", text);
    prof::write_deadlocks([&w](std::string_view piece) { return w.write(piece).has_value(); });
  });
}

void handle(http::mux& m, std::string_view prefix) {
  std::string root(prefix);
  while (!root.empty() && root.back() == '/') root.pop_back();
  if (!root.empty()) {
    // Relative to what was asked for: this mux may itself be mounted somewhere.
    m.handle(root, [](response_writer& w, request& r) {
      std::string to = std::string(r.raw_path()) + "/";
      if (!r.query().empty()) to += "?" + std::string(r.query());
      http::redirect(w, 301, to);
    });
  }
  m.handle(root + "/{name...}", [](response_writer& w, request& r) {
    dispatch(w, r, std::string(r.path_value("name")));
  });
}

}  // namespace weft::debug
