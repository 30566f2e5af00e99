// One thread, one epoll set. A connection is registered once, edge-triggered, for both directions;
// one recv per edge, all the answers in it are counted, and as many new requests leave in one send.
//
// Phases: open (at most 128 handshakes in flight, so that the listen queue cannot overflow), warm
// up, measure, drain. Draining sends nothing and waits for every answer still due: one connection
// that a server forgot shows up as a time-out, however busy the others were. Clocks and CPU
// counters are read when measuring starts and ends; a request counts if its answer arrives in
// between.

#include "bench/load/generator.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <system_error>

#include "bench/common/process.h"
#include "bench/load/response.h"

namespace bench::load {
namespace {

constexpr std::size_t read_size = 64 * 1024;
constexpr int max_handshakes = 128;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

struct connection {
  int fd = -1;
  bool connected = false;
  bool counted_open = false;  // first connect of this slot has been reported
  int in_flight = 0;
  std::vector<std::uint64_t> sent_at;  // ring of send times of the requests in flight
  std::size_t oldest = 0;
  std::string input;       // part of an answer; empty in steady state
  std::size_t unsent = 0;  // bytes at the end of the last batch the socket did not take
};

class generator {
 public:
  explicit generator(const settings& s)
      : s_(s), connections_(static_cast<std::size_t>(s.connections)) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) fail("epoll_create1");
    if (s_.http) {
      request_ = "GET " + s_.path + " HTTP/1.1\r\nHost: " + s_.host + ":" +
                 std::to_string(s_.port) + "\r\n" +
                 (s_.short_connections ? "Connection: close\r\n" : "") + "\r\n";
    } else {
      for (std::size_t i = 0; i < s_.size; ++i) {
        request_ += static_cast<char>('a' + i % 23);
      }
    }
    for (int i = 0; i < s_.pipeline; ++i) batch_ += request_;
    for (auto& c : connections_) c.sent_at.resize(static_cast<std::size_t>(s_.pipeline));
  }

  generator(const generator&) = delete;
  generator& operator=(const generator&) = delete;

  ~generator() {
    for (auto& c : connections_) {
      if (c.fd >= 0) close(c.fd);
    }
    close(epoll_);
  }

  outcome run() {
    if (s_.hold) result_.server_bytes_before = resident_bytes(s_.server_pid);
    last_answer_ns_ = monotonic_ns();
    open_more();
    epoll_event events[256];
    while (!done_) {
      const int count = epoll_wait(epoll_, events, 256, 20);
      if (count < 0 && errno != EINTR) fail("epoll_wait");
      for (int i = 0; i < count && !done_; ++i) {
        on_event(connections_[events[i].data.u64], events[i].events);
      }
      advance(monotonic_ns());
    }
    if (s_.hold) {
      usleep(500'000);
      result_.server_bytes_after = resident_bytes(s_.server_pid);
    }
    return result_;
  }

 private:
  void open_more() {
    while (next_to_open_ < connections_.size() && handshakes_ < max_handshakes) {
      if (!open(connections_[next_to_open_])) ++opened_;  // a refused slot counts as dealt with
      ++next_to_open_;
    }
  }

  // Starts a handshake; false if the connection was refused at once (counted).
  bool open(connection& c) {
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c.fd < 0) fail("socket");
    const int one = 1;
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(s_.port));
    if (inet_pton(AF_INET, s_.host.c_str(), &address.sin_addr) != 1) {
      errno = EINVAL;
      fail("--host must be a dotted IPv4 address");
    }
    c.connected = false;
    c.in_flight = 0;
    c.oldest = 0;
    c.unsent = 0;
    c.input.clear();
    const std::uint64_t connect_started = monotonic_ns();
    if (connect(c.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 &&
        errno != EINPROGRESS) {
      if (errno == EADDRNOTAVAIL)
        fail("connect");  // no local port left: our limit, not the server's
      ++result_.errors.connect;
      close(c.fd);
      c.fd = -1;
      return false;
    }
    if (s_.short_connections) c.sent_at[0] = connect_started;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u64 = static_cast<std::uint64_t>(&c - connections_.data());
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &event) != 0) fail("epoll_ctl");
    ++handshakes_;
    return true;
  }

  void on_event(connection& c, std::uint32_t events) {
    if (c.fd < 0) return;  // closed earlier in the same batch
    if (!c.connected) {
      if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        drop(c, result_.errors.connect, 1);
        return;
      }
      if ((events & EPOLLOUT) == 0) return;
      c.connected = true;
      --handshakes_;
      note_open(c);
      send_requests(c, s_.pipeline);
      open_more();
      return;
    }
    if (c.unsent != 0 && (events & EPOLLOUT) != 0) flush(c);
    if (c.fd >= 0 && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
      receive(c, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
  }

  void note_open(connection& c) {
    if (c.counted_open) return;
    c.counted_open = true;
    ++opened_;
  }

  void send_requests(connection& c, int count) {
    if (count == 0 || draining_) return;
    const std::uint64_t now = monotonic_ns();
    for (int i = 0; i < count; ++i) {
      const auto slot = (c.oldest + static_cast<std::size_t>(c.in_flight + i)) % c.sent_at.size();
      if (!s_.short_connections) c.sent_at[slot] = now;
    }
    c.in_flight += count;
    in_flight_ += count;
    c.unsent += request_.size() * static_cast<std::size_t>(count);
    flush(c);
  }

  // Requests are all alike, so the bytes still to send are always a tail of the batch.
  void flush(connection& c) {
    while (c.unsent != 0) {
      const std::size_t phase = (batch_.size() - c.unsent % batch_.size()) % batch_.size();
      const std::size_t take = std::min(c.unsent, batch_.size() - phase);
      const ssize_t sent = send(c.fd, batch_.data() + phase, take, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EAGAIN) return;
        reconnect_after_fault(c);
        return;
      }
      c.unsent -= static_cast<std::size_t>(sent);
    }
  }

  void receive(connection& c, bool hung_up) {
    int answered = 0;
    for (;;) {
      const ssize_t got = recv(c.fd, buffer_.get(), read_size, 0);
      if (got < 0 && errno == EAGAIN) break;
      if (got <= 0) {
        end_of_stream(c);
        return;
      }
      const auto size = static_cast<std::size_t>(got);
      const int complete =
          s_.http ? take_http(c, {buffer_.get(), size}) : take_echo(c, {buffer_.get(), size});
      if (complete < 0) {
        reconnect(c);
        return;
      }
      answered += complete;
      if (size < read_size && !hung_up) break;
    }
    if (s_.hold) {
      held_ += static_cast<std::uint64_t>(answered);
    } else if (!s_.short_connections) {
      send_requests(c, answered);
    }
  }

  void end_of_stream(connection& c) {
    if (c.in_flight != 0) {
      reconnect_after_fault(c);
    } else {
      if (!s_.short_connections) ++result_.errors.closed;
      reconnect(c);
    }
  }

  // Consumes whole answers; returns how many, or -1 on a fault that makes the stream useless.
  int take_http(connection& c, std::string_view bytes) {
    std::string joined;
    if (!c.input.empty()) {
      joined = std::move(c.input) + std::string(bytes);
      c.input.clear();
      bytes = joined;
    }
    int answers = 0;
    while (!bytes.empty()) {
      using kind = response_end::kind;
      const response_end end = find_response_end(bytes);
      if (end.what == kind::incomplete) break;
      if (end.what == kind::bad_framing || c.in_flight == 0) {
        ++result_.errors.mismatch;
        return -1;
      }
      if (end.what == kind::bad_status) {
        ++result_.errors.status;
      } else if (result_.response_bytes == 0) {
        result_.response_bytes = end.size;
      } else if (result_.response_bytes != end.size) {
        ++result_.errors.mismatch;
      }
      bytes.remove_prefix(end.size);
      complete(c);
      ++answers;
    }
    c.input.assign(bytes);
    return answers;
  }

  int take_echo(connection& c, std::string_view bytes) {
    int answers = 0;
    std::size_t have = c.input.size();  // bytes of the current answer already checked
    result_.response_bytes = s_.size;
    while (!bytes.empty()) {
      const std::size_t take = std::min(bytes.size(), s_.size - have);
      if (c.in_flight == 0 || std::memcmp(bytes.data(), request_.data() + have, take) != 0) {
        ++result_.errors.mismatch;
        return -1;
      }
      have += take;
      bytes.remove_prefix(take);
      if (have == s_.size) {
        have = 0;
        complete(c);
        ++answers;
      }
    }
    c.input.assign(have, 'x');
    return answers;
  }

  void complete(connection& c) {
    const std::uint64_t now = monotonic_ns();
    last_answer_ns_ = now;
    if (measuring_) {
      result_.latency.add(now - c.sent_at[c.oldest]);
      ++result_.requests;
      if (s_.requests != 0 && result_.requests >= s_.requests) stop(now);
    }
    c.oldest = (c.oldest + 1) % c.sent_at.size();
    --c.in_flight;
    --in_flight_;
  }

  void reconnect_after_fault(connection& c) {
    result_.errors.closed += static_cast<std::uint64_t>(std::max(1, c.in_flight));
    reconnect(c);
  }

  void reconnect(connection& c) {
    close(c.fd);
    c.fd = -1;
    in_flight_ -= c.in_flight;
    c.in_flight = 0;
    if (!s_.hold && !draining_) open(c);
  }

  void drop(connection& c, std::uint64_t& counter, std::uint64_t by) {
    counter += by;
    --handshakes_;
    note_open(c);
    close(c.fd);
    c.fd = -1;
    open_more();
  }

  // Moves from opening to warm-up to measuring to draining to done.
  void advance(std::uint64_t now) {
    if (done_) return;
    const auto ns = [](double seconds) { return static_cast<std::uint64_t>(seconds * 1e9); };
    if (now - last_answer_ns_ > ns(s_.stall_seconds)) {
      // Nothing at all for so long. Without errors so far the silence itself is the fault.
      result_.errors.timeout += static_cast<std::uint64_t>(in_flight_ + handshakes_);
      if (result_.errors.total() == 0) ++result_.errors.timeout;
      stop(now);
      done_ = true;
    } else if (draining_) {
      done_ = in_flight_ == 0;
    } else if (s_.hold) {
      if (opened_ == connections_.size() && held_ + result_.errors.total() >= opened_) stop(now);
    } else if (!warming_) {
      if (opened_ == connections_.size()) {
        warming_ = true;
        phase_end_ns_ = now + ns(s_.warmup_seconds);
      }
    } else if (!measuring_) {
      if (now >= phase_end_ns_) start(now + ns(s_.seconds));
    } else if (s_.requests == 0 && now >= phase_end_ns_) {
      stop(now);
    }
  }

  void start(std::uint64_t end) {
    measuring_ = true;
    phase_end_ns_ = end;
    server_cpu_start_ = s_.server_pid > 0 ? process_cpu_ns(s_.server_pid) : 0;
    own_cpu_start_ = process_cpu_ns(0);
    started_ns_ = monotonic_ns();
  }

  void stop(std::uint64_t now) {
    draining_ = true;
    if (!measuring_) return;
    measuring_ = false;
    result_.seconds = static_cast<double>(now - started_ns_) / 1e9;
    result_.own_cpu_ns = process_cpu_ns(0) - own_cpu_start_;
    if (s_.server_pid > 0) {
      result_.server_cpu_ns = process_cpu_ns(s_.server_pid) - server_cpu_start_;
    }
  }

  const settings s_;
  int epoll_ = -1;
  std::vector<connection> connections_;
  std::string request_, batch_;
  std::unique_ptr<char[]> buffer_ = std::make_unique<char[]>(read_size);
  std::size_t next_to_open_ = 0;
  std::size_t opened_ = 0;
  int handshakes_ = 0;
  int in_flight_ = 0;
  std::uint64_t held_ = 0;
  bool warming_ = false, measuring_ = false, draining_ = false, done_ = false;
  std::uint64_t last_answer_ns_ = 0, started_ns_ = 0, phase_end_ns_ = 0;
  std::uint64_t server_cpu_start_ = 0, own_cpu_start_ = 0;
  outcome result_;
};

}  // namespace

outcome run(const settings& s) { return generator(s).run(); }

}  // namespace bench::load
