// load http|echo --port=N [...]: drives bench::load::run and prints its figures on one line.
// Exit code: 0 = ran (errors are in the line), 2 = bad arguments, 1 = the machine refused.

#include <sys/resource.h>

#include <cstdio>
#include <string>
#include <system_error>

#include "bench/common/args.h"
#include "bench/load/generator.h"

namespace {

bench::load::settings parse(const std::string& mode, bench::args& args) {
  bench::load::settings s;
  s.http = mode == "http";
  s.host = args.str("host", s.host);
  s.port = static_cast<int>(args.num("port", 0, 1, 65535));
  s.connections = static_cast<int>(args.num("connections", s.connections, 1, 1'000'000));
  s.pipeline = static_cast<int>(args.num("pipeline", s.pipeline, 1, 1024));
  s.short_connections = args.num("short", 0, 0, 1) != 0;
  s.hold = args.num("hold", 0, 0, 1) != 0;
  s.size = static_cast<std::size_t>(args.num("size", static_cast<long>(s.size), 1, 1 << 20));
  s.path = args.str("path", s.path);
  s.warmup_seconds = static_cast<double>(args.num("warmup-ms", 500, 0, 600'000)) / 1e3;
  s.seconds = static_cast<double>(args.num("ms", 3000, 1, 3'600'000)) / 1e3;
  s.requests = static_cast<std::uint64_t>(args.num("requests", 0, 0, 1'000'000'000'000));
  s.stall_seconds = static_cast<double>(args.num("stall-ms", 5000, 1, 600'000)) / 1e3;
  s.server_pid = static_cast<int>(args.num("server-pid", 0, 0, 1 << 30));
  args.finish();
  if (s.short_connections && (!s.http || s.pipeline != 1)) {
    args.fail("--short needs mode http and --pipeline=1");
  }
  if (s.hold && (s.short_connections || s.pipeline != 1 || s.server_pid == 0)) {
    args.fail("--hold needs --server-pid and --pipeline=1, and excludes --short");
  }
  return s;
}

// Raises the descriptor limit to what the connections need, as far as the hard limit allows.
void allow_descriptors(const bench::load::settings& s) {
  rlimit limit{};
  const auto need = static_cast<rlim_t>(s.connections) + 64;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) return;
  limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
  setrlimit(RLIMIT_NOFILE, &limit);
}

double us(std::uint64_t ns) { return static_cast<double>(ns) / 1e3; }

void print(const std::string& mode, const bench::load::settings& s, const bench::load::outcome& o) {
  const auto& e = o.errors;
  const double requests = o.requests == 0 ? 1 : static_cast<double>(o.requests);
  std::printf("mode=%s connections=%d pipeline=%d seconds=%.3f requests=%llu rps=%.0f ",
              mode.c_str(), s.connections, s.pipeline, o.seconds,
              static_cast<unsigned long long>(o.requests),
              o.seconds > 0 ? static_cast<double>(o.requests) / o.seconds : 0);
  std::printf("p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f ", us(o.latency.quantile(0.5)),
              us(o.latency.quantile(0.99)), us(o.latency.quantile(0.999)), us(o.latency.max()));
  if (s.server_pid != 0 && !s.hold) {
    std::printf("server_cpu_us=%.3f ", us(o.server_cpu_ns) / requests);
  }
  if (s.hold) {
    std::printf("server_bytes_per_conn=%.0f ", (static_cast<double>(o.server_bytes_after) -
                                                static_cast<double>(o.server_bytes_before)) /
                                                   s.connections);
  }
  std::printf("load_cpu_us=%.3f load_busy=%.2f response_bytes=%llu ", us(o.own_cpu_ns) / requests,
              o.seconds > 0 ? static_cast<double>(o.own_cpu_ns) / 1e9 / o.seconds : 0,
              static_cast<unsigned long long>(o.response_bytes));
  std::printf(
      "errors=%llu connect=%llu closed=%llu status=%llu mismatch=%llu timeout=%llu\n",
      static_cast<unsigned long long>(e.total()), static_cast<unsigned long long>(e.connect),
      static_cast<unsigned long long>(e.closed), static_cast<unsigned long long>(e.status),
      static_cast<unsigned long long>(e.mismatch), static_cast<unsigned long long>(e.timeout));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode != "http" && mode != "echo") {
    std::fprintf(stderr,
                 "usage: %s http|echo --port=N [--host=A.B.C.D] [--connections=64] [--pipeline=1]\n"
                 "  [--path=/] [--size=64] [--short] [--hold] [--warmup-ms=500] [--ms=3000]\n"
                 "  [--requests=N] [--stall-ms=5000] [--server-pid=PID]\n",
                 argv[0]);
    return 2;
  }
  bench::args args(argc, argv, 2);
  const auto settings = parse(mode, args);
  allow_descriptors(settings);
  try {
    print(mode, settings, bench::load::run(settings));
  } catch (const std::system_error& e) {
    std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
    return 1;
  }
  return 0;
}
