#pragma once
// service: the endpoints, and what they share.
#include <weft/context.h>
#include <weft/http/mux.h>
#include <weft/http/server.h>
#include <weft/time.h>

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
  // Opens the database; throws sqlite_error. When `stopping` is cancelled, watch requests end, so
  // that the server can finish those in flight.
  service(const service_options& options, weft::context stopping);

  // Registers every endpoint.
  void add_routes(weft::http::mux& mux);

  // Lets /stats tell about the server's connections. Before it serves; it must outlive its
  // requests.
  void report_connections_of(const weft::http::server& s) { server_ = &s; }

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
  const weft::context stopping_;
  const std::chrono::steady_clock::time_point started_ = weft::now();
  store store_;
  link_cache cache_;
  click_feed feed_;
  click_counter clicks_;
  timing timing_;
  const weft::http::server* server_ = nullptr;
};

}  // namespace shortlink
