// The routing tree: host, then method, then one level per path segment. At each level a literal
// child is tried before the single wildcard and that before the rest wildcard, backing up when a
// subtree does not match. Because conflicting patterns were refused at registration, the first
// match found this way is the most specific one; registration order never matters.
#include <weft/http/mux.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <vector>

#include "net/http/ascii.h"
#include "net/http/exchange.h"
#include "net/http/path.h"
#include "net/http/route_pattern.h"

namespace weft::http {

using detail::exchange;
using detail::pattern_segment;
using detail::route_pattern;

namespace {

struct route {
  route_pattern pattern;
  handler serve;
  bool mount = false;  // the matched prefix is hidden from the handler's subpath
};

struct node {
  // Sorted by name; a handful of children is searched faster than hashed.
  std::vector<std::pair<std::string, std::unique_ptr<node>>> literals;
  std::unique_ptr<node> single;
  std::unique_ptr<node> rest;
  const route* leaf = nullptr;

  static bool before(const std::pair<std::string, std::unique_ptr<node>>& child,
                     std::string_view name) {
    return child.first < name;
  }
  node* find(std::string_view name) const {
    auto at = std::lower_bound(literals.begin(), literals.end(), name, before);
    return at != literals.end() && at->first == name ? at->second.get() : nullptr;
  }
  node& child(std::string_view name) {
    auto at = std::lower_bound(literals.begin(), literals.end(), name, before);
    if (at == literals.end() || at->first != name) {
      at = literals.emplace(at, std::string(name), std::make_unique<node>());
    }
    return *at->second;
  }
};

// One match: the route and the raw values of its wildcards in order.
struct match {
  const route* found = nullptr;
  unsigned count = 0;
  std::string_view values[detail::max_path_params];
  std::size_t rest_at = 0;  // where the rest wildcard begins in the path, if there is one
};

class matcher {
 public:
  // `decoded` keeps segments that had to be decoded for comparison.
  matcher(std::string_view path, match& out) : path_(path), out_(out) {}

  // Matches the path from `at`, which is at a slash or the end.
  bool walk(const node& n, std::size_t at) {
    if (at == path_.size()) {
      out_.found = n.leaf;
      return n.leaf != nullptr;
    }
    const std::size_t start = at + 1;
    const bool at_end = start == path_.size();  // a trailing slash: the segment "/"
    std::size_t end = at_end ? start : std::min(path_.find('/', start), path_.size());
    const std::string_view raw = path_.substr(start, end - start);
    const unsigned values = out_.count;
    if (!n.literals.empty()) {
      const node* next = nullptr;
      if (at_end) {
        next = n.find("/");
      } else if (raw.find('%') == std::string_view::npos) {
        next = n.find(raw);
      } else {
        next = n.find(percent_decode(raw));
      }
      if (next != nullptr && walk(*next, end)) return true;
      out_.count = values;
    }
    if (n.single && !raw.empty()) {
      out_.values[out_.count++] = raw;
      if (walk(*n.single, end)) return true;
      out_.count = values;
    }
    if (n.rest) {
      out_.found = n.rest->leaf;
      out_.rest_at = at;
      if (!out_.found->pattern.last().text.empty()) {
        out_.values[out_.count++] = path_.substr(start);
      }
      return true;
    }
    return false;
  }

 private:
  std::string_view path_;
  match& out_;
};

using method_tree = std::map<std::string, node, std::less<>>;

bool match_method(const method_tree& methods, std::string_view method, std::string_view path,
                  match& out) {
  auto try_method = [&](std::string_view name) {
    auto at = methods.find(name);
    if (at == methods.end()) return false;
    out = match{};
    return matcher(path, out).walk(at->second, 0);
  };
  if (try_method(method)) return true;
  if (method == "HEAD" && try_method("GET")) return true;
  return try_method("");
}

std::string_view without_port(std::string_view host) {
  if (!host.empty() && host.front() == '[') return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

// The path is the registered one and not just somewhere below a subtree.
bool is_exact(const route* r, std::string_view path) {
  if (r == nullptr) return false;
  if (!r->pattern.last().multi) return true;
  if (path.back() != '/') return false;
  return r->pattern.segments.size() ==
         static_cast<std::size_t>(std::count(path.begin(), path.end(), '/'));
}

}  // namespace

struct mux::impl {
  std::vector<std::unique_ptr<route>> routes;
  std::map<std::string, method_tree, std::less<>> hosts;
  handler not_found;

  void add(std::unique_ptr<route> r);
  bool find(std::string_view host, std::string_view method, std::string_view path,
            match& out) const;
  std::string allowed(std::string_view host, std::string_view path) const;
};

void mux::impl::add(std::unique_ptr<route> r) {
  if (!r->serve) {
    throw std::invalid_argument("weft::http::mux: pattern \"" + r->pattern.text +
                                "\": empty handler");
  }
  for (const auto& other : routes) {
    if (!detail::conflict(r->pattern, other->pattern)) continue;
    std::string why = "weft::http::mux: pattern \"" + r->pattern.text + "\" conflicts with \"" +
                      other->pattern.text + "\": ";
    if (detail::compare(r->pattern, other->pattern) == detail::relation::equivalent) {
      why += "they match the same requests";
    } else {
      why += "neither is more specific, and both match \"" +
             detail::common_path(r->pattern, other->pattern) + "\"";
    }
    throw std::invalid_argument(why);
  }
  node* n = &hosts[r->pattern.host][r->pattern.method];
  for (const pattern_segment& s : r->pattern.segments) {
    if (s.multi) {
      if (!n->rest) n->rest = std::make_unique<node>();
      n = n->rest.get();
    } else if (s.wild) {
      if (!n->single) n->single = std::make_unique<node>();
      n = n->single.get();
    } else {
      n = &n->child(s.text);
    }
  }
  n->leaf = r.get();
  routes.push_back(std::move(r));
}

bool mux::impl::find(std::string_view host, std::string_view method, std::string_view path,
                     match& out) const {
  // Host-specific patterns win over those for any host.
  if (hosts.size() > 1 || (hosts.size() == 1 && !hosts.begin()->first.empty())) {
    std::string name(without_port(host));
    for (char& c : name) c = detail::lower(c);
    if (!name.empty()) {
      auto at = hosts.find(name);
      if (at != hosts.end() && match_method(at->second, method, path, out)) return true;
    }
  }
  auto any = hosts.find(std::string_view());
  return any != hosts.end() && match_method(any->second, method, path, out);
}

std::string mux::impl::allowed(std::string_view host, std::string_view path) const {
  std::set<std::string> methods;
  std::string with_slash = std::string(path) + "/", name(without_port(host));
  for (char& c : name) c = detail::lower(c);
  for (std::string_view h : {std::string_view(name), std::string_view()}) {
    auto at = hosts.find(h);
    if (at == hosts.end()) continue;
    for (const auto& [method, tree] : at->second) {
      if (method.empty()) continue;
      match a, b;
      if (matcher(path, a).walk(tree, 0) || matcher(with_slash, b).walk(tree, 0)) {
        methods.insert(method);
        if (method == "GET") methods.insert("HEAD");
      }
    }
  }
  std::string out;
  for (const std::string& m : methods) out.append(out.empty() ? "" : ", ").append(m);
  return out;
}

mux::mux() : impl_(std::make_unique<impl>()) {}
mux::~mux() = default;
mux::mux(mux&&) noexcept = default;
mux& mux::operator=(mux&&) noexcept = default;

void mux::handle(std::string_view pattern, handler h) {
  auto r = std::make_unique<route>();
  r->pattern = route_pattern::parse(pattern);
  r->serve = std::move(h);
  impl_->add(std::move(r));
}

void mux::mount(std::string_view prefix, handler h) {
  std::string pattern(prefix);
  if (pattern.empty() || pattern.back() != '/') pattern.push_back('/');
  auto r = std::make_unique<route>();
  r->pattern = route_pattern::parse(pattern);
  if (!r->pattern.method.empty()) {
    throw std::invalid_argument("weft::http::mux: mount prefix \"" + std::string(prefix) +
                                "\" names a method; a mount is for all of them");
  }
  r->serve = std::move(h);
  r->mount = true;
  impl_->add(std::move(r));
}

void mux::mount(std::string_view prefix, const mux& sub) { mount(prefix, sub.as_handler()); }

void mux::not_found(handler h) { impl_->not_found = std::move(h); }

handler mux::as_handler() const {
  return [this](response_writer& w, request& r) { serve(w, r); };
}

void mux::serve(response_writer& w, request& r) const {
  exchange& x = detail::access::state(r);
  if (x.h.form == detail::target_form::asterisk) {
    return;  // "OPTIONS *" asks whether the server is there: an empty 200
  }
  const std::string_view full = x.raw_path();
  const std::string_view path = r.raw_subpath();
  const std::string_view host = r.host(), method = r.method();
  auto redirect_to = [&](std::string_view clean) {
    std::string location(full.substr(0, x.mounted));
    location.append(clean);
    if (x.h.has_query) location.append("?").append(r.query());
    redirect(w, status::moved_permanently, location);
  };

  const bool clean = detail::is_clean_path(path);
  std::string cleaned;
  if (!clean) cleaned = detail::clean_path(path);
  const std::string_view wanted = clean ? path : std::string_view(cleaned);

  match m;
  const bool found = impl_->find(host, method, wanted, m);
  if (!is_exact(found ? m.found : nullptr, wanted) && wanted.back() != '/') {
    std::string slashed = std::string(wanted) + "/";
    match other;
    if (impl_->find(host, method, slashed, other) && is_exact(other.found, slashed)) {
      return redirect_to(slashed);
    }
  }
  // Also for paths nothing is registered for: one spelling per resource, as Go has it.
  if (!clean) return redirect_to(wanted);

  if (!found) {
    std::string allow = impl_->allowed(host, wanted);
    if (!allow.empty()) {
      w.header("Allow", allow);
      return error_page(w, status::method_not_allowed, "Method Not Allowed");
    }
    if (impl_->not_found) return impl_->not_found(w, r);
    return error_page(w, status::not_found, "404 page not found");
  }

  x.pattern = m.found->pattern.text;
  unsigned value = 0;
  for (const pattern_segment& s : m.found->pattern.segments) {
    if (!s.wild || s.text.empty()) continue;
    std::string_view raw = m.values[value++];
    if (raw.find('%') != std::string_view::npos) {
      raw = x.parts().values.emplace_back(percent_decode(raw));
    }
    // Values of an outer mount stay visible; the inner pattern's name wins.
    unsigned slot = 0;
    while (slot < x.param_count && x.path_params[slot].name != s.text) ++slot;
    if (slot == detail::max_path_params) {
      return error_page(w, status::internal_server_error,
                        "too many path wildcards in nested mounts");
    }
    x.path_params[slot] = {s.text, raw};
    x.param_count = std::max(x.param_count, slot + 1);
  }
  if (m.found->mount) {
    x.mounted += static_cast<std::uint32_t>(m.rest_at);
  }
  m.found->serve(w, r);
}

}  // namespace weft::http
