// Fuzz target for a whole HTTP/1.1 connection. One input is a byte stream; it is served in one
// piece, then cut where its own bytes say, in both serving modes. Oracles: no sanitizer report, no
// block kept, everything sent parses as strict HTTP, and the answers do not depend on the cuts.
//
// With clang:   -fsanitize=fuzzer,address -DWEFT_FUZZ_LIBFUZZER
// Elsewhere the main() below mutates the seed corpus of the unit tests:
//   http_fuzz [iterations [seed]]      prints the seed; the same pair replays the same run
//   http_fuzz file…                    runs the given inputs once
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/net/http_messages.h"
#include "tests/unit/net/memory_transport.h"

namespace {

using weft::http::request;
using weft::http::response_writer;
using weft::http::detail::serve_mode;
using weft::http::testing::world;

// Touches every way of looking at a request; what it does depends on the request alone.
void serve(response_writer& w, request& r) {
  std::string_view path = r.raw_path();
  if (path.find("skip") != std::string_view::npos) {
    w.write("skipped");
    return;
  }
  if (path.find("throw") != std::string_view::npos) throw std::runtime_error("asked for");
  std::string out(r.method());
  out.append(" ").append(r.path()).append("|");
  for (std::string_view s : r.segments()) out.append(s).append(",");
  for (const auto& [name, value] : r.form().pairs()) out.append(name).append(value);
  for (std::size_t i = 0; i < r.header_count(); ++i) {
    out.append(r.header_at(i).first).append(r.header_at(i).second);
  }
  out.append(r.read_all().value()).append(r.trailer("X-Sum")).append(r.host());
  if (path.find("flush") != std::string_view::npos) w.flush();
  w.write(out);
}

std::vector<std::string> answers(const std::vector<std::string>& pieces, serve_mode mode) {
  world w(serve);
  w.options.max_body = 100000;
  w.transport.eof_at_end = true;
  w.transport.pause_between = pieces.size() > 1;
  // Heads are recognised by their answer, so remember what was asked while serving.
  std::vector<bool> heads;
  w.serve = [&heads](response_writer& rw, request& r) {
    heads.push_back(r.method() == "HEAD");
    serve(rw, r);
  };
  w.run(pieces, mode);
  if (w.pool.lent() != 0) throw std::logic_error("a block was not given back");
  if (!w.transport.closed) throw std::logic_error("the connection was not closed");
  // A refused HEAD was never served, yet is answered without a body if its method was understood.
  heads.push_back(false);
  std::vector<weft::http::testing::response> all;
  try {
    all = w.responses(heads);
  } catch (const std::exception&) {
    heads.back() = true;
    all = w.responses(heads);
  }
  std::vector<std::string> out;
  for (const auto& r : all) {
    if (r.status < 200) continue;
    std::string line = std::to_string(r.status);
    for (const auto& [name, value] : r.fields) line.append("\n" + name + ": " + value);
    out.push_back(line + "\n\n" + r.body);
  }
  return out;
}

void check(const std::string& input) {
  const auto expected = answers({input}, serve_mode::return_idle);
  // Cuts from the input itself, so that one input always means the same run.
  std::uint64_t hash = 1469598103934665603u;
  for (char c : input) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  std::mt19937_64 random(hash);
  for (serve_mode mode : {serve_mode::return_idle, serve_mode::block}) {
    std::vector<std::string> pieces;
    std::size_t longest = 1 + random() % (random() % 2 == 0 ? 8 : 400);
    for (std::size_t at = 0; at < input.size();) {
      std::size_t n = 1 + random() % longest;
      pieces.push_back(input.substr(at, n));
      at += n;
    }
    if (answers(pieces, mode) != expected) throw std::logic_error("the answers depend on the cuts");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string input(size, '\0');
  for (std::size_t i = 0; i < size; ++i) input[i] = static_cast<char>(data[i]);
  try {
    check(input);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "http_fuzz: %s on input \"", e.what());
    for (char c : input) {
      bool plain = c >= 0x20 && c < 0x7f && c != '\\' && c != '"';
      std::fprintf(stderr, plain ? "%c" : "\\x%02x", static_cast<unsigned char>(c));
    }
    std::fprintf(stderr, "\"\n");
    std::abort();
  }
  return 0;
}

#ifndef WEFT_FUZZ_LIBFUZZER
namespace {

std::string mutate(std::string s, const std::vector<std::string>& seeds, std::mt19937_64& random) {
  static const std::string tokens[] = {"\r",
                                       "\n",
                                       "\r\n",
                                       std::string(1, '\0'),
                                       ":",
                                       " ",
                                       "\t",
                                       ",",
                                       ";",
                                       "0",
                                       "/",
                                       "\x7f",
                                       "\xff",
                                       "Transfer-Encoding: chunked\r\n",
                                       "Content-Length: 5\r\n",
                                       "Host: x\r\n",
                                       "chunked",
                                       "Expect: 100-continue\r\n",
                                       "Connection: close\r\n",
                                       "HTTP/1.0",
                                       "HEAD",
                                       "5\r\nhello\r\n",
                                       "0\r\n\r\n",
                                       "/skip",
                                       "/throw",
                                       "/flush",
                                       "%2e",
                                       "%00",
                                       "ffffffffffffffff"};
  for (unsigned round = 1 + static_cast<unsigned>(random() % 4); round > 0; --round) {
    const std::size_t at = s.empty() ? 0 : random() % (s.size() + 1);
    switch (random() % 8) {
      case 0:
        s.insert(at, tokens[random() % std::size(tokens)]);
        break;
      case 1:
        s.erase(at, 1 + random() % 4);
        break;
      case 2:
        if (at < s.size()) s[at] = static_cast<char>(random());
        break;
      case 3:  // duplicate a piece in place
        s.insert(at, s.substr(at, random() % 40));
        break;
      case 4:  // join with another message
        s.append(seeds[random() % seeds.size()]);
        break;
      case 5:  // splice
        s = s.substr(0, at) + [&] {
          const std::string& other = seeds[random() % seeds.size()];
          return other.substr(random() % (other.size() + 1));
        }();
        break;
      case 6: {  // replace by a token of about that place
        const std::string& t = tokens[random() % std::size(tokens)];
        s.replace(at, std::min(t.size(), s.size() - at), t);
        break;
      }
      default:
        if (at < s.size()) s[at] = static_cast<char>(s[at] ^ (1 << random() % 8));
        break;
    }
  }
  return s;
}

void run_one(const std::string& s) {
  const void* bytes = s.data();
  LLVMFuzzerTestOneInput(static_cast<const std::uint8_t*>(bytes), s.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t numbers[2] = {20000, std::random_device()()};
  for (int i = 1; i < argc; ++i) {
    char* end = nullptr;
    std::uint64_t n = std::strtoull(argv[i], &end, 10);
    if (*end == '\0' && i <= 2) {
      numbers[i - 1] = n;
      continue;
    }
    std::ifstream in(argv[i], std::ios::binary);
    if (!in) {
      std::fprintf(stderr, "http_fuzz: cannot read %s\n", argv[i]);
      return 1;
    }
    run_one(std::string(std::istreambuf_iterator<char>(in), {}));
    if (i + 1 == argc) return 0;
  }
  std::vector<std::string> seeds;
  for (const auto& m : weft::http::testing::good_messages()) {
    if (m.bytes.size() < 2000) seeds.push_back(m.bytes);
  }
  for (const auto& m : weft::http::testing::hostile_messages()) {
    if (m.bytes.size() < 2000) seeds.push_back(m.bytes);
  }
  std::printf("http_fuzz: %llu iterations, seed %llu\n",
              static_cast<unsigned long long>(numbers[0]),
              static_cast<unsigned long long>(numbers[1]));
  std::fflush(stdout);
  std::mt19937_64 random(numbers[1]);
  for (const auto& s : seeds) run_one(s);
  for (std::uint64_t i = 0; i < numbers[0]; ++i) {
    run_one(mutate(seeds[random() % seeds.size()], seeds, random));
  }
  return 0;
}
#endif
