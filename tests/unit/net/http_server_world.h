#pragma once
// An HTTP server with a few handlers, and a client of it that reads answers as text.
#include <weft/http/server.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "tests/unit/net/net_world.h"

namespace weft::http::test {

using namespace weft::test;

inline std::string get(std::string_view path, std::string_view fields = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(fields) + "\r\n";
}

// One answer from the stream: head and a body of Content-Length. "" at the end of the stream.
inline std::string read_answer(net::tcp_conn& c) {
  std::string text;
  char byte;
  while (!text.ends_with("\r\n\r\n")) {
    if (!c.try_read({&byte, 1})) return text;
    text += byte;
  }
  const std::size_t at = text.find("Content-Length: ");
  if (at == std::string::npos) return text;
  std::string body(std::stoul(text.substr(at + 16)), '\0');
  if (!c.try_read_full(body)) return text;
  return text + body;
}

inline std::string read_rest(net::tcp_conn& c) {
  std::string all;
  char buffer[4096];
  while (result<std::size_t> n = c.try_read(buffer)) all.append(buffer, *n);
  return all;
}

inline bool ends(const std::string& text, std::string_view tail) { return text.ends_with(tail); }
inline bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// The server, running in a task.
class running {
 public:
  explicit running(const server_options& options = {}) : server_(mux_, options) {
    add_routes();
    net::tcp_listener l = net::listen("tcp", "127.0.0.1:0");
    where_ = l.local_address().to_string();
    serving_ = spawn([this, l = std::move(l)]() mutable { server_.serve(std::move(l)); });
    EXPECT_TRUE(eventually([this] { return !server_.addresses().empty(); }));
  }
  ~running() {
    server_.close();
    serving_.join();
  }

  http::server& server() { return server_; }
  net::tcp_conn connect() { return net::dial(where_, far()); }
  const std::string& where() const { return where_; }
  bool shutdown(net::time_point deadline = far()) { return server().shutdown(deadline); }

  // Requests are counted when their burst ends, which may be after the answer has arrived.
  bool served(std::uint64_t n) {
    return eventually([&] { return server_.stats().requests == n; });
  }

  // Handlers of /wait stay until this is opened.
  void open_gate() { gate_.store(true); }
  int in_gate() const { return waiting_.load(); }
  int cancelled() const { return cancelled_.load(); }
  // Of the last request for /keep-context.
  const context& kept() const { return kept_; }

 private:
  void add_routes() {
    mux& m = mux_;
    m.handle("GET /hello", [](response_writer& w, request&) { w.write("hello"); });
    m.handle("POST /echo", [](response_writer& w, request& r) { w.write(r.read_all().value()); });
    m.handle("GET /wait", [this](response_writer& w, request&) {
      waiting_.fetch_add(1);
      EXPECT_TRUE(eventually([this] { return gate_.load(); }));
      waiting_.fetch_sub(1);
      w.write("waited");
    });
    m.handle("GET /until-cancelled", [this](response_writer& w, request& r) {
      const context ctx = r.context();
      EXPECT_EQ(ctx, r.context());
      waiting_.fetch_add(1);
      EXPECT_FALSE(this_task::sleep_until(ctx, far()));
      waiting_.fetch_sub(1);
      cancelled_.fetch_add(ctx.err() ? 1 : 0);
      w.write("cancelled");
    });
    m.handle("GET /keep-context", [this](response_writer& w, request& r) {
      kept_ = r.context();
      w.write(kept_.err() ? "already" : "fresh");
      EXPECT_FALSE(r.own().context().err());
    });
    m.handle("GET /throw", [](response_writer&, request&) { throw std::runtime_error("no"); });
    m.handle("GET /big", [](response_writer& w, request&) {
      w.content_length(50'000'000);
      const std::string piece(100'000, 'b');
      for (int i = 0; i < 500; ++i) {
        if (!w.write(piece)) return;
      }
    });
  }

  mux mux_;
  http::server server_;
  std::string where_;
  join_handle<void> serving_;
  std::atomic<bool> gate_{false};
  std::atomic<int> waiting_{0};
  std::atomic<int> cancelled_{0};
  context kept_;
};

}  // namespace weft::http::test
