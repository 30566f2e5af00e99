#include "examples/shortlink/timing.h"

#include <chrono>
#include <cstdio>
#include <exception>
#include <utility>

#include "examples/shortlink/replies.h"
#include "examples/shortlink/validate.h"

namespace shortlink {

using std::chrono::steady_clock;
using weft::http::request;
using weft::http::response_writer;

weft::http::handler timing::wrap(std::string pattern, weft::http::handler inner) {
  auto e = std::make_shared<endpoint>();
  e->labels = weft::labels{{"route", pattern}};
  e->pattern = std::move(pattern);
  endpoints_.push_back(e);
  return [e, inner = std::move(inner)](response_writer& w, request& r) { e->serve(inner, w, r); };
}

void timing::endpoint::serve(const weft::http::handler& inner, response_writer& w, request& r) {
  auto start = steady_clock::now();
  try {
    weft::with_labels(labels, [&] { inner(w, r); });
  } catch (const http_error& error) {
    if (!w.head_sent()) reply_error(w, error.status(), error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "shortlink: %s: %s\n", pattern.c_str(), error.what());
    if (!w.head_sent()) reply_error(w, 500, "internal error");
  }
  latency.record(steady_clock::now() - start);
  if (w.status() >= 500) {
    failed.fetch_add(1, std::memory_order_relaxed);
  } else if (w.status() >= 400) {
    rejected.fetch_add(1, std::memory_order_relaxed);
  }
}

std::vector<timing::row> timing::rows() const {
  std::vector<row> rows;
  for (const auto& e : endpoints_) {
    rows.push_back({e->pattern, e->rejected.load(std::memory_order_relaxed),
                    e->failed.load(std::memory_order_relaxed), e->latency.snapshot()});
  }
  return rows;
}

}  // namespace shortlink
