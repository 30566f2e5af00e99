#pragma once
// service: the endpoints, and what they share.
#include <weft/chan.h>
#include <weft/http/mux.h>
#include <weft/http/server.h>

#include <chrono>
#include <string>

#include "examples/shortlink/click_counter.h"
#include "examples/shortlink/click_feed.h"
#include "examples/shortlink/link_cache.h"
#include "examples/shortlink/store.h"
#include "examples/shortlink/timing.h"

namespace shortlink {

struct service_options {
  std::string database = "shortlink.db";  // a file or ":memory:"
  size_t cache_capacity = 10'000;         // links
  std::string base_url;  // in front of codes; empty: http:// and the request's Host
};

class service {
 public:
  // Opens the database; throws sqlite_error.
  explicit service(const service_options& options);

  // Registers every endpoint.
  void add_routes(weft::http::mux& mux);

  // Lets /stats tell about the server's connections. Before it serves; it must outlive its
  // requests.
  void report_connections_of(const weft::http::server& s) { server_ = &s; }

  // Ends the waiting of watch requests, so that the server can finish those in flight.
  void stop_waiting();
  // After the last request: stores the clicks under way.
  void finish();

 private:
  using request = weft::http::request;
  using response_writer = weft::http::response_writer;

  void home(response_writer& w, request& r);
  void create_link(response_writer& w, request& r);
  void resolve(response_writer& w, request& r);
  void show_link(response_writer& w, request& r);
  void watch_link(response_writer& w, request& r);
  void delete_link(response_writer& w, request& r);
  void show_stats(response_writer& w, request& r);
  void health(response_writer& w, request& r);

  std::string short_url(const request& r, std::string_view code) const;
  link require_link(request& r);

  const std::string base_url_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  store store_;
  link_cache cache_;
  click_feed feed_;
  click_counter clicks_;
  timing timing_;
  const weft::http::server* server_ = nullptr;
  weft::chan<char> stopping_{0};  // closed by stop_waiting()
};

}  // namespace shortlink
