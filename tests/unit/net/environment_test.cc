// Options are checked, and the date is that of now.
#include "net/http/environment.h"

#include <gtest/gtest.h>
#include <weft/http/server.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace weft::http {
namespace {

TEST(ServerOptions, CheckNamesTheOptionAndItsRange) {
  server_options o;
  o.check();
  o.max_head = 70000;
  try {
    o.check();
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(),
                 "weft::http::server_options::max_head is 70000, allowed are 64 to 65536");
  }
}

TEST(Date, KnownDays) {
  auto text = [](std::int64_t t) {
    char out[detail::date_length];
    detail::format_date(t, out);
    return std::string(out, detail::date_length);
  };
  EXPECT_EQ(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  EXPECT_EQ(text(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(text(951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
  EXPECT_EQ(text(4107542399), "Sun, 28 Feb 2100 23:59:59 GMT");
  EXPECT_EQ(text(4107542400), "Mon, 01 Mar 2100 00:00:00 GMT");
}

TEST(Date, ReadersNeverSeeATornDate) {
  detail::system_http_clock clock;
  std::atomic<int> torn{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        char now[detail::date_length];
        std::int64_t before = ::time(nullptr);
        clock.write_date(now);
        bool known = false;  // the coarse clock may lag the second by a tick
        for (std::int64_t s = before - 1; s <= ::time(nullptr) && !known; ++s) {
          char expected[detail::date_length];
          detail::format_date(s, expected);
          known = std::memcmp(now, expected, sizeof now) == 0;
        }
        if (!known) ++torn;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(torn.load(), 0);
}

}  // namespace
}  // namespace weft::http
