#pragma once
// Routes requests to handlers by Go 1.22's patterns.
//
//   weft::http::mux m;
//   m.handle("GET /users/{id}", show_user);        // HEAD too
//   m.handle("POST /users", create_user);
//   m.handle("/files/{rest...}", files);           // any method, any depth
//   m.handle("/static/", static_files);            // a trailing slash is a subtree
//   m.handle("/{$}", home);                        // exactly "/"
//   m.handle("api.example.com/", api);             // only for that host
//   m.mount("/debug", debug_mux);                  // sub-router under a prefix
//
// The most specific pattern wins, whatever the order of registration; two patterns of which neither
// is more specific, but which share a path, are refused when registered. A path that is not clean
// ("//", "/./", "/../") is redirected (301) to its clean form, "/tree" to "/tree/" when only the
// latter is registered; an unknown path is 404, a known one with another method 405 with Allow.
// Segments are matched after decoding one by one, so "%2F" never splits a segment.
//
// Thread-safety: register first; serving is const and may run in any number of tasks.
#include <weft/http/handler.h>

#include <memory>
#include <string>
#include <string_view>

namespace weft::http {

class mux {
 public:
  mux();
  ~mux();
  mux(mux&&) noexcept;
  mux& operator=(mux&&) noexcept;

  // Registers `h` for "[METHOD ][HOST]/[PATH]". Wildcards: {name} one segment, {name...} the rest
  // (last only), {$} the end after a slash. Throws std::invalid_argument naming the pattern and the
  // fault: malformed, or in conflict with an earlier one (both are named).
  void handle(std::string_view pattern, handler h);

  // Serves everything under `prefix` ("/debug" or "/t/{tenant}", with or without a trailing slash,
  // optionally with a host) with `h`, for all methods. The handler finds the rest in
  // request::subpath(). The form for a mux keeps a reference: `sub` must outlive this one.
  void mount(std::string_view prefix, handler h);
  void mount(std::string_view prefix, const mux& sub);

  // What answers when no pattern matches; by default "404 page not found".
  void not_found(handler h);

  // Routes and runs one request.
  void serve(response_writer& w, request& r) const;

  // A handler that refers to this mux.
  handler as_handler() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace weft::http
