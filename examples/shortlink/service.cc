#include "examples/shortlink/service.h"

#include <weft/select.h>
#include <weft/task.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <ctime>
#include <utility>

#include "examples/shortlink/pages.h"
#include "examples/shortlink/replies.h"
#include "examples/shortlink/validate.h"

namespace shortlink {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds longest_watch{300};
constexpr int64_t most_watchers = 10'000;

std::string iso_time(int64_t unix_ms) {
  std::time_t whole = unix_ms / 1000;
  std::tm parts{};
  gmtime_r(&whole, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

boost::json::value optional_time(const std::optional<int64_t>& unix_ms) {
  if (!unix_ms) return nullptr;
  return boost::json::value(iso_time(*unix_ms));
}

// Without parameters such as charset, in lower case.
std::string media_type(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  type.erase(std::remove(type.begin(), type.end(), ' '), type.end());
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  return type;
}

link_request read_link_request(weft::http::request& r) {
  std::string type = media_type(r.header("Content-Type"));
  if (type != "application/json" && type != "application/x-www-form-urlencoded") {
    throw http_error(415,
                     "Content-Type must be application/json or application/x-www-form-urlencoded");
  }
  auto body = r.read_all(max_body_bytes);
  if (!body && body.error() == weft::http::error::body_too_large) {
    throw http_error(413, "the body may have at most " + std::to_string(max_body_bytes) + " bytes");
  }
  if (!body) {
    int status = weft::is_timeout(body.error()) ? 408 : 400;
    throw http_error(status, "the body could not be read: " + body.error().message());
  }
  if (type == "application/json") return parse_json(*body);
  auto form = weft::http::params::parse(*body);
  return {std::string(form.get("url")), std::string(form.get("code"))};
}

bool prefers_html(const weft::http::request& r) {
  return r.header("Accept").find("text/html") != std::string_view::npos;
}

}  // namespace

service::service(const service_options& options, weft::context stopping)
    : base_url_(options.base_url),
      stopping_(std::move(stopping)),
      store_(options.database),
      cache_(options.cache_capacity),
      clicks_(store_, feed_) {}

void service::add_routes(weft::http::mux& mux) {
  auto add = [&](const char* pattern, void (service::*endpoint)(response_writer&, request&)) {
    mux.handle(pattern, timing_.wrap(pattern, [this, endpoint](response_writer& w, request& r) {
      (this->*endpoint)(w, r);
    }));
  };
  add("GET /{$}", &service::home);
  add("POST /links", &service::create_link);
  add("GET /{code}", &service::resolve);
  add("GET /links/{code}", &service::show_link);
  add("GET /links/{code}/watch", &service::watch_link);
  add("DELETE /links/{code}", &service::delete_link);
  add("GET /stats", &service::show_stats);
  add("GET /healthz", &service::health);
}

void service::finish() { clicks_.stop(); }

void service::home(response_writer& w, request&) { reply_html(w, 200, home_page()); }

void service::create_link(response_writer& w, request& r) {
  link_request wanted = read_link_request(r);
  check_url(wanted.url);
  std::optional<link> created;
  if (!wanted.code.empty()) {
    check_code(wanted.code);
    created = store_.create(wanted.code, wanted.url);
    if (!created) throw http_error(409, "code '" + wanted.code + "' is taken");
  } else {
    // 64^7 codes: a second attempt is rare, a fifth means that something else is wrong.
    for (int attempt = 0; attempt < 5 && !created; ++attempt) {
      created = store_.create(random_code(), wanted.url);
    }
    if (!created) throw std::runtime_error("found no free code in five attempts");
  }
  std::string url = short_url(r, created->code);
  w.header("Location", url);
  if (prefers_html(r)) {
    reply_html(w, 201, created_page(url, created->url, created->code));
  } else {
    reply_json(w, 201, {{"code", created->code}, {"short_url", url}});
  }
}

void service::resolve(response_writer& w, request& r) {
  std::string_view code = r.path_value("code");
  const cached_link* target = cache_.find(code);
  if (target == nullptr) {
    uint64_t as_of = cache_.removals();
    link found = require_link(r);
    target = cache_.add(code, found.id, found.url, as_of);
  }
  clicks_.count(target->id);
  // Without this, browsers may keep the answer and later clicks would go uncounted.
  w.header("Cache-Control", "no-store");
  weft::http::redirect(w, 302, target->url);
}

void service::show_link(response_writer& w, request& r) {
  link found = require_link(r);
  reply_json(w, 200,
             {{"code", found.code},
              {"url", found.url},
              {"short_url", short_url(r, found.code)},
              {"clicks", found.clicks},
              {"created", iso_time(found.created_ms)},
              {"last_click", optional_time(found.last_click_ms)}});
}

// Answers 200 with the next click, 204 if none came in time.
void service::watch_link(response_writer& w, request& r) {
  int64_t wanted = 30;
  std::string_view text = r.query_value("seconds");
  if (!text.empty()) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wanted);
    if (error != std::errc{} || end != text.data() + text.size() || wanted < 1 ||
        wanted > longest_watch.count()) {
      throw http_error(
          400, "seconds must be a number from 1 to " + std::to_string(longest_watch.count()));
    }
  }
  link found = require_link(r);
  if (feed_.watching() >= most_watchers) {
    throw http_error(
        503, "too many requests are watching links, the limit is " + std::to_string(most_watchers));
  }

  click_feed::watcher watcher(feed_, found.id);
  std::optional<click> seen;
  // Under the request's context, so that the watcher of a client that has gone goes away too.
  weft::context in_time = weft::with_timeout(r.context(), seconds(wanted)).first;
  weft::select(weft::on_recv(watcher.next(), [&](std::optional<click> c) { seen = c; }),
               weft::on_done(in_time), weft::on_done(stopping_));
  if (!seen && stopping_.err()) throw http_error(503, "the service is stopping");
  if (!seen) {
    w.status(204);
    return;
  }
  reply_json(w, 200, {{"code", found.code}, {"clicked", iso_time(seen->time_ms)}});
}

void service::delete_link(response_writer& w, request& r) {
  std::string_view code = r.path_value("code");
  if (!store_.remove(code)) throw http_error(404, "there is no link '" + std::string(code) + "'");
  cache_.remove(code);
  w.status(204);
}

void service::show_stats(response_writer& w, request&) {
  boost::json::object endpoints;
  for (const timing::row& row : timing_.rows()) {
    endpoints[boost::json::string_view(row.pattern.data(), row.pattern.size())] = {
        {"count", row.latency.count()},
        {"rejected", row.rejected},
        {"errors", row.failed},
        {"mean_ns", row.latency.mean().count()},
        {"p50_ns", row.latency.percentile(0.5).count()},
        {"p99_ns", row.latency.percentile(0.99).count()}};
  }
  auto clicks = clicks_.stats();
  auto cache = cache_.stats();
  weft::http::server_stats server;
  if (server_ != nullptr) server = server_->stats();
  auto up = std::chrono::duration_cast<seconds>(weft::now() - started_);
  reply_json(w, 200,
             {{"uptime_seconds", up.count()},
              {"tasks", weft::num_tasks()},
              {"links", store_.link_count()},
              {"watchers", feed_.watching()},
              {"connections",
               {{"idle", server.idle},
                {"active", server.active},
                {"accepted", server.accepted},
                {"refused_heads", server.refused_heads},
                {"timeouts", server.timeouts}}},
              {"clicks",
               {{"received", clicks.received},
                {"stored", clicks.stored},
                {"queued", clicks.queued},
                {"batches", clicks.batches},
                {"failed_batches", clicks.failed_batches}}},
              {"cache",
               {{"size", cache.size},
                {"capacity", cache.capacity},
                {"hits", cache.hits},
                {"misses", cache.misses},
                {"evictions", cache.evictions}}},
              {"endpoints", std::move(endpoints)}});
}

void service::health(response_writer& w, request&) { (void)w.respond(200, "text/plain", "ok\n"); }

std::string service::short_url(const request& r, std::string_view code) const {
  std::string base = base_url_.empty() ? "http://" + std::string(r.host()) : base_url_;
  return base + "/" + std::string(code);
}

link service::require_link(request& r) {
  std::string_view code = r.path_value("code");
  auto found = store_.find(code);
  if (!found) throw http_error(404, "there is no link '" + std::string(code) + "'");
  return *std::move(found);
}

}  // namespace shortlink
