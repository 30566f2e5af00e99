#pragma once
// Messages every HTTP/1.1 test shares: forms that must be refused, with the status they earn, and
// forms that must be accepted. The families follow the published smuggling, compliance and
// malformed-input collections; each row says which rule it breaks.
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace weft::http::testing {

enum class where { head, body };

// A message after which the connection must be closed and nothing more be read as a request.
struct hostile_message {
  const char* id;
  std::string bytes;
  int status;
  where seen = where::head;  // body: the head is fine, the reader of the body meets the fault
};

struct good_message {
  const char* id;
  std::string bytes;  // exactly one request
  const char* method;
  const char* path;  // as sent, without query
  std::string body;  // decoded
  bool keep_alive = true;
};

// A string literal with its NUL bytes.
template <std::size_t N>
std::string raw(const char (&text)[N]) {
  return std::string(text, N - 1);
}

inline std::string get(std::string_view fields, std::string_view line = "GET / HTTP/1.1") {
  return std::string(line) + "\r\n" + std::string(fields) + "\r\n";
}
inline std::string post(std::string_view fields, std::string_view body = "") {
  return "POST / HTTP/1.1\r\nHost: h\r\n" + std::string(fields) + "\r\n" + std::string(body);
}
inline std::string line(std::string_view request_line) {
  return std::string(request_line) + "\r\nHost: h\r\n\r\n";
}
inline std::string chunked(std::string_view body) {
  return post("Transfer-Encoding: chunked\r\n", body);
}

inline std::vector<hostile_message> hostile_messages() {
  using std::string;
  std::vector<hostile_message> t;
  auto head = [&t](const char* id, string bytes, int status = 400) {
    t.push_back({id, std::move(bytes), status, where::head});
  };
  auto body = [&t](const char* id, string bytes, int status = 400) {
    t.push_back({id, std::move(bytes), status, where::body});
  };
  const string host = "Host: h\r\n";

  // Line ends.
  head("line-lf-only", "GET / HTTP/1.1\nHost: h\n\n");
  head("request-line-lf", "GET / HTTP/1.1\nHost: h\r\n\r\n");
  head("field-lf", "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n");
  head("final-lf", "GET / HTTP/1.1\r\nHost: h\r\n\n");
  head("bare-cr-in-line", "GET / HTTP/1.1\rHost: h\r\n\r\n");
  head("bare-cr-in-value", get(host + "X: a\rb\r\n"));
  head("cr-cr-lf", "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n");
  head("field-cr-cr-lf", get("Host: h\r\r\n"));
  head("two-leading-empty-lines", "\r\n\r\n" + get(host));
  head("leading-lf", "\n" + get(host));
  head("leading-cr", "\rGET / HTTP/1.1\r\nHost: h\r\n\r\n");
  head("leading-space", " " + get(host));
  head("leading-tab", "\t" + get(host));

  // Request line.
  head("double-space-1", line("GET  / HTTP/1.1"));
  head("double-space-2", line("GET /  HTTP/1.1"));
  head("trailing-space", line("GET / HTTP/1.1 "));
  head("tab-separator-1", line("GET\t/ HTTP/1.1"));
  head("tab-separator-2", line("GET /\tHTTP/1.1"));
  head("space-in-target", line("GET /a b HTTP/1.1"));
  head("no-version", line("GET /"));
  head("no-target", line("GET"));
  head("no-target-space", line("GET "));
  head("only-version", line("GET HTTP/1.1"));
  head("http09", "GET /\r\n\r\n");
  head("empty-method", line(" / HTTP/1.1"));
  head("method-bracket", line("G[T / HTTP/1.1"));
  head("method-colon", line("GET: / HTTP/1.1"));
  head("method-slash", line("GE/T / HTTP/1.1"));
  head("method-at", line("G@T / HTTP/1.1"));
  head("method-quote", line("\"GET\" / HTTP/1.1"));
  head("method-comma", line("GET,POST / HTTP/1.1"));
  head("method-high-byte", line("G\xc9T / HTTP/1.1"));
  head("method-nul", raw("G\0ET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  head("method-too-long", line(string(33, 'A') + " / HTTP/1.1"), 501);
  head("connect", line("CONNECT h:443 HTTP/1.1"), 501);
  head("connect-origin-form", line("CONNECT / HTTP/1.1"), 501);
  head("asterisk-get", line("GET * HTTP/1.1"));
  head("asterisk-path", line("OPTIONS *a HTTP/1.1"));
  head("relative-target", line("GET index.html HTTP/1.1"));
  head("authority-target", line("GET h:80 HTTP/1.1"));
  head("foreign-scheme", line("GET ftp://h/ HTTP/1.1"));
  head("scheme-no-host", line("GET http:///a HTTP/1.1"));
  head("scheme-only", line("GET http:// HTTP/1.1"));
  head("userinfo", line("GET http://u:p@h/ HTTP/1.1"));
  head("absolute-bad-port", line("GET http://h:99999/ HTTP/1.1"));
  head("fragment", line("GET /a#b HTTP/1.1"));
  head("fragment-absolute", line("GET http://h#b HTTP/1.1"));
  head("target-nul", raw("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n"));
  head("target-del", line("GET /\x7f HTTP/1.1"));
  head("target-control", line("GET /\x01 HTTP/1.1"));
  head("target-vertical-tab", line("GET /\x0b HTTP/1.1"));
  head("target-high-byte", line("GET /\xc3\xa9 HTTP/1.1"));
  head("percent-short", line("GET /% HTTP/1.1"));
  head("percent-one-digit", line("GET /%4 HTTP/1.1"));
  head("percent-bad-digit", line("GET /%4g HTTP/1.1"));
  head("percent-nul", line("GET /a%00b HTTP/1.1"));

  // Versions.
  head("http-2.0", line("GET / HTTP/2.0"), 505);
  head("http-1.2", line("GET / HTTP/1.2"), 505);
  head("http-0.9", line("GET / HTTP/0.9"), 505);
  head("http-9.9", line("GET / HTTP/9.9"), 505);
  head("http2-preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
  head("version-lower", line("GET / http/1.1"));
  head("version-mixed", line("GET / Http/1.1"));
  head("version-no-minor", line("GET / HTTP/1"));
  head("version-long-minor", line("GET / HTTP/1.10"));
  head("version-leading-zero", line("GET / HTTP/01.1"));
  head("version-comma", line("GET / HTTP/1,1"));
  head("version-letters", line("GET / HTTP/a.b"));
  head("version-other-name", line("GET / HTTQ/1.1"));
  head("version-https", line("GET / HTTPS/1.1"));
  head("version-no-slash", line("GET / HTTP1.1"));

  // Field syntax.
  head("space-before-colon", get("Host : h\r\n"));
  head("tab-before-colon", get("Host\t: h\r\n"));
  head("space-in-name", get(host + "X Y: z\r\n"));
  head("fold-space", get(host + "X: a\r\n b\r\n"));
  head("fold-tab", get(host + "X: a\r\n\tb\r\n"));
  head("fold-first-line", get(" X: a\r\n" + host));
  head("fold-blank-line", get(host + " \r\n"));
  head("fold-framing", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"));
  head("empty-name", get(host + ": v\r\n"));
  head("no-colon", get(host + "X\r\n"));
  head("name-bracket", get(host + "X[: v\r\n"));
  head("name-slash", get(host + "X/Y: v\r\n"));
  head("name-paren", get(host + "X(Y): v\r\n"));
  head("name-quote", get(host + "\"X\": v\r\n"));
  head("name-equals", get(host + "X=Y: v\r\n"));
  head("name-at", get(host + "X@: v\r\n"));
  head("name-high-byte", get(host + "X\xc3\xa9: v\r\n"));
  head("name-nul", raw("GET / HTTP/1.1\r\nHost: h\r\nX\0: v\r\n\r\n"));
  head("name-control", get(host + "X\x01: v\r\n"));
  head("name-del", get(host + "X\x7f: v\r\n"));
  head("value-nul", raw("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n"));
  head("value-control", get(host + "X: a\x01"
                                   "b\r\n"));
  head("value-escape", get(host + "X: a\x1b[0m\r\n"));
  head("value-del", get(host + "X: a\x7f\r\n"));
  head("value-vertical-tab", get(host + "X: a\x0b\r\n"));
  head("value-form-feed", get(host + "X: a\x0c\r\n"));
  head("value-backspace", get(host + "X: a\x08\r\n"));
  head("tls-client-hello", raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"));
  head("ssh-banner", "SSH-2.0-OpenSSH_9.2\r\n");
  head("response-as-request", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");

  // Host.
  head("host-missing", get("X: y\r\n"));
  head("host-missing-no-fields", get(""));
  head("host-missing-absolute", "GET http://h/ HTTP/1.1\r\n\r\n");
  head("host-empty", get("Host:\r\n"));
  head("host-blank", get("Host:   \r\n"));
  head("host-twice", get(host + "Host: i\r\n"));
  head("host-twice-equal", get(host + host));
  head("host-twice-case", get(host + "hOsT: h\r\n"));
  head("host-list", get("Host: a, b\r\n"));
  head("host-comma", get("Host: a,b\r\n"));
  head("host-space", get("Host: a b\r\n"));
  head("host-slash", get("Host: h/path\r\n"));
  head("host-scheme", get("Host: http://h\r\n"));
  head("host-userinfo", get("Host: u@h\r\n"));
  head("host-query", get("Host: h?x\r\n"));
  head("host-fragment", get("Host: h#x\r\n"));
  head("host-backslash", get("Host: h\\x\r\n"));
  head("host-bad-port", get("Host: h:port\r\n"));
  head("host-port-sign", get("Host: h:-1\r\n"));
  head("host-port-range", get("Host: h:65536\r\n"));
  head("host-two-ports", get("Host: h:80:81\r\n"));
  head("host-only-port", get("Host: :80\r\n"));
  head("host-open-bracket", get("Host: [::1\r\n"));
  head("host-bracket-name", get("Host: [name]\r\n"));
  head("host-after-bracket", get("Host: [::1]x\r\n"));
  head("host-bad-percent", get("Host: a%zz\r\n"));
  head("host-high-byte", get("Host: h\xc3\xa9\r\n"));
  head("host-10-twice", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
  head("host-10-bad", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n");

  // Content-Length.
  head("length-empty", post("Content-Length:\r\n"));
  head("length-plus", post("Content-Length: +5\r\n", "hello"));
  head("length-minus", post("Content-Length: -5\r\n", "hello"));
  head("length-minus-zero", post("Content-Length: -0\r\n"));
  head("length-hex", post("Content-Length: 0x5\r\n", "hello"));
  head("length-octal-prefix", post("Content-Length: 0o5\r\n", "hello"));
  head("length-float", post("Content-Length: 5.0\r\n", "hello"));
  head("length-exponent", post("Content-Length: 1e1\r\n", "helloworld"));
  head("length-underscore", post("Content-Length: 1_0\r\n", "helloworld"));
  head("length-space", post("Content-Length: 1 0\r\n", "helloworld"));
  head("length-letters", post("Content-Length: five\r\n", "hello"));
  head("length-suffix", post("Content-Length: 5a\r\n", "hello"));
  head("length-comma", post("Content-Length: 5,\r\n", "hello"));
  head("length-list-equal", post("Content-Length: 5, 5\r\n", "hello"));
  head("length-list-different", post("Content-Length: 5, 6\r\n", "hello"));
  head("length-semicolon", post("Content-Length: 5;x\r\n", "hello"));
  head("length-quoted", post("Content-Length: \"5\"\r\n", "hello"));
  head("length-overflow-64", post("Content-Length: 18446744073709551621\r\n", "hello"));
  head("length-19-digits", post("Content-Length: 1000000000000000000\r\n", "hello"));
  head("length-many-zeros", post("Content-Length: 0000000000000000005\r\n", "hello"));
  head("length-unicode-digit", post("Content-Length: \xef\xbc\x95\r\n", "hello"));
  head("length-twice-equal", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"));
  head("length-twice-different", post("Content-Length: 5\r\nContent-Length: 0\r\n", "hello"));
  head("length-twice-case", post("Content-Length: 5\r\ncontent-length: 5\r\n", "hello"));
  head("length-name-space", post("Content-Length : 5\r\n", "hello"));
  head("length-name-fold", post("X: y\r\n Content-Length: 5\r\n", "hello"));

  // Transfer-Encoding.
  const string last = "0\r\n\r\n";
  head("both-te-first", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", last));
  head("both-length-first", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", last));
  head("both-length-zero", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", last));
  head("both-gzip", post("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", "hello"));
  head("both-identity", post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"));
  head("te-twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", last));
  head("te-twice-identity",
       post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", last));
  head("te-list-twice", post("Transfer-Encoding: chunked, chunked\r\n", last));
  head("te-chunked-gzip", post("Transfer-Encoding: chunked, gzip\r\n", last));
  head("te-gzip-chunked", post("Transfer-Encoding: gzip, chunked\r\n", last));
  head("te-identity-chunked", post("Transfer-Encoding: identity, chunked\r\n", last));
  head("te-gzip", post("Transfer-Encoding: gzip\r\n", last), 501);
  head("te-identity", post("Transfer-Encoding: identity\r\n", last), 501);
  head("te-xchunked", post("Transfer-Encoding: xchunked\r\n", last), 501);
  head("te-chunkedx", post("Transfer-Encoding: chunkedx\r\n", last), 501);
  head("te-chunk", post("Transfer-Encoding: chunk\r\n", last), 501);
  head("te-empty", post("Transfer-Encoding:\r\n", last));
  head("te-leading-comma", post("Transfer-Encoding: ,chunked\r\n", last));
  head("te-trailing-comma", post("Transfer-Encoding: chunked,\r\n", last));
  head("te-quoted", post("Transfer-Encoding: \"chunked\"\r\n", last));
  head("te-parameter", post("Transfer-Encoding: chunked;q=1\r\n", last));
  head("te-inner-space", post("Transfer-Encoding: chun ked\r\n", last));
  head("te-vertical-tab", post("Transfer-Encoding: \x0b"
                               "chunked\r\n",
                               last));
  head("te-nul",
       raw("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n"));
  head("te-bare-lf-hidden", post("X: y\nTransfer-Encoding: chunked\r\n", last));
  head("te-bare-cr-hidden", post("X: y\rTransfer-Encoding: chunked\r\n", last));
  head("te-name-space", post("Transfer-Encoding : chunked\r\n", last));
  head("te-name-tab", post("Transfer-Encoding\t: chunked\r\n", last));
  head("te-name-leading-space", post(" Transfer-Encoding: chunked\r\n", last));
  head("te-high-byte", post("Transfer-Encoding: \xa0"
                            "chunked\r\n",
                            last));
  head("te-http10", "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + last);
  head("te-http10-length",
       "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + last);

  // Expectations.
  head("expect-unknown", post("Expect: 200-ok\r\nContent-Length: 0\r\n"), 417);
  head("expect-twice",
       post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n"));

  // Limits.
  head("target-8k", line("GET /" + string(8192, 'a') + " HTTP/1.1"), 414);
  head("target-endless", "GET /" + string(9000, 'a'), 414);
  head("method-endless", string(9000, 'A'), 414);
  head("field-16k", get(host + "X: " + string(16384, 'a') + "\r\n"), 431);
  head("field-endless", "GET / HTTP/1.1\r\nX: " + string(17000, 'a'), 431);
  head("name-endless", "GET / HTTP/1.1\r\n" + string(17000, 'a'), 431);
  {
    string many, big;
    for (int i = 0; i < 101; ++i) many += "X" + std::to_string(i) + ": y\r\n";
    head("fields-101", get(host + many), 431);
    for (int i = 0; i < 5; ++i) big += "X: " + string(14000, 'a') + "\r\n";
    head("head-64k", get(host + big), 431);
  }

  // Chunked bodies.
  body("chunk-size-0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-plus", chunked("+5\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-minus", chunked("-5\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-leading-space", chunked(" 5\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-trailing-space", chunked("5 \r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-trailing-tab", chunked("5\t\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-empty", chunked("\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-letters", chunked("xyz\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-17-digits", chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-overflow", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-comma", chunked("5,5\r\nhello\r\n0\r\n\r\n"));
  body("chunk-size-lf", chunked("5\nhello\r\n0\r\n\r\n"));
  body("chunk-size-cr", chunked("5\rhello\r\n0\r\n\r\n"));
  body("chunk-size-nul", post("Transfer-Encoding: chunked\r\n", raw("5\0\r\nhello\r\n0\r\n\r\n")));
  body("chunk-data-long", chunked("5\r\nhelloX\r\n0\r\n\r\n"));
  body("chunk-data-no-crlf", chunked("5\r\nhello0\r\n\r\n"));
  body("chunk-data-lf", chunked("5\r\nhello\n0\r\n\r\n"));
  body("chunk-data-cr", chunked("5\r\nhello\r0\r\n\r\n"));
  body("chunk-data-cr-other", chunked("5\r\nhello\rX0\r\n\r\n"));
  body("chunk-data-other-lf", chunked("5\r\nhelloX\n0\r\n\r\n"));
  body("last-chunk-cr-other", chunked("5\r\nhello\r\n0\rX\r\n"));
  body("last-chunk-final-cr-other", chunked("5\r\nhello\r\n0\r\n\rX"));
  body("trailer-cr-other", chunked("0\r\nX: y\rZ\r\n"));
  body("chunk-data-two-crlf", chunked("5\r\nhello\r\n\r\n0\r\n\r\n"));
  body("chunk-ext-lf", chunked("5;a\nhello\r\n0\r\n\r\n"));
  body("chunk-ext-cr", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"));
  body("chunk-ext-control", chunked("5;a\x01\r\nhello\r\n0\r\n\r\n"));
  body("chunk-ext-space-before", chunked("5 ;a=b\r\nhello\r\n0\r\n\r\n"));
  body("chunk-ext-long", chunked("5;" + string(256, 'a') + "\r\nhello\r\n0\r\n\r\n"));
  body("last-chunk-lf", chunked("5\r\nhello\r\n0\n\r\n"));
  body("last-chunk-final-lf", chunked("5\r\nhello\r\n0\r\n\n"));
  body("last-chunk-cr", chunked("5\r\nhello\r\n0\r\n\rX"));
  body("trailer-space-before-colon", chunked("0\r\nX : y\r\n\r\n"));
  body("trailer-fold", chunked("0\r\nX: y\r\n z\r\n\r\n"));
  body("trailer-no-colon", chunked("0\r\nX\r\n\r\n"));
  body("trailer-lf", chunked("0\r\nX: y\n\r\n"));
  body("trailer-control", chunked("0\r\nX: \x01\r\n\r\n"));
  body("trailer-empty-name", chunked("0\r\n: y\r\n\r\n"));
  body("trailer-is-request", chunked("0\r\nGET /stolen HTTP/1.1\r\nHost: h\r\n\r\n"));
  body("trailers-long", chunked("0\r\nX: " + string(16384, 'a') + "\r\n\r\n"), 431);
  {
    string many;
    for (int i = 0; i < 101; ++i) many += "X: y\r\n";
    body("trailers-101", chunked("0\r\n" + many + "\r\n"), 431);
    string tiny;
    const string extension(250, 'x');
    for (int i = 0; i < 1000; ++i) tiny += "1;" + extension + "\r\na\r\n";
    body("chunk-overhead", chunked(tiny + "0\r\n\r\n"));
  }
  return t;
}

inline std::vector<good_message> good_messages() {
  using std::string;
  std::vector<good_message> t;
  auto add = [&t](const char* id, string bytes, const char* method, const char* path,
                  string body = "", bool keep_alive = true) {
    t.push_back({id, std::move(bytes), method, path, std::move(body), keep_alive});
  };
  add("plain", get("Host: h\r\n"), "GET", "/");
  add("leading-empty-line", "\r\n" + get("Host: h\r\n"), "GET", "/");
  add("no-space-after-colon", get("Host:h\r\n"), "GET", "/");
  add("value-white-space", get("Host: \t h \t \r\n"), "GET", "/");
  add("empty-value", get("Host: h\r\nX:\r\n"), "GET", "/");
  add("value-tab-inside", get("Host: h\r\nX: a\tb\r\n"), "GET", "/");
  add("value-high-bytes", get("Host: h\r\nX: caf\xc3\xa9 \xff\r\n"), "GET", "/");
  add("name-all-tchars", get("Host: h\r\n!#$%&'*+-.^_`|~09azAZ: v\r\n"), "GET", "/");
  add("name-case", get("hOST: h\r\n"), "GET", "/");
  add("host-port", get("Host: example.com:8080\r\n"), "GET", "/");
  add("host-empty-port", get("Host: example.com:\r\n"), "GET", "/");
  add("host-v4", get("Host: 127.0.0.1:80\r\n"), "GET", "/");
  add("host-v6", get("Host: [::1]:80\r\n"), "GET", "/");
  add("host-v6-mapped", get("Host: [::ffff:1.2.3.4]\r\n"), "GET", "/");
  add("host-underscore", get("Host: a_b\r\n"), "GET", "/");
  add("host-percent", get("Host: a%20b\r\n"), "GET", "/");
  add("query", line("GET /a?b=c&d=%20?/ HTTP/1.1"), "GET", "/a");
  add("empty-query", line("GET /a? HTTP/1.1"), "GET", "/a");
  add("target-punctuation", line("GET /a;b,c=d|{}\\^\"<>`[]~!$&'()*+:@ HTTP/1.1"), "GET",
      "/a;b,c=d|{}\\^\"<>`[]~!$&'()*+:@");
  add("percent", line("GET /a%2Fb%c3%a9 HTTP/1.1"), "GET", "/a%2Fb%c3%a9");
  add("double-slash", line("GET //a//b HTTP/1.1"), "GET", "//a//b");
  add("long-target", line("GET /" + string(8000, 'a') + " HTTP/1.1"), "GET", nullptr);
  add("absolute", line("GET http://other:81/a?b HTTP/1.1"), "GET", "/a");
  add("absolute-no-path", line("GET http://other HTTP/1.1"), "GET", "");
  add("absolute-query", line("GET HTTPS://other?b HTTP/1.1"), "GET", "");
  add("asterisk", line("OPTIONS * HTTP/1.1"), "OPTIONS", "");
  add("other-method", line("PROPFIND /a HTTP/1.1"), "PROPFIND", "/a");
  add("odd-method", line("M-SEARCH! /a HTTP/1.1"), "M-SEARCH!", "/a");
  add("lower-method", line("get / HTTP/1.1"), "get", "/");
  add("close", get("Host: h\r\nConnection: close\r\n"), "GET", "/", "", false);
  add("close-list", get("Host: h\r\nConnection: x, Close\r\n"), "GET", "/", "", false);
  add("http10", "GET / HTTP/1.0\r\n\r\n", "GET", "/", "", false);
  add("http10-keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET", "/");
  add("http10-length", "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", "POST", "/", "hello",
      false);
  add("length", post("Content-Length: 5\r\n", "hello"), "POST", "/", "hello");
  add("length-zero", post("Content-Length: 0\r\n"), "POST", "/");
  add("length-leading-zeros", post("Content-Length: 005\r\n", "hello"), "POST", "/", "hello");
  add("length-on-get", get("Host: h\r\nContent-Length: 5\r\n") + "hello", "GET", "/", "hello");
  add("post-no-length", post(""), "POST", "/");
  add("body-looks-like-request", post("Content-Length: 18\r\n", "GET /x HTTP/1.1\r\n\r"), "POST",
      "/", "GET /x HTTP/1.1\r\n\r");
  add("chunked", chunked("5\r\nhello\r\n0\r\n\r\n"), "POST", "/", "hello");
  add("chunked-case", post("Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"), "POST",
      "/", "hello");
  add("chunked-two", chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), "POST", "/", "hello world");
  add("chunked-empty", chunked("0\r\n\r\n"), "POST", "/");
  add("chunked-hex", chunked("A\r\n0123456789\r\nb\r\n0123456789a\r\n00\r\n\r\n"), "POST", "/",
      "01234567890123456789a");
  add("chunked-16-digits", chunked("0000000000000005\r\nhello\r\n0\r\n\r\n"), "POST", "/", "hello");
  add("chunked-extension", chunked("5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n"), "POST", "/", "hello");
  add("chunked-trailer", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"), "POST", "/",
      "hello");
  add("chunked-crlf-data", chunked("4\r\n\r\n\r\n\r\n0\r\n\r\n"), "POST", "/", "\r\n\r\n");
  add("expect-100", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), "POST", "/",
      "hello");
  add("expect-100-no-body", get("Host: h\r\nExpect: 100-continue\r\n"), "GET", "/");
  {
    string many;
    for (int i = 0; i < 99; ++i) many += "X-" + std::to_string(i) + ": y\r\n";
    add("fields-100", get("Host: h\r\n" + many), "GET", "/");
    add("field-16k", get("Host: h\r\nX: " + string(16381, 'a') + "\r\n"), "GET", "/");
    string big;
    for (int i = 0; i < 4; ++i) big += "X: " + string(16000, 'a') + "\r\n";
    add("head-near-64k", get("Host: h\r\n" + big), "GET", "/");
  }
  return t;
}

}  // namespace weft::http::testing
