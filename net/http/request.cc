#include <weft/http/request.h>

#include <algorithm>
#include <cstring>

#include "net/http/ascii.h"
#include "net/http/exchange.h"

namespace weft::http {

namespace {

// Splits "/a/b/" into "a", "b", "" and decodes each into storage that stays put.
void split_segments(std::string_view path, detail::decoded_parts& parts) {
  if (path.empty() || path.front() != '/') return;
  do {
    path.remove_prefix(1);
    std::size_t slash = std::min(path.find('/'), path.size());
    std::string_view segment = path.substr(0, slash);
    path.remove_prefix(slash);
    if (segment.find('%') != std::string_view::npos) {
      segment = parts.values.emplace_back(percent_decode(segment));
    }
    parts.segments.push_back(segment);
  } while (!path.empty());
}

// The media type without parameters, "text/html; charset=x" -> "text/html".
std::string_view media_type(std::string_view content_type) {
  return detail::trim_ows(content_type.substr(0, content_type.find(';')));
}

}  // namespace

namespace detail {
void exchange_deleter::operator()(exchange* x) const noexcept { delete x; }
}  // namespace detail

result<std::size_t> body_reader::read(std::span<char> into) {
  if (x_->body == nullptr) return make_error_code(error::body_not_available);
  return x_->body->read_body(into);
}

std::optional<std::uint64_t> body_reader::remaining() const noexcept {
  return x_->body == nullptr ? std::uint64_t{0} : x_->body->body_remaining();
}

std::string_view request::method() const noexcept { return x_->h.method.of(x_->base); }
std::string_view request::target() const noexcept { return x_->h.target.of(x_->base); }
std::string_view request::raw_path() const noexcept { return x_->raw_path(); }

std::string_view request::path() {
  if (!x_->h.path_has_percent) return x_->raw_path();
  auto& parts = x_->parts();
  if (!parts.path) parts.path = percent_decode(x_->raw_path());
  return *parts.path;
}

std::span<const std::string_view> request::segments() {
  auto& parts = x_->parts();
  if (!parts.have_segments) {
    split_segments(x_->raw_path(), parts);
    parts.have_segments = true;
  }
  return parts.segments;
}

std::string_view request::raw_subpath() const noexcept {
  std::string_view rest = x_->raw_path().substr(x_->mounted);
  return rest.empty() ? std::string_view("/") : rest;
}

std::string request::subpath() const {
  std::string_view rest = raw_subpath();
  if (rest.front() == '/') rest.remove_prefix(1);
  return percent_decode(rest);
}

std::string_view request::query() const noexcept {
  return x_->h.has_query ? x_->h.query.of(x_->base) : std::string_view();
}

const params& request::query_params() {
  auto& parts = x_->parts();
  if (!parts.query) parts.query = params::parse(query());
  return *parts.query;
}

int request::version() const noexcept { return 10 + x_->h.minor_version; }
std::string_view request::host() const noexcept { return x_->h.host.of(x_->base); }
std::string_view request::remote_address() const noexcept { return x_->remote; }

namespace {

// Calls f(value) for each field of this name until it returns false.
template <class F>
void each_field(const detail::exchange& x, std::string_view name, F f) {
  const detail::known_header id = detail::find_known_header(name);
  for (unsigned i = 0; i < x.h.field_count; ++i) {
    const detail::field_view& field = x.h.fields[i];
    if (field.id != id) continue;
    if (id == detail::known_header::other && !detail::equals_nocase(field.name.of(x.base), name)) {
      continue;
    }
    if (!f(field.value.of(x.base))) return;
  }
}

}  // namespace

std::string_view request::header(std::string_view name) const noexcept {
  std::string_view found;
  each_field(*x_, name, [&found](std::string_view value) {
    found = value;
    return false;
  });
  return found;
}

bool request::has_header(std::string_view name) const noexcept {
  bool found = false;
  each_field(*x_, name, [&found](std::string_view) {
    found = true;
    return false;
  });
  return found;
}

std::vector<std::string_view> request::header_values(std::string_view name) const {
  std::vector<std::string_view> out;
  each_field(*x_, name, [&out](std::string_view value) {
    out.push_back(value);
    return true;
  });
  return out;
}

std::size_t request::header_count() const noexcept { return x_->h.field_count; }

std::pair<std::string_view, std::string_view> request::header_at(std::size_t i) const noexcept {
  const detail::field_view& field = x_->h.fields[i];
  return {field.name.of(x_->base), field.value.of(x_->base)};
}

std::string_view request::trailer(std::string_view name) const noexcept {
  std::string_view lines = x_->body == nullptr ? std::string_view() : x_->body->trailers();
  while (!lines.empty()) {
    std::size_t end = lines.find('\n');
    std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    std::size_t colon = line.find(':');
    if (detail::equals_nocase(line.substr(0, colon), name)) return line.substr(colon + 2);
  }
  return {};
}

std::string_view request::path_value(std::string_view name) const noexcept {
  for (unsigned i = 0; i < x_->param_count; ++i) {
    if (x_->path_params[i].name == name) return x_->path_params[i].value;
  }
  return {};
}

std::string_view request::pattern() const noexcept { return x_->pattern; }

result<std::string> request::read_all(std::optional<std::uint64_t> limit) {
  if (x_->body == nullptr) return make_error_code(error::body_not_available);
  const std::uint64_t most =
      std::min(limit.value_or(x_->body->default_body_limit()), std::uint64_t{1} << 62);
  const std::optional<std::uint64_t> announced = x_->body->body_remaining();
  if (announced && *announced > most) return make_error_code(error::body_too_large);
  std::string out;
  // An announced length is trusted for at most 64 KB of memory before its bytes are there.
  std::uint64_t step = std::min<std::uint64_t>(announced ? *announced + 1 : 4096, 65536);
  for (;;) {
    const std::size_t have = out.size();
    if (have > most) return make_error_code(error::body_too_large);
    const std::uint64_t grow =
        std::min<std::uint64_t>(std::max<std::uint64_t>(step, have), most + 1 - have);
    out.resize(have + static_cast<std::size_t>(grow));
    result<std::size_t> n = x_->body->read_body({out.data() + have, out.size() - have});
    out.resize(have + (n ? *n : 0));
    if (n) continue;
    if (n.error() == errc::eof) return out;
    return n.error();
  }
}

result<const params*> request::try_form() {
  auto& parts = x_->parts();
  if (!parts.form) {
    params all;
    if (detail::equals_nocase(media_type(header("Content-Type")),
                              "application/x-www-form-urlencoded")) {
      result<std::string> body = read_all();
      if (!body) return body.error();
      all = params::parse(*body);
    }
    all.append(query_params());
    parts.form = std::move(all);
  }
  return &*parts.form;
}

const params& request::form() { return *try_form().value(); }

bool request::disconnected() const noexcept {
  return x_->body != nullptr && x_->body->peer_closed();
}

weft::context request::context() {
  return x_->body != nullptr ? x_->body->request_context() : background();
}

request request::own() const {
  auto* copy = new detail::exchange;
  request out(copy);
  out.owned_.reset(copy);
  copy->h = x_->h;
  auto text = std::make_unique<char[]>(x_->h.size);
  std::memcpy(text.get(), x_->base, x_->h.size);
  copy->base = text.get();
  copy->owned_text = std::move(text);
  copy->mounted = x_->mounted;
  auto keep = [copy](std::string_view piece) -> std::string_view {
    return copy->parts().values.emplace_back(piece);
  };
  copy->remote = keep(x_->remote);
  copy->pattern = keep(x_->pattern);
  copy->param_count = x_->param_count;
  for (unsigned i = 0; i < x_->param_count; ++i) {
    copy->path_params[i] = {keep(x_->path_params[i].name), keep(x_->path_params[i].value)};
  }
  if (x_->decoded && x_->decoded->form) copy->parts().form = x_->decoded->form;
  return out;
}

}  // namespace weft::http
