#pragma once
// service: the endpoints of the cache server.
#include <weft/gc/gc.h>
#include <weft/gc/string.h>
#include <weft/http/mux.h>

#include <cstddef>
#include <string_view>

#include "examples/common/lru_cache.h"

namespace cached {

// What a client has stored. Never changes: who stores again stores another one.
struct item {
  weft::gc::string type;  // Content-Type
  weft::gc::string body;  // an array that the collector does not look into
};

struct service_options {
  size_t memory = size_t{256} << 20;      // bytes of names and values kept
  size_t largest_item = size_t{8} << 20;  // bytes of one value
};

class service {
 public:
  explicit service(const service_options& options)
      : options_(options), items_(options.memory, example::evicted::findable) {}

  // Registers every endpoint. Their handlers refer to this.
  void add_routes(weft::http::mux& mux);

 private:
  using request = weft::http::request;
  using response_writer = weft::http::response_writer;

  void get(response_writer& w, request& r);
  void put(response_writer& w, request& r);
  void remove(response_writer& w, request& r);
  void show_stats(response_writer& w, request& r);

  const service_options options_;
  example::lru_cache<item> items_;
};

}  // namespace cached
