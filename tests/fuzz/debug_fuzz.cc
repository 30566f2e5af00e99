// Fuzz target for the debug endpoints: what follows /debug/pprof/ in a request, which is a
// profile's name, a query, or neither; and a form. The client leaves at once, so that no input
// waits for the interval that it asks for. Oracles: no sanitizer report, no input that hangs,
// answers that are strict HTTP with a status that the endpoints document, errors in the form that
// Go's tools show.
//
// With clang:   -fsanitize=fuzzer,address -DWEFT_FUZZ_LIBFUZZER
// Elsewhere the main() below makes and mutates queries:
//   debug_fuzz [iterations [seed]]     prints the seed; the same pair replays the same run
#include <weft/debug/debug.h>
#include <weft/http/mux.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/net/memory_transport.h"

namespace {

using weft::http::testing::world;

const weft::http::mux& endpoints() {
  static const weft::http::mux* const m = [] {
    auto* made = new weft::http::mux;
    weft::debug::handle(*made);
    return made;
  }();
  return *m;
}

void check_one(const std::string& method, const std::string& target, const std::string& body) {
  world w(endpoints().as_handler());
  w.transport.eof_at_end = true;
  w.transport.peer_gone = true;
  std::string request = method + " /debug/pprof/" + target + " HTTP/1.1\r\nHost: x\r\n";
  if (!body.empty()) {
    request += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n";
  }
  w.run({request + "\r\n" + body});
  if (w.pool.lent() != 0) throw std::logic_error("a block was not given back");
  std::vector<weft::http::testing::response> all;
  try {
    all = w.responses({method == "HEAD"});
  } catch (const std::exception&) {  // a target that was refused before its method mattered
    all = w.responses({false});
  }
  if (all.empty()) throw std::logic_error("no answer");
  const auto& r = all.front();
  // What every interval ends with here: the client has left.
  if (r.status == 500 && (method == "HEAD" || r.body == "context canceled\n")) return;
  switch (r.status) {
    case 200:
    case 301:  // to the clean form of a path
    case 400:
    case 404:
    case 405:
    case 414:
    case 431:
      break;
    default:
      throw std::logic_error("status " + std::to_string(r.status));
  }
  const bool of_profiles = r.status == 404 || r.status == 405;
  if (of_profiles && r.has("X-Go-Pprof") && r.field("Content-Type") != "text/plain; charset=utf-8")
    throw std::logic_error("an error that Go's tools would not show");
  if (r.status == 200 && r.field("X-Content-Type-Options") != "nosniff")
    throw std::logic_error("an answer whose type may be guessed");
}

// Bytes that end a request line would make another request of it, which is http_fuzz's business.
std::string one_target(std::string_view bytes) {
  std::string out;
  for (char c : bytes) {
    if (c != '\r' && c != '\n' && c != ' ' && c != '\0') out += c;
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr const char* methods[] = {"GET", "POST", "HEAD", "DELETE"};
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(data[i]);
  // The first byte chooses the method, what follows a newline is the form.
  const std::string method = methods[bytes.empty() ? 0 : static_cast<unsigned char>(bytes[0]) % 4];
  const std::string_view rest = std::string_view(bytes).substr(bytes.empty() ? 0 : 1);
  const std::size_t line = rest.find('\n');
  const std::string target = one_target(rest.substr(0, line));
  const std::string body =
      method == "POST" && line != rest.npos ? std::string(rest.substr(line + 1)) : "";
  try {
    check_one(method, target, body);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "debug_fuzz: %s on %s ", e.what(), method.c_str());
    for (char c : target + "\n" + body) {
      const bool plain = c > 0x20 && c < 0x7f;
      std::fprintf(stderr, plain ? "%c" : "\\x%02x", static_cast<unsigned char>(c));
    }
    std::fprintf(stderr, "\n");
    std::abort();
  }
  return 0;
}

#ifndef WEFT_FUZZ_LIBFUZZER
namespace {

std::string pick(std::mt19937_64& random, const std::vector<std::string>& from) {
  return from[random() % from.size()];
}

std::string make_query(std::mt19937_64& random) {
  static const std::vector<std::string> names = {"seconds",   "debug",    "gc", "",      "SECONDS",
                                                 "sec%6fnds", "debug%00", "%",  "labels"};
  static const std::vector<std::string> values = {"",
                                                  "0",
                                                  "1",
                                                  "2",
                                                  "-1",
                                                  "+1",
                                                  "1.5",
                                                  "1e3",
                                                  "0x10",
                                                  "00000001",
                                                  "9223372036854775807",
                                                  "9223372036854775808",
                                                  "-9223372036854775808",
                                                  "99999999999999999999999999999999",
                                                  "%31",
                                                  "%zz",
                                                  "%",
                                                  "1%00",
                                                  "true",
                                                  "\xff\xfe",
                                                  "%ff%fe",
                                                  "'",
                                                  "\"<script>",
                                                  "../../etc/passwd"};
  std::string query;
  for (unsigned n = static_cast<unsigned>(random() % 4); n > 0; --n) {
    if (!query.empty()) query += random() % 8 == 0 ? ";" : "&";
    query += pick(random, names);
    if (random() % 8 != 0) query += "=" + pick(random, values);
  }
  return query;
}

std::string make_input(std::mt19937_64& random) {
  static const std::vector<std::string> targets = {"goroutine",
                                                   "task",
                                                   "heap",
                                                   "allocs",
                                                   "threadcreate",
                                                   "taskcreate",
                                                   "stack",
                                                   "symbol",
                                                   "cmdline",
                                                   "",
                                                   "trace",
                                                   "block",
                                                   "mutex",
                                                   "goroutine/",
                                                   "/",
                                                   "//",
                                                   "..",
                                                   "%2e%2e/",
                                                   "%00",
                                                   "goroutine%3fdebug=1",
                                                   "symbol?0x1+0x2+junk",
                                                   "symbol?++++",
                                                   "a/b/c",
                                                   "\xc3\xa4",
                                                   "*"};
  std::string input(1, static_cast<char>(random()));
  // Rare, because every one starts and stops the sampler.
  input += random() % 64 == 0 ? "profile" : pick(random, targets);
  if (random() % 4 != 0) input += "?" + make_query(random);
  if (random() % 4 == 0) input += "\n" + make_query(random);
  for (unsigned n = static_cast<unsigned>(random() % 3); n > 0; --n) {
    const std::size_t at = random() % (input.size() + 1);
    switch (random() % 4) {
      case 0:
        input.insert(at, 1, static_cast<char>(random()));
        break;
      case 1:
        input.erase(at, 1 + random() % 3);
        break;
      case 2:
        if (at < input.size()) input[at] = static_cast<char>(random());
        break;
      default:
        input.insert(at,
                     std::string(random() % 3000, pick(random, {"0", "9", "%", "&", "+", "/"})[0]));
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t iterations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 3000;
  const std::uint64_t seed =
      argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device()();
  std::printf("debug_fuzz: %llu iterations, seed %llu\n",
              static_cast<unsigned long long>(iterations), static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  std::mt19937_64 random(seed);
  for (std::uint64_t i = 0; i < iterations; ++i) {
    const std::string input = make_input(random);
    const void* bytes = input.data();
    LLVMFuzzerTestOneInput(static_cast<const std::uint8_t*>(bytes), input.size());
  }
  return 0;
}
#endif
