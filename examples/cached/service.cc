#include "examples/cached/service.h"

#include <weft/task.h>

#include <boost/json.hpp>
#include <string>

namespace cached {
namespace {

constexpr size_t longest_key = 250;

// Answers 400 and returns false if there can be no such key.
bool check_key(weft::http::response_writer& w, std::string_view key) {
  if (!key.empty() && key.size() <= longest_key) return true;
  weft::http::error_page(w, 400, "a key has 1 to " + std::to_string(longest_key) + " bytes");
  return false;
}

}  // namespace

// A peer that is gone is no fault of a handler's: whether the answer could be delivered is ignored.

void service::add_routes(weft::http::mux& mux) {
  auto add = [&](const char* pattern, void (service::*endpoint)(response_writer&, request&)) {
    mux.handle(pattern,
               [this, endpoint](response_writer& w, request& r) { (this->*endpoint)(w, r); });
  };
  add("GET /cache/{key...}", &service::get);
  add("PUT /cache/{key...}", &service::put);
  add("DELETE /cache/{key...}", &service::remove);
  add("GET /stats", &service::show_stats);
}

void service::get(response_writer& w, request& r) {
  std::string_view key = r.path_value("key");
  if (!check_key(w, key)) return;
  item* found = items_.find(key);
  if (found == nullptr) return weft::http::error_page(w, 404, "nothing is stored under this key");
  (void)w.respond(200, found->type, found->body);
  // While a slow client is sent the bytes, this frame needs only them. The item is what the cache's
  // weak reference finds, so it has to stay as long.
  weft::gc::keep(found);
}

void service::put(response_writer& w, request& r) {
  std::string_view key = r.path_value("key");
  if (!check_key(w, key)) return;
  auto body = r.read_all(options_.largest_item);
  if (!body && body.error() == weft::http::error::body_too_large) {
    return weft::http::error_page(
        w, 413, "a value has at most " + std::to_string(options_.largest_item) + " bytes");
  }
  if (!body) {
    return weft::http::error_page(w, weft::is_timeout(body.error()) ? 408 : 400,
                                  "the body could not be read: " + body.error().message());
  }
  std::string_view type = r.header("Content-Type");
  if (type.empty()) type = "application/octet-stream";
  const size_t cost = key.size() + type.size() + body->size();
  if (cost > options_.memory) {
    return weft::http::error_page(
        w, 413, "the cache keeps " + std::to_string(options_.memory) + " bytes altogether");
  }
  auto* made = weft::gc::make<item>(type, *body);
  const bool replaced = items_.put(key, made, cost);
  w.status(replaced ? 204 : 201);
}

void service::remove(response_writer& w, request& r) {
  std::string_view key = r.path_value("key");
  if (!check_key(w, key)) return;
  if (!items_.remove(key))
    return weft::http::error_page(w, 404, "nothing is stored under this key");
  w.status(204);
}

void service::show_stats(response_writer& w, request&) {
  const auto cache = items_.stats();
  const weft::gc::heap_stats heap = weft::gc::stats();
  const boost::json::value document = {{"tasks", weft::num_tasks()},
                                       {"cache",
                                        {{"kept", cache.kept},
                                         {"kept_bytes", cache.cost},
                                         {"room_bytes", options_.memory},
                                         {"dropped", cache.dropped},
                                         {"hits", cache.hits},
                                         {"revived", cache.revived},
                                         {"misses", cache.misses},
                                         {"evictions", cache.evictions}}},
                                       {"heap",
                                        {{"cycles", heap.cycles},
                                         {"live_bytes", heap.live_bytes},
                                         {"goal_bytes", heap.goal_bytes},
                                         {"in_use_bytes", heap.heap_in_use_bytes},
                                         {"allocated_bytes", heap.allocated_bytes},
                                         {"pause_total_ns", heap.pause_total_ns}}}};
  (void)w.respond(200, "application/json", boost::json::serialize(document) + "\n");
}

}  // namespace cached
