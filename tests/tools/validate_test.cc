// What shortlink accepts: the limits to the byte. api_test.py asks the same through HTTP, for the
// answers.
#include "examples/shortlink/validate.h"

#include <gtest/gtest.h>

#include <string>

namespace shortlink {
namespace {

// The message of the http_error 400 that f() throws, "" if it throws none.
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const http_error& error) {
    EXPECT_EQ(error.status(), 400);
    return error.what();
  }
  return "";
}

std::string url_refusal(const std::string& url) {
  return refusal([&] { check_url(url); });
}
std::string code_refusal(const std::string& code) {
  return refusal([&] { check_code(code); });
}

TEST(Validate, UrlLengthToTheByte) {
  std::string prefix = "https://example.com/";
  EXPECT_EQ(url_refusal(prefix + std::string(max_url_length - prefix.size(), 'x')), "");
  EXPECT_EQ(url_refusal(prefix + std::string(max_url_length - prefix.size() + 1, 'x')),
            "url has 2049 bytes, at most 2048 are allowed");
}

TEST(Validate, UrlBytes) {
  for (int byte = 0; byte < 256; ++byte) {
    bool good = byte > 0x20 && byte < 0x7f;
    std::string url = std::string("https://example.com/") + static_cast<char>(byte);
    EXPECT_EQ(url_refusal(url).empty(), good) << byte;
  }
}

TEST(Validate, UrlSchemesAndHosts) {
  for (const char* good :
       {"http://a", "HTTPS://a", "https://a:80/", "https://u:p@a/", "http://[::1]/"}) {
    EXPECT_EQ(url_refusal(good), "") << good;
  }
  for (const char* bad :
       {"", "a", "//a", "http:/a", "http:a", "://a", "file:///etc/passwd", "http://", "http:///x",
        "http://?a", "http://#a", "http://@/", "http://:80"}) {
    EXPECT_NE(url_refusal(bad), "") << bad;
  }
}

TEST(Validate, CodeLengthAndAlphabet) {
  EXPECT_NE(code_refusal("ab"), "");
  EXPECT_EQ(code_refusal("abc"), "");
  EXPECT_EQ(code_refusal(std::string(32, 'x')), "");
  EXPECT_NE(code_refusal(std::string(33, 'x')), "");
  for (int byte = 0; byte < 256; ++byte) {
    char c = static_cast<char>(byte);
    bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                c == '-' || c == '_';
    EXPECT_EQ(code_refusal(std::string("ab") + c).empty(), good) << byte;
  }
  EXPECT_EQ(code_refusal("healthz"), "code 'healthz' is reserved");
}

TEST(Validate, RandomCodesAreAcceptedAndDiffer) {
  std::string previous;
  for (int i = 0; i < 1000; ++i) {
    std::string code = random_code();
    EXPECT_EQ(code.size(), 7u);
    EXPECT_EQ(code_refusal(code), "") << code;
    EXPECT_NE(code, previous);
    previous = code;
  }
}

TEST(Validate, Json) {
  link_request r = parse_json(R"({"code": "abc", "url": "https://e.com/\u00e9"})");
  EXPECT_EQ(r.code, "abc");
  EXPECT_EQ(r.url, "https://e.com/\u00e9");
  for (const char* bad : {"", "{", "7", "null", "\"url\"", R"({"url": null})", R"({"url": "a"} x)",
                          R"({"URL": "a"})", "{\"url\": \"\xff\"}"}) {
    EXPECT_NE(refusal([&] { parse_json(bad); }), "") << bad;
  }
  // Deep nesting must be an error and not the end of the stack.
  EXPECT_NE(refusal([] { parse_json(std::string(5000, '[')); }), "");
}

TEST(Validate, HtmlEscapes) {
  EXPECT_EQ(escape_html("<a b=\"'&\">"), "&lt;a b=&quot;&#39;&amp;&quot;&gt;");
}

}  // namespace
}  // namespace shortlink
