#pragma once
// What the tests of a connection share: handlers, a request that must or must not be served after
// others, and answers in short.
#include <string>
#include <vector>

#include "tests/unit/net/http_messages.h"
#include "tests/unit/net/memory_transport.h"

namespace weft::http::testing {

// Answers "METHOD path|body".
inline void echo(response_writer& w, request& r) {
  std::string body = r.read_all().value();
  w.write(r.method());
  w.write(" ");
  w.write(r.raw_path());
  w.write("|");
  w.write(body);
}

inline void hello(response_writer& w, request&) {
  w.header("Content-Type", "text/plain");
  w.write("hello\n");
}

inline const std::string sentinel = "GET /sentinel HTTP/1.1\r\nHost: s\r\n\r\n";

// Final answers only, each as one line: the same whatever interim answers were sent.
inline std::vector<std::string> summary(const world& w, const std::vector<bool>& heads = {}) {
  std::vector<std::string> out;
  for (const response& r : w.responses(heads)) {
    if (r.status < 200) continue;
    out.push_back(std::to_string(r.status) + " " + r.field("Connection") + " " +
                  (r.complete ? "" : "cut ") + r.body);
  }
  return out;
}

}  // namespace weft::http::testing
