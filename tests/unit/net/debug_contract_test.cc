// The debug endpoints against what Go's tools and habits ask of net/http/pprof: every profile,
// under any prefix, with Go's own pprof as the client; and who may ask at all.
#include <gtest/gtest.h>
#include <weft/debug/debug.h>
#include <weft/http/server.h>
#include <weft/pprof.h>
#include <weft/weft.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/world.h"
#include "tests/unit/net/debug_client.h"
#include "tests/unit/profiler/go_tool.h"
#include "tests/unit/profiler/profile_check.h"

namespace weft {
namespace {

using prof::test::go_tool;
using prof::test::valid_profile;
using test::answer;
using test::ask;
using test::connect_to;
using test::get;

// Runs f(port) on a plain thread while a server of the program's own serves `m`.
template <class F>
void serving(const http::mux& m, F f, http::server_options options = {}) {
  run({.max_procs = 2}, [&] {
    test::own_server s(m, options);
    blocking([&] { f(s.port()); });
  });
}

// "&'" would break an attribute, "a b" a link, '"' a header, and "c:d" looks like a scheme.
pprof::profile& oddly_named() {
  static pprof::profile& p = pprof::profile::create("c:d/\"a b\"<&'>");
  return p;
}

TEST(DebugContract, IndexIsGosPage) {
  oddly_named();
  http::mux m;
  debug::handle(m);
  serving(m, [](int port) {
    std::string page = ask(port, get("/debug/pprof/")).body;
    std::string expected =
        "<html>\n<head>\n<title>/debug/pprof/</title>\n<style>\n.profile-name{\n\tdisplay:"
        "inline-block;\n\twidth:6rem;\n}\n</style>\n</head>\n<body>\n/debug/pprof/\n<br>\n<p>Set "
        "debug=1 as a query parameter to export in legacy text format</p>\n<br>\nTypes of profiles "
        "available:\n<table>\n<thead><td>Count</td><td>Profile</td></thead>\n";
    EXPECT_EQ(page.substr(0, expected.size()), expected);
    EXPECT_NE(page.find("<tr><td>0</td><td><a href='cmdline?debug=1'>cmdline</a></td></tr>\n"),
              std::string::npos);
    EXPECT_NE(page.find("<tr><td>0</td><td><a href='./c:d/%22a%20b%22%3C&amp;%27%3E?debug=1'>"
                        "c:d/&#34;a b&#34;&lt;&amp;&#39;&gt;</a></td></tr>\n"),
              std::string::npos)
        << page;
    EXPECT_NE(page.find("</table>\n<a href=\"goroutine?debug=2\">full goroutine stack dump</a>\n"
                        "<br>\n<p>\nProfile Descriptions:\n<ul>\n<li><div class=profile-name>"),
              std::string::npos);
    EXPECT_NE(page.find("<li><div class=profile-name>goroutine: </div> Stack traces of all current "
                        "goroutines</li>\n"),
              std::string::npos);
    const std::string last = "</ul>\n</p>\n</body>\n</html>\n";
    EXPECT_EQ(page.substr(page.size() - last.size()), last);
  });
}

// The form of each profile, whichever there are: headers, deltas, text, and that the index knows
// it.
TEST(DebugContract, EveryProfileInEveryForm) {
  int value = 0;
  oddly_named().add(&value);
  http::mux m;
  debug::handle(m);
  serving(m, [](int port) {
    const std::string page = ask(port, get("/debug/pprof/")).body;
    for (pprof::profile* p : pprof::profiles()) {
      const std::string name(p->name());
      const bool own = p == &oddly_named();
      EXPECT_EQ(p->description().empty(), own) << name;
      std::string path = "/debug/pprof/" + name;
      if (own) path = "/debug/pprof/c:d%2F%22a%20b%22%3C%26'%3E";
      if (!own) {
        EXPECT_NE(page.find("<a href='" + name + "?debug=1'>" + name), std::string::npos) << name;
      }
      const answer binary = ask(port, get(path));
      EXPECT_EQ(binary.status, 200) << name;
      EXPECT_TRUE(binary.has("Content-Type: application/octet-stream\r\n")) << binary.head;
      EXPECT_TRUE(binary.has("X-Content-Type-Options: nosniff\r\n")) << binary.head;
      EXPECT_FALSE(binary.has("Content-Encoding")) << "gzip is the content here";
      EXPECT_TRUE(binary.has("Content-Disposition: attachment; filename=\"" +
                             (own ? "c:d/\\\"a b\\\"<&'>" : name) + "\"\r\n"))
          << binary.head;
      EXPECT_EQ(binary.body.substr(0, 2), "\x1f\x8b") << name;
      EXPECT_TRUE(valid_profile(binary.body)) << name;

      for (const char* debug : {"1", "2", "%2B1", "99"}) {
        const answer text = ask(port, get(path + "?debug=" + debug));
        EXPECT_EQ(text.status, 200) << name;
        EXPECT_TRUE(text.has("Content-Type: text/plain; charset=utf-8\r\n")) << text.head;
        EXPECT_FALSE(text.has("Content-Disposition")) << text.head;
      }
      for (const char* debug : {"0", "x", "1.5", "-1", ""}) {
        EXPECT_TRUE(ask(port, get(path + "?debug=" + debug)).has("application/octet-stream"))
            << name << " debug=" << debug;
      }
      for (const char* seconds : {"x", "0", "-1", "1.5", "1s", "99999999999999999999"}) {
        const answer bad = ask(port, get(path + "?seconds=" + seconds));
        EXPECT_EQ(bad.status, 400) << name << " seconds=" << seconds;
        EXPECT_EQ(bad.body, "invalid value for \"seconds\" - must be a positive integer\n");
        EXPECT_TRUE(bad.has("X-Go-Pprof: 1\r\n"));
        EXPECT_TRUE(bad.has("Content-Type: text/plain; charset=utf-8\r\n"));
        EXPECT_FALSE(bad.has("Content-Disposition"));
      }
      if (own) {
        const answer none = ask(port, get(path + "?seconds=1"));
        EXPECT_EQ(none.status, 400);
        EXPECT_EQ(none.body, "\"seconds\" parameter is not supported for this profile type\n");
        continue;
      }
      EXPECT_EQ(ask(port, get(path + "?seconds=1&debug=1")).body,
                "seconds and debug params are incompatible\n");
      const answer delta = ask(port, get(path + "?seconds=1"));
      EXPECT_EQ(delta.status, 200) << name << delta.body;
      EXPECT_TRUE(delta.has("filename=\"" + name + "-delta\"\r\n")) << delta.head;
      ASSERT_TRUE(valid_profile(delta.body)) << name;
      const auto change = prof::test::decode_profile(delta.body);
      const auto whole = prof::test::decode_profile(binary.body);
      EXPECT_GE(change.duration_nanos(), 1'000'000'000) << name;
      EXPECT_GT(change.time_nanos(), whole.time_nanos()) << name;
      ASSERT_EQ(change.sample_type_size(), whole.sample_type_size()) << name;
      for (const auto& s : change.sample()) {
        EXPECT_FALSE(std::ranges::all_of(s.value(), [](int64_t v) { return v == 0; }))
            << name << ": a sample that did not change";
      }
    }
  });
  oddly_named().remove(&value);
}

TEST(DebugContract, WhatIsNotThereIsAnUnknownProfile) {
  http::mux m;
  debug::handle(m);
  serving(m, [](int port) {
    for (const char* name : {"trace", "trace?seconds=1", "heap/", "nothing", "profile/",
                             "Goroutine", "nothing?seconds=x", "%ff"}) {
      const answer a = ask(port, get("/debug/pprof/" + std::string(name)));
      EXPECT_EQ(a.status, 404) << name;
      EXPECT_EQ(a.body, "Unknown profile\n") << name;
      EXPECT_TRUE(a.has("X-Go-Pprof: 1\r\n")) << name;
      EXPECT_TRUE(a.has("Content-Type: text/plain; charset=utf-8\r\n")) << name;
      EXPECT_TRUE(a.has("X-Content-Type-Options: nosniff\r\n")) << name;
    }
    for (const char* method : {"DELETE", "PUT", "OPTIONS", "PATCH"}) {
      const answer a = ask(port, get("/debug/pprof/goroutine", method));
      EXPECT_EQ(a.status, 405) << method;
      EXPECT_TRUE(a.has("Allow: GET, HEAD, POST\r\n")) << a.head;
    }
  });
}

TEST(DebugContract, AFormWinsOverTheQuery) {
  http::mux m;
  debug::handle(m);
  serving(m, [](int port) {
    auto post = [&](const std::string& target, const std::string& type, const std::string& body) {
      return ask(port, "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" +
                           "Content-Type: " + type + "\r\nContent-Length: " +
                           std::to_string(body.size()) + "\r\n\r\n" + body);
    };
    const std::string form = "application/x-www-form-urlencoded";
    EXPECT_TRUE(post("/debug/pprof/goroutine?debug=0", form, "debug=1").has("text/plain"));
    EXPECT_TRUE(post("/debug/pprof/goroutine?debug=1", "text/csv", "debug=0").has("text/plain"));
    EXPECT_TRUE(post("/debug/pprof/goroutine?debug=1", form, "%zz&&=&").has("text/plain"));
  });
}

TEST(DebugContract, AnyPrefixAndSeveralMuxes) {
  http::mux inner;
  debug::handle(inner);
  http::mux m;
  debug::handle(m, "/ops/{tenant}/profiles/");
  debug::handle(m, "/plain");
  m.mount("/mounted", inner);
  http::mux bare;
  debug::handle(bare, "/");
  auto look = [](int port, const std::string& root) {
    EXPECT_EQ(ask(port, get(root + "/")).status, 200) << root;
    const answer cmdline = ask(port, get(root + "/cmdline"));
    EXPECT_EQ(cmdline.status, 200) << root;
    EXPECT_NE(cmdline.body.find("weft_net_tests"), std::string::npos) << root;
    EXPECT_TRUE(valid_profile(ask(port, get(root + "/goroutine")).body)) << root;
    EXPECT_EQ(ask(port, get(root + "/nothing")).body, "Unknown profile\n") << root;
    const answer symbol = ask(port, get(root + "/symbol"));
    EXPECT_EQ(symbol.body.rfind("num_symbols: 1\n", 0), 0u) << root;
    if (root.empty()) return;
    const answer bare_path = ask(port, get(root + "?seconds=2"));
    EXPECT_EQ(bare_path.status, 301) << root;
    EXPECT_TRUE(bare_path.has("Location: " + root + "/?seconds=2\r\n")) << bare_path.head;
  };
  serving(m, [&](int port) {
    look(port, "/ops/acme/profiles");
    look(port, "/plain");
    look(port, "/mounted/debug/pprof");
    EXPECT_EQ(ask(port, get("/debug/pprof/")).status, 404) << "not mounted there";
  });
  serving(bare, [&](int port) { look(port, ""); });
}

TEST(DebugContract, GoToolReadsEveryUrl) {
  http::mux m;
  debug::handle(m, "/other/debug/pprof");
  serving(m, [](int port) {
    const go_tool go;
    const std::string root = "http://127.0.0.1:" + std::to_string(port) + "/other/debug/pprof/";
    for (pprof::profile* p : pprof::profiles()) {
      if (p->description().empty()) continue;
      const std::string name(p->name());
      for (const char* query : {"", "?debug=1"}) {
        auto top = go.pprof({"-top"}, root + name + query);
        EXPECT_EQ(top.exit_status, 0) << name << query << "\n" << top.out;
      }
      auto raw = go.pprof({"-raw", "-seconds=1"}, root + name);
      EXPECT_EQ(raw.exit_status, 0) << name << "\n" << raw.out;
      EXPECT_TRUE(raw.has("Duration: 1")) << name << "\n" << raw.out;
    }
    auto top = go.pprof({"-top", "-seconds=1"}, root + "profile");
    EXPECT_EQ(top.exit_status, 0) << top.out;
    EXPECT_TRUE(top.has("Type: cpu\n")) << top.out;
    // The text form has names only in comments: the tool asks /symbol for them, under prefixes that
    // end in /debug/pprof.
    auto text = go.pprof({"-traces"}, root + "goroutine?debug=1");
    EXPECT_TRUE(text.has("weft::")) << text.out;
    auto unknown = go.pprof({"-top"}, root + "trace");
    EXPECT_NE(unknown.exit_status, 0);
    EXPECT_TRUE(unknown.has("server response: 404 Not Found - Unknown profile")) << unknown.out;
  });
}

// Go 1.19 refuses a profile that is longer than the server's write timeout, newer ones extend it;
// weft's write clock runs only while a client does not read.
TEST(DebugContract, AProfileMayTakeLongerThanTheWriteClock) {
  http::mux m;
  debug::handle(m);
  http::server_options options;
  options.write_grace = std::chrono::milliseconds(100);
  options.idle_timeout = std::chrono::milliseconds(300);
  serving(
      m,
      [](int port) {
        EXPECT_TRUE(valid_profile(ask(port, get("/debug/pprof/goroutine?seconds=1")).body));
        EXPECT_TRUE(valid_profile(ask(port, get("/debug/pprof/profile?seconds=1")).body));
      },
      options);
}

// A stack of n frames makes a long dump of few tasks, of which a sanitizer allows 8000.
[[gnu::noinline]] void wait_below(int n, chan<int>& c) {
  if (n == 0)
    c.recv();
  else
    wait_below(n - 1, c);
  asm volatile("");
}

// One dump at a time; and the one whose client does not read ends with that client.
TEST(DebugContract, ADumpNobodyReadsGivesItsTurnToTheNext) {
  http::mux m;
  debug::handle(m);
  run({.max_procs = 2}, [&] {
    chan<int> never(0);
    for (int i = 0; i < 6'000; ++i) {
      go([never]() mutable { wait_below(40, never); });
    }
    std::string at = debug::serve("localhost:0");
    const int port = std::stoi(at.substr(at.rfind(':') + 1));
    blocking([&] {
      const int stuck = connect_to(port);
      const std::string request = get("/debug/pprof/goroutine?debug=2");
      ASSERT_EQ(::send(stuck, request.data(), request.size(), 0),
                static_cast<ssize_t>(request.size()));
      char one;
      ASSERT_EQ(::recv(stuck, &one, 1, 0), 1);  // it has its turn
      std::atomic<bool> answered{false};
      std::thread second([&] {
        const answer a = ask(port, get("/debug/pprof/goroutine?debug=1"));
        answered = true;
        EXPECT_EQ(a.status, 200);
        EXPECT_EQ(a.body.rfind("goroutine profile: total 60", 0), 0u) << a.body.substr(0, 100);
      });
      EXPECT_EQ(ask(port, get("/debug/pprof/cmdline")).status, 200) << "light work does not wait";
      EXPECT_FALSE(answered.load());
      ::close(stuck);
      second.join();
    });
    never.close();
    while (num_tasks() > 1) this_task::yield();
  });
}

std::string with_header(const std::string& request, const std::string& line) {
  std::string out = request;
  return out.insert(out.find("\r\n") + 2, line + "\r\n");
}

TEST(DebugToken, IsAskedForInEveryRequest) {
  const std::string token = "s3cret-token";
  run({.max_procs = 2}, [&] {
    std::string at = debug::serve({.address = "localhost:0", .token = token});
    const int port = std::stoi(at.substr(at.rfind(':') + 1));
    blocking([&] {
      const std::string request = get("/debug/pprof/cmdline");
      const std::string refused[] = {
          request,
          with_header(request, "Authorization: Bearer s3cret-tokem"),
          with_header(request, "Authorization: Bearer s3cret-toke"),
          with_header(request, "Authorization: Bearer s3cret-tokenn"),
          with_header(request, "Authorization: Bearer "),
          with_header(request, "Authorization: Digest s3cret-token"),
          with_header(request, "Authorization: Basic ****"),
          with_header(request, "Authorization: Basic czNjcmV0LXRva2Vu"),  // no user
          with_header(request, "Authorization: Basic bWU6czNjcmV0LXRva2Vt"),
          get("/debug/pprof/cmdline?token=s3cret-token"),
          get("/nowhere"),
      };
      for (const std::string& r : refused) {
        const answer a = ask(port, r);
        EXPECT_EQ(a.status, 401) << r;
        EXPECT_TRUE(a.has("WWW-Authenticate: Bearer realm=")) << a.head;
        EXPECT_TRUE(a.has("WWW-Authenticate: Basic realm=")) << a.head;
        EXPECT_TRUE(a.has("X-Go-Pprof: 1\r\n")) << a.head;
        EXPECT_EQ(a.body, "a token is needed\n");
      }
      for (const char* header :
           {"Authorization: Bearer s3cret-token", "Authorization: bearer   s3cret-token",
            "Authorization: Basic bWU6czNjcmV0LXRva2Vu"}) {
        EXPECT_EQ(ask(port, with_header(request, header)).status, 200) << header;
      }
      const go_tool go;
      const std::string where = "127.0.0.1:" + std::to_string(port) + "/debug/pprof/goroutine";
      EXPECT_EQ(go.pprof({"-top"}, "http://me:" + token + "@" + where).exit_status, 0);
      auto without = go.pprof({"-top"}, "http://" + where);
      EXPECT_NE(without.exit_status, 0);
      EXPECT_TRUE(without.has("a token is needed")) << without.out;
    });
  });
}

TEST(DebugToken, MustBeWorthTheName) {
  const http::handler h = [](http::response_writer&, http::request&) {};
  for (const std::string& bad :
       {std::string(""), std::string("short"), std::string("with a blank"),
        std::string("new\nline-new"), std::string(257, 'x'), std::string("um\xc3\xa4laut-token")}) {
    EXPECT_THROW(debug::require_token(h, bad), std::invalid_argument) << bad;
  }
  EXPECT_NO_THROW(debug::require_token(h, std::string(256, 'x')));
  EXPECT_THROW(debug::serve({.address = "localhost:0", .token = "short"}), std::invalid_argument);
  EXPECT_THROW(debug::serve({.address = "localhost:0", .max_connections = 0}),
               std::invalid_argument);
}

}  // namespace
}  // namespace weft
