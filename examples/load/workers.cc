#include "examples/load/workers.h"

#include <weft/task.h>
#include <weft/task_group.h>
#include <weft/time.h>
#include <weft/wait_group.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <random>

namespace load {
namespace {

using std::chrono::steady_clock;

std::string get_request(const options& o, const std::string& path) {
  return "GET " + path + " HTTP/1.1\r\nHost: " + o.target + "\r\n\r\n";
}

std::string create_request(const options& o, uint64_t number) {
  std::string body = "{\"url\":\"https://example.com/articles/" + std::to_string(number) + "\"}";
  return "POST /links HTTP/1.1\r\nHost: " + o.target +
         "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

class worker {
 public:
  worker(const options& o, const std::vector<std::string>& codes, const weft::context& stop,
         results& out, unsigned index)
      : options_(o),
        codes_(codes),
        stop_(stop),
        out_(out),
        index_(index),
        client_(o.target),
        random_(0x5eed + index) {}

  // Returns the number of requests that were due and not sent.
  uint64_t run(steady_clock::time_point start, steady_clock::time_point end) {
    std::chrono::duration<double> interval(options_.rate > 0 ? options_.connections / options_.rate
                                                             : 0);
    auto due_at = [&](uint64_t i) {
      // Connections take turns, so that the load is even and not a volley per interval.
      auto offset =
          interval * (static_cast<double>(i) + static_cast<double>(index_) / options_.connections);
      return start + std::chrono::duration_cast<steady_clock::duration>(offset);
    };
    uint64_t sent = 0;
    for (;;) {
      auto due = options_.rate > 0 ? due_at(sent) : weft::now();
      if (due >= end || weft::now() >= end) break;
      if (!weft::this_task::sleep_until(stop_, due)) break;
      send_one(due);
      ++sent;
    }
    if (options_.rate == 0) return 0;
    auto ended = std::min(end, weft::now());
    uint64_t unsent = 0;
    while (due_at(sent + unsent) < ended) ++unsent;
    return unsent;
  }

 private:
  void send_one(steady_clock::time_point due) {
    auto kind = static_cast<request_kind>(kinds_(random_));
    response r = client_.exchange(make(kind), weft::now() + options_.timeout);
    out_.record(index_, kind, r, weft::now() - due);
    // A service that refuses connections would otherwise be asked as fast as the processor allows.
    if (r.how == outcome::broken) {
      static_cast<void>(weft::this_task::sleep_for(stop_, std::chrono::milliseconds(100)));
    }
  }

  std::string make(request_kind kind) {
    if (kind == request_kind::create) return create_request(options_, random_());
    // Some links are popular: the square moves the choice towards the first ones.
    double u = std::uniform_real_distribution<double>(0, 1)(random_);
    const std::string& code =
        codes_[static_cast<size_t>(u * u * static_cast<double>(codes_.size()))];
    return get_request(options_, (kind == request_kind::stats ? "/links/" : "/") + code);
  }

  const options& options_;
  const std::vector<std::string>& codes_;
  const weft::context& stop_;
  results& out_;
  const unsigned index_;
  http_client client_;
  std::mt19937_64 random_;
  std::discrete_distribution<int> kinds_{options_.weights.begin(), options_.weights.end()};
};

}  // namespace

std::vector<std::string> prepare_links(const options& o) {
  std::vector<std::string> codes(o.links);
  std::atomic<unsigned> next{0};
  weft::task_group creators;
  for (unsigned i = 0; i < std::min(o.connections, o.links); ++i) {
    creators.go([&](const weft::context& ctx) {
      http_client client(o.target);
      for (unsigned n = next++; n < o.links && !ctx.err(); n = next++) {
        response r = client.exchange(create_request(o, n), weft::now() + o.timeout);
        size_t slash = r.location.rfind('/');
        if (r.how != outcome::answered || r.status != 201 || slash == std::string::npos) {
          // The others end before their next link.
          throw preparation_error(
              "cannot create links at " + o.target + ": " +
              (r.how == outcome::answered ? "status " + std::to_string(r.status) : r.explanation));
        }
        codes[n] = r.location.substr(slash + 1);
      }
    });
  }
  creators.wait();
  return codes;
}

run_summary run_workers(const options& o, const std::vector<std::string>& codes,
                        const weft::context& stop, results& out) {
  auto start = weft::now();
  auto end = o.duration.count() == 0 ? steady_clock::time_point::max() : start + o.duration;
  std::atomic<uint64_t> unsent{0};
  weft::wait_group workers;
  for (unsigned i = 0; i < o.connections; ++i) {
    workers.go([&, i] {
      auto w = std::make_unique<worker>(o, codes, stop, out, i);
      unsent += w->run(start, end);
    });
  }
  workers.wait();
  return {weft::now() - start, unsent};
}

}  // namespace load
