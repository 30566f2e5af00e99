#include "examples/load/report.h"

#include <unistd.h>
#include <weft/task.h>
#include <weft/time.h>

#include <boost/json.hpp>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace load {
namespace {

constexpr std::pair<const char*, double> percentiles[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99_9", 0.999}, {"max", 1.0}};

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

double milliseconds(example::nanoseconds d) { return static_cast<double>(d.count()) / 1e6; }

double seconds_of(std::chrono::nanoseconds d) { return static_cast<double>(d.count()) / 1e9; }

std::string progress_line(double at, const example::latency_counts& interval, double length,
                          uint64_t errors) {
  return format("%6.0f s %9.0f req/s   p50 %7.2f ms   p99 %7.2f ms   max %7.2f ms   errors %llu",
                at, static_cast<double>(interval.count()) / length,
                milliseconds(interval.percentile(0.5)), milliseconds(interval.percentile(0.99)),
                milliseconds(interval.percentile(1)), static_cast<unsigned long long>(errors));
}

}  // namespace

void show_progress(const weft::context& ctx, const options& o, const results& r) {
  bool terminal = isatty(STDERR_FILENO) != 0;
  if (o.show == progress::never || (o.show == progress::automatic && !terminal)) return;

  auto start = weft::now(), last = start;
  totals before;
  while (weft::this_task::sleep_until(ctx, last + std::chrono::seconds(1))) {
    auto now = weft::now();
    totals seen = r.sum();
    std::string line = progress_line(seconds_of(now - start), seen.all.since(before.all),
                                     seconds_of(now - last), seen.errors());
    std::fprintf(stderr, terminal ? "\r\033[K%s" : "%s\n", line.c_str());
    std::fflush(stderr);
    before = std::move(seen);
    last = now;
  }
  if (terminal) std::fputc('\n', stderr);
}

std::string text_summary(const options& o, const totals& t, const run_summary& run) {
  double elapsed = seconds_of(run.elapsed);
  std::string text = format("%llu requests in %.1f s over %u connections: %.0f req/s\n",
                            static_cast<unsigned long long>(t.answered()), elapsed, o.connections,
                            static_cast<double>(t.answered()) / elapsed);
  text +=
      "latency in ms      count       mean        p50        p90        p99      p99.9        "
      "max\n";
  auto row = [&](const char* name, const example::latency_counts& l) {
    text += format("  %-12s %9llu %10.2f", name, static_cast<unsigned long long>(l.count()),
                   milliseconds(l.mean()));
    for (auto [label, p] : percentiles) text += format(" %10.2f", milliseconds(l.percentile(p)));
    text += "\n";
  };
  for (size_t kind = 0; kind < kind_count; ++kind) {
    if (t.latency[kind].count() > 0) row(kind_names[kind], t.latency[kind]);
  }
  row("all", t.all);
  text += format(
      "errors: %llu (not 2xx/3xx %llu, timeouts %llu, broken connections %llu, malformed %llu)\n",
      static_cast<unsigned long long>(t.errors()), static_cast<unsigned long long>(t.bad_status),
      static_cast<unsigned long long>(t.timeouts), static_cast<unsigned long long>(t.broken),
      static_cast<unsigned long long>(t.malformed));
  if (o.rate > 0) {
    text += format("rate: %.0f asked for; %llu requests were due but could not be sent in time\n",
                   o.rate, static_cast<unsigned long long>(run.unsent));
  }
  return text;
}

std::string json_summary(const options& o, const totals& t, const run_summary& run) {
  auto latency = [](const example::latency_counts& l) {
    boost::json::object row{{"count", l.count()}, {"mean_ms", milliseconds(l.mean())}};
    for (auto [label, p] : percentiles) {
      row[std::string(label) + "_ms"] = milliseconds(l.percentile(p));
    }
    return row;
  };
  boost::json::object by_kind;
  for (size_t kind = 0; kind < kind_count; ++kind)
    by_kind[kind_names[kind]] = latency(t.latency[kind]);
  boost::json::value document = {
      {"connections", o.connections},
      {"seconds", seconds_of(run.elapsed)},
      {"requests", t.answered()},
      {"requests_per_second", static_cast<double>(t.answered()) / seconds_of(run.elapsed)},
      {"errors",
       {{"total", t.errors()},
        {"status", t.bad_status},
        {"timeout", t.timeouts},
        {"broken", t.broken},
        {"malformed", t.malformed}}},
      {"unsent", run.unsent},
      {"latency", latency(t.all)},
      {"latency_by_kind", std::move(by_kind)}};
  return boost::json::serialize(document) + "\n";
}

}  // namespace load
