// What one keep-alive request costs in countable things: allocations and calls of the transport. It
// replaces operator new for the program it is linked into.
#include <gtest/gtest.h>
#include <weft/http/mux.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/unit/net/memory_transport.h"

namespace {
std::atomic<std::size_t> allocations{0};
}

// Not inlined: gcc would see free() on the result of new and warn of a mismatch.
[[gnu::noinline]] void* operator new(std::size_t n) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(n != 0 ? n : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(n != 0 ? n : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace weft::http {
namespace {

// Offers the same request for as long as asked and counts calls instead of keeping bytes.
class loop_transport final : public detail::transport {
 public:
  std::string_view request;
  int rounds = 0;
  int reads = 0, waits = 0, writes = 0;
  std::size_t written = 0;

  result<std::size_t> read_now(std::span<char> into) override {
    if (!ready_ || rounds == 0) {
      ++waits;
      return detail::would_block_error();
    }
    --rounds;
    ++reads;
    ready_ = false;
    return request.copy(into.data(), into.size());
  }
  result<std::size_t> read(std::span<char>) override { return make_error_code(errc::closed); }
  result<void> write(std::span<const std::string_view> pieces) override {
    ++writes;
    for (std::string_view p : pieces) written += p.size();
    return {};
  }
  void set_read_deadline(time_point) override {}
  void set_write_deadline(time_point) override {}
  void shutdown_write() override {}
  void close() override {}
  void make_ready() { ready_ = true; }

 private:
  bool ready_ = false;
};

TEST(ConnectionCost, HelloAllocatesNothingAndTakesOneReadAndOneWrite) {
  mux m;
  m.handle("GET /hello/{name}", [](response_writer& w, request& r) {
    w.header("Content-Type", "text/plain; charset=utf-8");
    w.write("hello ");
    w.write(r.path_value("name"));
  });
  testing::fake_clock clock;
  loop_transport t;
  t.request =
      "GET /hello/world?x=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test/1.0\r\n"
      "Accept: */*\r\nX-Unknown-Header: value\r\n\r\n";
  server_options options;
  handler h = m.as_handler();
  detail::locked_buffer_pool pool;
  detail::http_counters counters;
  std::atomic<bool> stopping{false};
  detail::environment env{options, h, pool, clock, counters, stopping};
  detail::connection c(t, env, clock.now());
  auto one = [&] {
    t.rounds = 1;
    t.make_ready();
    return c.serve();
  };
  ASSERT_EQ(one(), detail::outcome::idle);  // the pool gets its blocks here
  const std::size_t size = t.written;
  ASSERT_GT(size, 100u);

  t.reads = t.writes = t.waits = 0;
  const std::size_t before = allocations;
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(one(), detail::outcome::idle);
  EXPECT_EQ(allocations - before, 0u);
  EXPECT_EQ(t.reads, 1000);
  EXPECT_EQ(t.writes, 1000);
  EXPECT_EQ(t.waits, 1000);  // each answered by the transport without a system call
  EXPECT_EQ(t.written, size * 1001);
  EXPECT_EQ(counters.requests.load(), 1001u);
}

}  // namespace
}  // namespace weft::http
