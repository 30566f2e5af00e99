// bench_boost_fiber freeze_server [--workers=N] [--hogs=0|1] [--port=P]: Boost.Fiber's side of the
// row `freeze`: worker threads under its work-stealing scheduler run a fiber per request.
//
// Sockets are served by plain threads outside of it, one per connection, that hand each request to
// a fiber and wait for its answer: so the row measures the scheduler, not what one builds around it
// for I/O. With --hogs=1 as many fibers as there are workers run an endless loop, and as many read
// from a pipe that never fills.

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <barrier>
#include <boost/fiber/algo/work_stealing.hpp>
#include <boost/fiber/buffered_channel.hpp>
#include <boost/fiber/fiber.hpp>
#include <boost/fiber/future.hpp>
#include <boost/fiber/operations.hpp>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <string>
#include <string_view>
#include <thread>

#include "bench/common/args.h"

namespace {

using requests = boost::fibers::buffered_channel<std::promise<std::string>*>;

constexpr std::string_view answer =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\n"
    "Hello, world!";

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

// The heads that bench_load sends have no bodies: each empty line ends a request.
void serve_connection(int fd, requests& queue) {
  std::string input;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) break;
    input.append(buffer, static_cast<std::size_t>(got));
    std::size_t end;
    while ((end = input.find("\r\n\r\n")) != std::string::npos) {
      input.erase(0, end + 4);
      std::promise<std::string> reply;
      auto text = reply.get_future();
      queue.push(&reply);
      const std::string out = text.get();
      if (::write(fd, out.data(), out.size()) < 0) break;
    }
  }
  ::close(fd);
}

void accept_on(int listener, requests& queue) {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) die("accept");
    std::thread(serve_connection, fd, std::ref(queue)).detach();
  }
}

int listen_on(long port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<std::uint16_t>(port));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&where), size) != 0 ||
      ::listen(fd, 128) != 0 || ::getsockname(fd, reinterpret_cast<sockaddr*>(&where), &size) != 0)
    die("listen");
  std::printf("ready port=%d\n", ntohs(where.sin_port));
  std::fflush(stdout);
  return fd;
}

void start_hogs(long workers) {
  int fds[2];
  if (::pipe(fds) != 0) die("pipe");
  for (long i = 0; i < workers; ++i) {
    boost::fibers::fiber([] {
      for (;;) asm volatile("");  // an empty loop would be undefined
    }).detach();
    boost::fibers::fiber([fd = fds[0]] {
      char c;
      if (::read(fd, &c, 1) != 0) die("the pipe never fills");
    }).detach();
  }
}

// The dispatcher fiber starts a fiber per request; idle workers steal them.
void dispatch(requests& queue, long workers, bool hogs) {
  bool first = true;
  std::promise<std::string>* next = nullptr;
  while (queue.pop(next) == boost::fibers::channel_op_status::success) {
    boost::fibers::fiber([next] { next->set_value(std::string(answer)); }).detach();
    // Not before the server is known to answer.
    if (first && hogs) start_hogs(workers);
    first = false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "freeze_server") {
    std::fprintf(stderr, "usage: %s freeze_server [--workers=N] [--hogs=0|1] [--port=P]\n",
                 argv[0]);
    return 2;
  }
  bench::args flags(argc, argv, 2);
  const long workers = flags.num("workers", 2, 1, 1024);
  const bool hogs = flags.num("hogs", 0, 0, 1) != 0;
  const long port = flags.num("port", 0, 0, 65535);
  flags.finish();
  static requests queue(1024);
  std::thread(accept_on, listen_on(port), std::ref(queue)).detach();
  static std::barrier all_there(workers);  // a worker must not steal before all have registered
  const auto join_scheduler = [workers] {
    boost::fibers::use_scheduling_algorithm<boost::fibers::algo::work_stealing>(
        static_cast<std::uint32_t>(workers), true);
    all_there.arrive_and_wait();
  };
  for (long i = 1; i < workers; ++i) {
    std::thread([=] {
      join_scheduler();
      boost::fibers::promise<void> never;
      never.get_future().wait();  // from here on this thread runs fibers
    }).detach();
  }
  join_scheduler();
  dispatch(queue, workers, hogs);
  return 0;
}
