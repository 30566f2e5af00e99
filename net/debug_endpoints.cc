// /debug/pprof/: what Go's net/http/pprof answers, to the byte where tools read it.
//
// Errors carry X-Go-Pprof: 1 and text/plain, or `go tool pprof` would not show their text. Handlers
// run on tasks (mounted on a program's mux) and on plain threads (the debug server) alike.
#include "net/debug_endpoints.h"

#include <weft/debug/debug.h>
#include <weft/pprof.h>
#include <weft/task.h>

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <optional>
#include <thread>

#include "base/clock.h"
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

struct entry {
  std::string name;
  int64_t count;
  std::string description;
};

std::vector<entry> entries() {
  std::vector<entry> all = {
      {"cmdline", 0, "The command line invocation of the current program"},
      {"profile", 0,
       "CPU profile. You can specify the duration in the seconds GET parameter. After you get the "
       "profile file, use the go tool pprof command to investigate the profile."},
      {"symbol", 0,
       "Maps given program counters to function names. Counters can be specified in a GET raw "
       "query "
       "or POST body, multiple counters are separated by '+'."},
  };
  for (const prof::profile_source* p : prof::all_profiles())
    all.push_back({std::string(p->name()), p->count(), std::string(p->description())});
  std::sort(all.begin(), all.end(), [](const entry& a, const entry& b) { return a.name < b.name; });
  return all;
}

std::string html_escape(std::string_view s) {
  std::string out;
  for (char c : s) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

void nosniff(response_writer& w) { w.header("X-Content-Type-Options", "nosniff"); }

void fail(response_writer& w, int code, std::string message) {
  nosniff(w);
  w.header("X-Go-Pprof", "1");
  message += '\n';
  static_cast<void>(w.respond(code, text, message));
}

// A parameter as Go's strconv.Atoi reads it; nullopt when absent or not a decimal integer.
std::optional<int64_t> integer(std::string_view s) {
  if (!s.empty() && s[0] == '+') s.remove_prefix(1);
  int64_t v = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (error != std::errc{} || end != s.data() + s.size() || s.empty()) return std::nullopt;
  return v;
}

// Waits `ns`, on a task by parking and on a thread by sleeping: a debug thread must not depend on
// workers. Returns false as soon as the client is found gone.
bool wait_for_client(request& r, int64_t ns) {
  int64_t end = base::now_ns() + ns;
  sched::thread* th = sched::self_or_null();
  bool on_task = th != nullptr && !th->foreign;
  for (;;) {
    int64_t left = end - base::now_ns();
    if (left <= 0) return true;
    if (r.disconnected()) return false;
    std::chrono::nanoseconds slice(std::min(left, look_for_client_ns));
    if (on_task)
      this_task::sleep_for(slice);
    else
      std::this_thread::sleep_for(slice);
  }
}

void attachment(response_writer& w, std::string_view name) {
  nosniff(w);
  w.header("Content-Type", "application/octet-stream");
  w.header("Content-Disposition", "attachment; filename=\"" + std::string(name) + "\"");
}

void serve_index(response_writer& w) {
  std::string page =
      "<html>\n<head>\n<title>/debug/pprof/</"
      "title>\n<style>\n.profile-name{\n\tdisplay:inline-block;"
      "\n\twidth:6rem;\n}\n</style>\n</head>\n<body>\n/debug/pprof/\n<br>\n<p>Set debug=1 as a "
      "query "
      "parameter to export in legacy text format</p>\n<br>\nTypes of profiles available:\n<table>\n"
      "<thead><td>Count</td><td>Profile</td></thead>\n";
  std::vector<entry> all = entries();
  for (const entry& e : all) {
    page += "<tr><td>" + std::to_string(e.count) + "</td><td><a href='" + e.name + "?debug=1'>" +
            html_escape(e.name) + "</a></td></tr>\n";
  }
  page +=
      "</table>\n<a href=\"goroutine?debug=2\">full goroutine stack dump</a>\n<br>\n<p>\nProfile "
      "Descriptions:\n<ul>\n";
  for (const entry& e : all) {
    page += "<li><div class=profile-name>" + html_escape(e.name) + ": </div> " +
            html_escape(e.description) + "</li>\n";
  }
  page += "</ul>\n</p>\n</body>\n</html>\n";
  nosniff(w);
  static_cast<void>(w.respond(200, "text/html; charset=utf-8", page));
}

void serve_cmdline(response_writer& w) {
  std::ifstream f("/proc/self/cmdline", std::ios::binary);
  std::string argv((std::istreambuf_iterator<char>(f)), std::istreambuf_iterator<char>());
  while (!argv.empty() && argv.back() == '\0') argv.pop_back();
  nosniff(w);
  static_cast<void>(w.respond(200, text, argv));
}

void serve_cpu_profile(response_writer& w, request& r) {
  int64_t seconds = integer(r.form().get("seconds")).value_or(0);
  if (seconds <= 0) seconds = 30;
  if (seconds > 86400) {
    fail(w, 400, "profile duration exceeds 86400 seconds");
    return;
  }
  prof::cpu_consumer consumer(cpu_profile_rate());
  bool wanted = wait_for_client(r, seconds * second_ns);
  prof::cpu_result result = consumer.stop();
  if (!wanted) {
    w.close_connection();
    return;
  }
  attachment(w, "profile");
  static_cast<void>(w.write(prof::gzip(prof::encode(prof::cpu_profile(
      std::move(result.samples), result.hz, {result.start_nanos, result.duration_nanos})))));
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
                 std::string_view name, std::string_view seconds_text, int64_t debug) {
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
  auto pause = [&] { return wait_for_client(r, std::min<int64_t>(seconds, 86400) * second_ns); };
  std::optional<prof::profile_data> delta = p.collect_over(pause, {});
  if (!delta) {
    w.close_connection();
    return;
  }
  attachment(w, std::string(name) + "-delta");
  static_cast<void>(w.write(prof::gzip(prof::encode(*delta))));
}

void serve_profile(response_writer& w, request& r, std::string_view name) {
  const prof::profile_source* p = prof::find_profile(name);
  if (p == nullptr) {
    fail(w, 404, "Unknown profile");
    return;
  }
  const http::params& form = r.form();
  int64_t debug = std::max<int64_t>(integer(form.get("debug")).value_or(0), 0);
  if (std::string_view seconds = form.get("seconds"); !seconds.empty()) {
    serve_delta(w, r, *p, name, seconds, debug);
    return;
  }
  prof::collect_options options;
  options.gc = integer(form.get("gc")).value_or(0) > 0;
  if (debug == 0) {
    std::string bytes = prof::gzip(prof::encode(p->collect(options)));
    attachment(w, name);
    static_cast<void>(w.write(bytes));
    return;
  }
  nosniff(w);
  w.header("Content-Type", text);
  p->write_text([&w](std::string_view piece) { return w.write(piece).has_value(); },
                static_cast<int>(std::min<int64_t>(debug, 2)), options);
}

void dispatch(response_writer& w, request& r, std::string_view name) {
  std::string_view m = r.method();
  if (m != "GET" && m != "HEAD" && m != "POST") {
    w.header("Allow", "GET, HEAD, POST");
    fail(w, 405, "method not allowed");
  } else if (name.empty()) {
    serve_index(w);
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
  m.handle(root, [root](response_writer& w, request& r) {
    std::string to = root + "/";
    if (!r.query().empty()) to += "?" + std::string(r.query());
    http::redirect(w, 301, to);
  });
  m.handle(root + "/{name...}", [](response_writer& w, request& r) {
    dispatch(w, r, std::string(r.path_value("name")));
  });
}

}  // namespace weft::debug
