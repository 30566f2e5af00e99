// The HTTP server: connections that are tasks only while they have something to do.
//
// Life       accept -> client (a few hundred bytes) armed with a starter -> bytes arrive -> the
// poller makes a
//            task of run() -> requests are served until the input is empty -> armed again, the task
//            ends.
// Ownership  The task owns the client while it runs, the armed starter does between; exactly one of
//            them exists [D1 of descriptor.cc]. The list refers to all clients; a client leaves
//            it, under the lock, before it dies, so whoever holds the lock may touch any of them.
// Deadline   While armed, the descriptor's read deadline is the connection's head or idle clock.
// When it
//            passes, the starter runs too, and run() sees that the time is over.
// Shutdown   As in Go, the listeners close first, each when its loop has taken the queue. Only then
//            does `stopping` end connections: whoever sees its own closed finds nobody to dial. A
//            client about to be armed sees `stopping` and goes on to close. One that missed it is
//            armed soon after: shutdown() nudges those that are idle, again and again until they
//            are gone.
// Not done   A parked task per idle connection: 8 KB each, and a cold stack page per wake. A lock
// or list
//            operation per request: states are per client, and stats() walks.
#include <sys/socket.h>
#include <weft/condition_variable.h>
#include <weft/http/server.h>
#include <weft/mutex.h>
#include <weft/task.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "net/descriptor.h"
#include "net/http/connection.h"
#include "net/http_blocks.h"
#include "net/sys.h"

namespace weft::http {
namespace {

using net::descriptor;
using net::direction;

constexpr int accepts_per_turn = 64;
constexpr std::chrono::milliseconds nudge_period{10};

constexpr std::string_view overloaded =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: 24\r\nConnection: close\r\nRetry-After: 1\r\n\r\ntoo many connections now";

// steady_clock by the scheduler's clock reading; the date is the system clock's.
class server_clock final : public detail::http_clock {
 public:
  time_point now() const override { return system_.now(); }
  void write_date(char* into) const override { system_.write_date(into); }

 private:
  detail::system_http_clock system_;
};

void yield_task() { this_task::yield(); }

}  // namespace

struct server::impl : std::enable_shared_from_this<server::impl> {
  enum class client_state : std::uint8_t {
    idle,    // armed, or about to be, with nothing of a request received
    head,    // the same with an incomplete head
    active,  // a task serves it
  };

  // One connection.
  struct client final : detail::transport {
    client(std::shared_ptr<impl> s, net::tcp_conn c, uintptr_t created_by)
        : owner(std::move(s)),
          conn(std::move(c)),
          remote(conn.remote_address().to_string()),
          http(*this, owner->env, owner->clock.now()) {
      wake.start = run;
      wake.arg = this;
      wake.created_by = created_by;
    }

    // -- transport
    result<std::size_t> read(std::span<char> into) override {
      result<std::size_t> n = conn.try_read(into);
      if (!n && n.error() == errc::eof) return std::size_t{0};
      return n;
    }
    result<std::size_t> read_now(std::span<char> into) override {
      result<std::size_t> n = conn.try_read_now(into);
      if (n) return n;
      if (n.error() == errc::eof) return std::size_t{0};
      // A deadline of an earlier wait says nothing about what is there already.
      if (n.error() == errc::deadline_exceeded) {
        conn.set_read_deadline({});
        return read_now(into);
      }
      return n;
    }
    result<void> write(std::span<const std::string_view> pieces) override {
      return conn.try_write(pieces);
    }
    bool hold() override { return !conn.handle()->enter(); }
    void release() override { conn.handle()->leave(); }
    std::size_t write_now(std::string_view bytes) noexcept override {
      const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
      const ssize_t n = net::sys::send(conn.handle()->fd(), &part, 1, MSG_DONTWAIT);
      return n > 0 ? static_cast<std::size_t>(n) : 0;
    }
    void set_read_deadline(time_point at) override { conn.set_read_deadline(at); }
    void set_write_deadline(time_point at) override { conn.set_write_deadline(at); }
    void shutdown_write() override { static_cast<void>(conn.try_shutdown_write()); }
    void close() override { conn.close(); }
    void reset() override { conn.reset(); }
    bool peer_closed() const override { return conn.peer_closed(); }
    bool watch_close(net::starter* s) override { return conn.handle()->watch_hang_up(s); }
    bool unwatch_close(net::starter* s) override { return conn.handle()->unwatch_hang_up(s); }
    std::string_view remote_address() const override { return remote; }

    // Serves until the connection is armed or gone; the client may not be touched afterwards.
    static void run(void* self) { static_cast<client*>(self)->serve_turn(); }

    void serve_turn() {
      state.store(client_state::active, std::memory_order_relaxed);
      for (;;) {
        if (serve_once() != detail::outcome::idle) {
          owner->remove(this);
          return;
        }
        conn.set_read_deadline(http.deadline());
        if (arm_or_go_on()) return;
        state.store(client_state::active, std::memory_order_relaxed);
      }
    }

    detail::outcome serve_once() {
      try {
        const bool late = conn.handle()->check(direction::in) == errc::deadline_exceeded &&
                          owner->clock.now() >= http.deadline();
        return late ? http.expire() : http.serve();
      } catch (const std::exception&) {
        // Out of memory before a request could begin: nothing can be answered.
        conn.reset();
        return detail::outcome::closed;
      }
    }

    // True if the starter took over, and the client may be gone; false if there is something to do
    // at once.
    bool arm_or_go_on() {
      const bool idle = http.is_idle();
      if (idle && owner->stopping.load(std::memory_order_relaxed)) return false;
      state.store(idle ? client_state::idle : client_state::head, std::memory_order_relaxed);
      return conn.handle()->arm(&wake);
    }

    std::shared_ptr<impl> owner;
    net::tcp_conn conn;
    net::starter wake;
    std::string remote;
    std::atomic<client_state> state{client_state::active};
    detail::connection http;
    client* previous = nullptr;  // list, under the server's lock
    client* next = nullptr;
  };

  impl(handler h, const server_options& o) : options(o), handle(std::move(h)) { options.check(); }

  void add(client* c) {
    std::lock_guard hold(lock);
    c->next = clients;
    if (clients != nullptr) clients->previous = c;
    clients = c;
    count.fetch_add(1, std::memory_order_relaxed);
  }

  void remove(client* c) {
    std::shared_ptr<impl> keep = c->owner;  // its death may end the server's state
    {
      std::lock_guard hold(lock);
      (c->previous != nullptr ? c->previous->next : clients) = c->next;
      if (c->next != nullptr) c->next->previous = c->previous;
    }
    delete c;
    std::lock_guard hold(lock);
    if (count.fetch_sub(1, std::memory_order_relaxed) == 1) changed.notify_all();
  }

  // Takes over an accepted connection. `at_once`: it may have to be served before its next edge.
  void start(net::tcp_conn conn, uintptr_t created_by, bool at_once) {
    accepted.fetch_add(1, std::memory_order_relaxed);
    if (options.max_connections != 0 &&
        count.load(std::memory_order_relaxed) >= options.max_connections) {
      turned_away.fetch_add(1, std::memory_order_relaxed);
      const iovec part{const_cast<char*>(overloaded.data()), overloaded.size()};
      net::sys::send(conn.handle()->fd(), &part, 1, MSG_DONTWAIT);
      static_cast<void>(conn.try_shutdown_write());
      return;
    }
    auto* c = new client(shared_from_this(), std::move(conn), created_by);
    add(c);
    if (at_once) {
      // Its request may be here already, without an edge to come.
      c->conn.handle()->set_ready(direction::in);
      go([c] { c->serve_turn(); });
      return;
    }
    c->conn.set_read_deadline(c->http.deadline());
    if (!c->arm_or_go_on()) go([c] { c->serve_turn(); });
  }

  // The accept loop. Returns when the listener is closed, by shutdown after its queue has been
  // taken.
  void accept_from(net::tcp_listener& listener, uintptr_t created_by) {
    for (int in_turn = 0;; ++in_turn) {
      if (in_turn == accepts_per_turn) {
        in_turn = 0;
        this_task::yield();
      }
      result<net::tcp_conn> conn = listener.try_accept();
      if (conn) {
        start(std::move(*conn), created_by, false);
        continue;
      }
      if (conn.error() == errc::deadline_exceeded) break;  // shutdown's way of waking this loop
      if (conn.error() == errc::closed) return;
      throw system_error(conn.error(), "accept on " + listener.local_address().to_string());
    }
    listener.set_deadline({});
    while (result<net::tcp_conn> conn = listener.try_accept_now())
      start(std::move(*conn), created_by, true);
  }

  server_options options;
  handler handle;
  detail::http_counters counters;
  server_clock clock;
  net::block_pool pool;
  std::atomic<bool> stopping{false};
  detail::environment env{options, handle, pool, clock, counters, stopping, yield_task};

  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> turned_away{0};
  std::atomic<std::uint64_t> count{0};  // clients

  mutable mutex lock;  // what follows
  condition_variable changed;
  client* clients = nullptr;
  std::vector<net::tcp_listener*> listeners;
  bool refusing = false;  // no listener is served any more
  bool closed = false;    // close() was called
  bool finished = false;  // shutdown() has seen the last connection go
};

server::server(handler h, const server_options& options)
    : impl_(std::make_shared<impl>(std::move(h), options)) {}

server::server(const mux& m, const server_options& options) : server(m.as_handler(), options) {}

server::~server() {
  close();
  std::unique_lock hold(impl_->lock);
  while (impl_->count.load(std::memory_order_relaxed) != 0 || !impl_->listeners.empty())
    impl_->changed.wait(hold);
}

void server::listen_and_serve(std::string_view address, const net::listen_options& options) {
  serve(net::listen("tcp", address, options));
}

void server::serve(net::tcp_listener listener) {
  std::shared_ptr<impl> s = impl_;
  {
    std::lock_guard hold(s->lock);
    if (s->refusing) return;
    s->listeners.push_back(&listener);
  }
  // Connections are shown as created by the caller of serve().
  const auto created_by = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  std::exception_ptr failure;
  try {
    s->accept_from(listener, created_by);
  } catch (...) {
    failure = std::current_exception();
  }
  listener.close();
  {
    std::unique_lock hold(s->lock);
    std::erase(s->listeners, &listener);
    s->changed.notify_all();
    if (!failure) s->changed.wait(hold, [&] { return s->closed || s->finished; });
  }
  if (failure) std::rethrow_exception(failure);
}

bool server::shutdown(std::chrono::steady_clock::time_point deadline) {
  constexpr std::chrono::steady_clock::time_point past{std::chrono::nanoseconds(1)};
  impl& s = *impl_;
  std::unique_lock hold(s.lock);
  s.refusing = true;
  for (net::tcp_listener* l : s.listeners) l->set_deadline(past);
  const bool drained = s.changed.wait_until(hold, deadline, [&s] { return s.listeners.empty(); });
  if (drained) s.stopping.store(true, std::memory_order_seq_cst);
  while (!drained || s.count.load(std::memory_order_relaxed) != 0) {
    for (impl::client* c = s.clients; c != nullptr; c = c->next) {
      if (c->state.load(std::memory_order_relaxed) == impl::client_state::idle)
        c->conn.handle()->nudge(direction::in);
    }
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      hold.unlock();
      close();
      return false;
    }
    s.changed.wait_until(hold, std::min(deadline, now + nudge_period));
  }
  s.finished = true;
  s.changed.notify_all();
  return true;
}

void server::close() {
  impl& s = *impl_;
  std::lock_guard hold(s.lock);
  s.refusing = true;
  s.closed = true;
  s.stopping.store(true, std::memory_order_seq_cst);
  s.changed.notify_all();
  for (net::tcp_listener* l : s.listeners) l->close();
  for (impl::client* c = s.clients; c != nullptr; c = c->next) c->conn.close();
}

std::vector<net::address> server::addresses() const {
  std::lock_guard hold(impl_->lock);
  std::vector<net::address> all;
  for (const net::tcp_listener* l : impl_->listeners) all.push_back(l->local_address());
  return all;
}

server_stats server::stats() const {
  const impl& s = *impl_;
  server_stats r;
  {
    std::lock_guard hold(s.lock);
    for (const impl::client* c = s.clients; c != nullptr; c = c->next) {
      const bool active = c->state.load(std::memory_order_relaxed) == impl::client_state::active;
      ++(active ? r.active : r.idle);
    }
  }
  r.accepted = s.accepted.load(std::memory_order_relaxed);
  r.turned_away = s.turned_away.load(std::memory_order_relaxed);
  r.requests = s.counters.requests.load(std::memory_order_relaxed);
  r.refused_heads = s.counters.refused_heads.load(std::memory_order_relaxed);
  r.limits_hit = s.counters.limits_hit.load(std::memory_order_relaxed);
  r.handler_exceptions = s.counters.handler_exceptions.load(std::memory_order_relaxed);
  r.broken_responses = s.counters.broken_responses.load(std::memory_order_relaxed);
  r.timeouts = s.counters.timeouts.load(std::memory_order_relaxed);
  return r;
}

}  // namespace weft::http
