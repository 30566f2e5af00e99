// weft_bench_net echo_server|http_server|freeze_server [--workers=N] [--port=P] [--hogs=0|1]: the
// servers that bench/load
// drives, written as a user of weft would write them. Prints "ready port=N" when listening and the
// CPU time used at SIGTERM, like its namesakes in bench/peers/go and bench/raw.

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>
#include <weft/http/server.h>
#include <weft/net/tcp.h>
#include <weft/weft.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "bench/common/args.h"

namespace {

struct config {
  std::string row;
  long workers = 1;
  long port = 0;
  bool hogs = false;
};

weft::net::tcp_listener listen(const config& c) {
  auto listener = weft::net::listen("tcp", "127.0.0.1:" + std::to_string(c.port));
  std::printf("ready port=%d\n", static_cast<int>(listener.local_address().port()));
  std::fflush(stdout);
  return listener;
}

// A task per connection that blocks in read: the plain style, and the one bar N5 is about.
void serve_echo(const config& c) {
  auto listener = listen(c);
  for (;;) {
    weft::go([conn = listener.accept()]() mutable {
      std::array<char, 4096> buffer;
      for (;;) {
        const auto got = conn.try_read(std::span(buffer));
        if (!got || *got == 0) return;
        if (!conn.try_write(std::string_view(buffer.data(), *got))) return;
      }
    });
  }
}

// As many tasks as there are processors run an endless loop, and as many read from a pipe that
// never fills, once the server is known to answer.
void start_hogs(const config& c) {
  int fds[2];
  if (::pipe(fds) != 0) std::abort();
  for (long i = 0; i < c.workers; ++i) {
    weft::go([] {
      for (;;) asm volatile("");  // an empty loop would be undefined
    });
    weft::go([fd = fds[0]] {
      char byte;
      if (::read(fd, &byte, 1) != 0) std::abort();
    });
  }
}

void serve_http(const config& c) {
  weft::http::mux mux;
  std::atomic<bool> hogs_due{c.hogs};
  mux.handle("GET /", [&](weft::http::response_writer& response, weft::http::request&) {
    // A failed write means that the peer is gone, which the generator counts on its side.
    static_cast<void>(response.respond(200, "text/plain; charset=utf-8", "Hello, world!"));
    if (hogs_due.load(std::memory_order_relaxed) && hogs_due.exchange(false)) start_hogs(c);
  });
  weft::http::server server(mux);
  server.serve(listen(c));
}

// An ordinary thread outside the runtime, so that the last line comes even if the runtime is stuck.
void report_at_sigterm(const config& c) {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, nullptr);  // inherited by every thread started from here on
  std::thread([c, term] {
    int number = 0;
    sigwait(&term, &number);
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    std::printf("row=%s workers=%ld n=0 user_us=%ld system_us=%ld\n", c.row.c_str(), c.workers,
                used.ru_utime.tv_sec * 1'000'000 + used.ru_utime.tv_usec,
                used.ru_stime.tv_sec * 1'000'000 + used.ru_stime.tv_usec);
    std::fflush(stdout);
    std::_Exit(0);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  config c;
  c.row = argc > 1 ? argv[1] : "";
  if (c.row != "echo_server" && c.row != "http_server" && c.row != "freeze_server") {
    std::fprintf(
        stderr,
        "usage: %s echo_server|http_server|freeze_server [--workers=N] [--port=P] [--hogs=0|1]\n",
        argv[0]);
    return 2;
  }
  bench::args args(argc, argv, 2);
  c.workers = args.num("workers", 1, 1, 1024);
  c.port = args.num("port", 0, 0, 65535);
  c.hogs = args.num("hogs", 0, 0, 1) != 0;
  args.finish();
  report_at_sigterm(c);
  return weft::run(weft::options{.max_procs = static_cast<int>(c.workers)}, [&] {
    if (c.row == "echo_server") {
      serve_echo(c);
    } else {
      serve_http(c);
    }
    return 0;
  });
}
