// The head parser against the tables of http_messages.h, plus what only the parser can show:
// resumption, offsets, limits at their edges, the vector loops.
#include "net/http/parse_head.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "net/http/ascii.h"
#include "net/http/scan.h"
#include "tests/unit/net/http_messages.h"

namespace weft::http::detail {
namespace {

using testing::get;
using testing::good_messages;
using testing::hostile_messages;
using testing::line;
using testing::post;
using testing::where;

const head_limits defaults;

parse_result parse_whole(std::string_view bytes, head& h, const head_limits& limits = defaults) {
  h.reset();
  return parse_head(bytes, h, limits);
}

// Feeds one more byte per call, each time from a fresh copy so that a kept pointer would show.
parse_result parse_dribbled(std::string_view bytes, head& h) {
  h.reset();
  parse_result r{parse_state::need_more};
  // Long messages in larger steps beyond 4 KB, or copying them would take the time of the whole
  // test.
  for (std::size_t n = 1; n <= bytes.size() && r.state == parse_state::need_more;
       n += n < 4096 ? 1 : std::min<std::size_t>(509, std::max<std::size_t>(bytes.size() - n, 1))) {
    auto copy = std::make_unique<char[]>(n);
    std::copy_n(bytes.data(), n, copy.get());
    r = parse_head({copy.get(), n}, h, defaults);
  }
  return r;
}

TEST(ParseHead, RefusesEveryHostileHeadWithItsStatus) {
  int heads = 0;
  for (const auto& m : hostile_messages()) {
    SCOPED_TRACE(m.id);
    head h;
    parse_result r = parse_whole(m.bytes, h);
    if (m.seen == where::body) {
      EXPECT_EQ(r.state, parse_state::complete) << (r.reason ? r.reason : "");
      continue;
    }
    ++heads;
    ASSERT_EQ(r.state, parse_state::error);
    EXPECT_EQ(r.status, m.status) << r.reason;
    ASSERT_NE(r.reason, nullptr);
    EXPECT_GT(std::string_view(r.reason).size(), 10u);
  }
  EXPECT_GE(heads, 120);
}

TEST(ParseHead, VerdictOnHostileHeadsDoesNotDependOnHowBytesArrive) {
  for (const auto& m : hostile_messages()) {
    if (m.seen == where::body) continue;
    SCOPED_TRACE(m.id);
    head a, b;
    parse_result whole = parse_whole(m.bytes, a);
    parse_result slow = parse_dribbled(m.bytes, b);
    EXPECT_EQ(whole.state, slow.state);
    EXPECT_EQ(whole.status, slow.status);
    EXPECT_STREQ(whole.reason, slow.reason);
  }
}

TEST(ParseHead, AcceptsGoodMessages) {
  for (const auto& m : good_messages()) {
    SCOPED_TRACE(m.id);
    head h;
    parse_result r = parse_whole(m.bytes, h);
    ASSERT_EQ(r.state, parse_state::complete) << r.reason;
    EXPECT_EQ(h.method.of(m.bytes), m.method);
    if (m.path != nullptr) {
      EXPECT_EQ(h.path.of(m.bytes), m.path);
    }
    EXPECT_EQ(h.keep_alive, m.keep_alive);
    std::size_t end = m.bytes.find("\r\n\r\n", 1) + 4;
    EXPECT_EQ(h.size, end);
    EXPECT_EQ(h.framing != body_framing::none, end != m.bytes.size());

    head slow;
    ASSERT_EQ(parse_dribbled(m.bytes.substr(0, h.size), slow).state, parse_state::complete);
    EXPECT_EQ(slow.size, h.size);
    ASSERT_EQ(slow.field_count, h.field_count);
    for (unsigned i = 0; i < h.field_count; ++i) {
      EXPECT_EQ(slow.fields[i].name.of(m.bytes), h.fields[i].name.of(m.bytes));
      EXPECT_EQ(slow.fields[i].value.of(m.bytes), h.fields[i].value.of(m.bytes));
    }
  }
}

TEST(ParseHead, EveryProperPrefixOfAGoodHeadNeedsMore) {
  std::string bytes = "\r\n" + get("Host: example.com\r\nAccept: */*\r\nX-Y: z\r\n");
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    head h;
    EXPECT_EQ(parse_whole(std::string_view(bytes).substr(0, n), h).state, parse_state::need_more)
        << n;
  }
}

TEST(ParseHead, ScanNeverGoesBack) {
  std::string bytes = get("Host: example.com\r\nX: " + std::string(500, 'a') + "\r\n");
  head h;
  std::uint32_t before = 0;
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    ASSERT_EQ(parse_head(std::string_view(bytes).substr(0, n), h, defaults).state,
              parse_state::need_more);
    EXPECT_GE(h.scanned, before);
    EXPECT_GE(h.scanned + 3, n);  // at most an open CR LF is looked at again
    before = h.scanned;
  }
}

TEST(ParseHead, ViewsAndFraming) {
  std::string bytes =
      "POST http://a.example:8080/p%20q/r?x=1 HTTP/1.1\r\nHost: b.example\r\n"
      "Content-Length: 123456789012345678\r\nExpect: 100-Continue\r\n"
      "Connection: Upgrade, keep-alive\r\nX-Thing:  v w  \r\n\r\nbody";
  head h;
  ASSERT_EQ(parse_whole(bytes, h).state, parse_state::complete);
  EXPECT_EQ(h.target.of(bytes), "http://a.example:8080/p%20q/r?x=1");
  EXPECT_EQ(h.path.of(bytes), "/p%20q/r");
  EXPECT_EQ(h.query.of(bytes), "x=1");
  EXPECT_TRUE(h.has_query);
  EXPECT_TRUE(h.path_has_percent);
  EXPECT_EQ(h.host.of(bytes), "a.example:8080");  // the target's authority wins over Host
  EXPECT_EQ(h.form, target_form::absolute);
  EXPECT_EQ(h.method_known, method_id::post);
  EXPECT_EQ(h.framing, body_framing::length);
  EXPECT_EQ(h.content_length, 123456789012345678u);
  EXPECT_TRUE(h.expect_continue);
  EXPECT_TRUE(h.upgrade);
  EXPECT_EQ(h.fields[4].name.of(bytes), "X-Thing");
  EXPECT_EQ(h.fields[4].value.of(bytes), "v w");
  EXPECT_EQ(h.size, bytes.size() - 4);
}

TEST(ParseHead, LimitsAtTheirEdges) {
  head h;
  head_limits limits;
  std::string fits = "GET /" + std::string(8192 - 14, 'a') + " HTTP/1.1";
  ASSERT_EQ(fits.size(), 8192u);
  EXPECT_EQ(parse_whole(line(fits), h).state, parse_state::complete);
  fits.insert(5, "a");
  EXPECT_EQ(parse_whole(line(fits), h).status, 414);

  std::string field = "X: " + std::string(16381, 'a');
  EXPECT_EQ(parse_whole(get("Host: h\r\n" + field + "\r\n"), h).state, parse_state::complete);
  EXPECT_EQ(parse_whole(get("Host: h\r\n" + field + "a\r\n"), h).status, 431);

  limits.fields = 3;
  EXPECT_EQ(parse_whole(get("Host: h\r\nA: 1\r\nB: 2\r\n"), h, limits).state,
            parse_state::complete);
  EXPECT_EQ(parse_whole(get("Host: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n"), h, limits).status, 431);

  std::string small = get("Host: h\r\n");
  limits.head = static_cast<std::uint32_t>(small.size());
  EXPECT_EQ(parse_whole(small, h, limits).state, parse_state::complete);
  limits.head -= 1;
  EXPECT_EQ(parse_whole(small, h, limits).status, 431);
  // What follows a head that fills the limit exactly belongs to the next message.
  limits.head += 1;
  EXPECT_EQ(parse_whole(small + small, h, limits).state, parse_state::complete);
}

TEST(ParseHead, HighBytesInTheTargetOnlyByOption) {
  std::string bytes = line("GET /caf\xc3\xa9 HTTP/1.1");
  head h;
  EXPECT_EQ(parse_whole(bytes, h).status, 400);
  head_limits limits;
  limits.allow_high_target = true;
  EXPECT_EQ(parse_whole(bytes, h, limits).state, parse_state::complete);
  EXPECT_EQ(parse_whole(line("GET /\x80\x7f HTTP/1.1"), h, limits).status, 400);
}

TEST(ParseHead, SecondMessageIsNotLookedAt) {
  std::string bytes = get("Host: h\r\n");
  head h;
  ASSERT_EQ(parse_whole(bytes + std::string("\0\n\r garbage", 12), h).state, parse_state::complete);
  EXPECT_EQ(h.size, bytes.size());
}

TEST(ParseHead, EveryByteInEveryPlace) {
  // One byte replaced everywhere: the parser may accept or refuse, but a forbidden byte never
  // becomes part of a view.
  std::string good = "GET /path?q HTTP/1.1\r\nHost: h\r\nName: value\r\n\r\n";
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (unsigned c = 0; c < 256; ++c) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(c);
      head h;
      parse_result r = parse_whole(bytes, h);
      if (r.state != parse_state::complete) continue;
      EXPECT_TRUE(is_token(h.method.of(bytes)));
      for (char b : h.target.of(bytes)) EXPECT_TRUE(is_class(b, class_target));
      for (unsigned i = 0; i < h.field_count; ++i) {
        EXPECT_TRUE(is_token(h.fields[i].name.of(bytes)));
        for (char b : h.fields[i].value.of(bytes)) EXPECT_TRUE(is_value_byte(b));
      }
    }
  }
}

TEST(ParseHead, VectorLoopAgreesWithThePortableOne) {
  std::mt19937 random(20250101);
  for (int round = 0; round < 20000; ++round) {
    std::string s(random() % 70, '\0');
    for (char& c : s) c = static_cast<char>(random() % 4 != 0 ? 0x21 + random() % 94 : random());
    const char* end = s.data() + s.size();
    ASSERT_EQ(skip_value_bytes(s.data(), end), skip_value_bytes_portable(s.data(), end));
  }
  for (unsigned c = 0; c < 256; ++c) {
    std::string s(16, static_cast<char>(c));
    EXPECT_EQ(skip_value_bytes(s.data(), s.data() + 16) == s.data() + 16,
              is_value_byte(static_cast<char>(c)));
  }
}

TEST(HeaderNames, EveryKnownNameIsFoundInAnyCase) {
  int count = 0;
#define WEFT_HTTP_CHECK(id, text)                              \
  EXPECT_EQ(find_known_header(text), known_header::id);        \
  EXPECT_EQ(find_known_header(text "x"), known_header::other); \
  ++count;
  WEFT_HTTP_KNOWN_HEADERS(WEFT_HTTP_CHECK)
#undef WEFT_HTTP_CHECK
  EXPECT_EQ(find_known_header("CONTENT-length"), known_header::content_length);
  EXPECT_EQ(find_known_header(""), known_header::other);
  EXPECT_GE(count, 40);
}

}  // namespace
}  // namespace weft::http::detail
