#include "net/http/chunked.h"

#include <gtest/gtest.h>

#include "tests/unit/net/http_messages.h"

namespace weft::http::detail {
namespace {

struct decoded {
  chunk_decoder::status state = chunk_decoder::status::need_more;
  std::string data;
  std::string trailers;
  std::size_t consumed = 0;
  int status = 0;
};

// Decodes `input` handed over in pieces of the given size.
decoded decode(std::string_view input, std::size_t piece, const chunk_limits& limits = {}) {
  chunk_decoder d(limits);
  decoded out;
  while (out.consumed < input.size()) {
    std::string_view part = input.substr(out.consumed, piece);
    auto s = d.step(part);
    out.data.append(part.substr(s.data_offset, s.data_length));
    out.consumed += s.consumed;
    out.state = s.state;
    if (s.state == chunk_decoder::status::done || s.state == chunk_decoder::status::error) break;
  }
  out.trailers = d.trailers();
  out.status = d.error_status();
  return out;
}

std::string body_of(const std::string& message) {
  return message.substr(message.find("\r\n\r\n") + 4);
}

TEST(Chunked, DecodesTheSameHoweverCut) {
  std::string input =
      "5\r\nhello\r\n1;ext=\"v\"\r\n \r\n000A\r\n0123456789\r\n0\r\nX-A: 1\r\nContent-Length: 9\r\n"
      "x-b:2\r\n\r\nGET /next";
  for (std::size_t piece = 1; piece <= input.size(); ++piece) {
    decoded d = decode(input, piece);
    ASSERT_EQ(d.state, chunk_decoder::status::done) << piece;
    EXPECT_EQ(d.data, "hello 0123456789");
    EXPECT_EQ(d.trailers, "X-A: 1\nx-b: 2\n");  // Content-Length has no say any more
    EXPECT_EQ(input.substr(d.consumed), "GET /next");
  }
}

TEST(Chunked, RefusesHostileBodiesHoweverCut) {
  int bodies = 0;
  for (const auto& m : testing::hostile_messages()) {
    if (m.seen != testing::where::body) continue;
    SCOPED_TRACE(m.id);
    ++bodies;
    std::string input = body_of(m.bytes);
    for (std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{7}, input.size()}) {
      decoded d = decode(input, piece);
      EXPECT_EQ(d.state, chunk_decoder::status::error);
      EXPECT_EQ(d.status, m.status);
    }
  }
  EXPECT_GE(bodies, 35);
}

TEST(Chunked, StaysInErrorAndNamesTheReason) {
  chunk_decoder d;
  EXPECT_EQ(d.step("zz").state, chunk_decoder::status::error);
  EXPECT_STREQ(d.reason(), "chunk size is not a hexadecimal number");
  auto again = d.step("5\r\nhello\r\n");
  EXPECT_EQ(again.state, chunk_decoder::status::error);
  EXPECT_EQ(again.consumed, 0u);
}

TEST(Chunked, TakesNothingAfterTheEnd) {
  chunk_decoder d;
  auto s = d.step("0\r\n\r\n0\r\n\r\n");
  EXPECT_EQ(s.state, chunk_decoder::status::done);
  EXPECT_EQ(s.consumed, 5u);
  EXPECT_EQ(d.step("more").consumed, 0u);
  EXPECT_TRUE(d.done());
}

TEST(Chunked, ExtensionLimitAtItsEdge) {
  EXPECT_EQ(decode("1;" + std::string(255, 'a') + "\r\nx\r\n0\r\n\r\n", 100).state,
            chunk_decoder::status::done);
  EXPECT_EQ(decode("1;" + std::string(256, 'a') + "\r\nx\r\n0\r\n\r\n", 100).state,
            chunk_decoder::status::error);
}

TEST(Chunked, TinyChunksPassTinyChunksWithPaddingDoNot) {
  std::string honest, padded;
  for (int i = 0; i < 100000; ++i) honest += "1\r\na\r\n";
  honest += "0\r\n\r\n";
  decoded d = decode(honest, 4096);
  EXPECT_EQ(d.state, chunk_decoder::status::done);
  EXPECT_EQ(d.data.size(), 100000u);

  for (int i = 0; i < 100000; ++i) padded += "1;" + std::string(20, 'x') + "\r\na\r\n";
  d = decode(padded, 4096);
  EXPECT_EQ(d.state, chunk_decoder::status::error);
  EXPECT_LT(d.consumed, 110000u);  // given up soon after the free allowance of 100 KB
}

TEST(Chunked, HugeSizeIsJustAChunkThatNeverEnds) {
  chunk_decoder d;
  std::string_view input = "FFFFFFFFFFFFFFFF\r\nabc";
  auto s = d.step(input);
  EXPECT_EQ(s.state, chunk_decoder::status::data);
  EXPECT_EQ(input.substr(s.data_offset, s.data_length), "abc");
  EXPECT_EQ(d.step("").state, chunk_decoder::status::need_more);
}

}  // namespace
}  // namespace weft::http::detail
