#include <weft/http/mux.h>

#include <gtest/gtest.h>

#include <algorithm>

#include "net/http/path.h"
#include "net/http/route_pattern.h"
#include "tests/unit/net/memory_transport.h"

namespace weft::http {
namespace {

using detail::relation;
using detail::route_pattern;
using testing::response;
using testing::world;

// Answers the pattern that matched and the values of its wildcards.
handler show(std::vector<const char*> names = {}) {
  return [names](response_writer& w, request& r) {
    std::string text(r.pattern());
    for (const char* name : names) {
      text.append(" ").append(name).append("=").append(r.path_value(name));
    }
    w.write(text);
  };
}

response ask(const mux& m, const std::string& method, const std::string& target,
             const std::string& host = "h") {
  world w(m.as_handler());
  w.run({method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"});
  return w.responses({method == "HEAD"}).at(0);
}

std::string refusal(mux& m, const std::string& pattern) {
  try {
    m.handle(pattern, show());
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "accepted";
}

TEST(Mux, MostSpecificPatternWinsWhateverTheOrder) {
  std::vector<std::string> patterns = {
      "/",          "/a/",  "/a/{x}",       "/a/b",        "GET /a/b", "/a/{x}/c",
      "/a/b/{y}/z", "/{$}", "/f/{rest...}", "POST /f/one", "/a/b/c"};
  const std::pair<const char*, const char*> expected[] = {{"GET /", "/{$}"},
                                                          {"GET /zzz", "/"},
                                                          {"GET /a/", "/a/"},
                                                          {"GET /a/q", "/a/{x}"},
                                                          {"GET /a/b", "GET /a/b"},
                                                          {"POST /a/b", "/a/b"},
                                                          {"GET /a/q/c", "/a/{x}/c"},
                                                          {"GET /a/b/q/z", "/a/b/{y}/z"},
                                                          {"GET /a/b/c", "/a/b/c"},
                                                          {"GET /a/q/z", "/a/"},
                                                          {"GET /f/one", "/f/{rest...}"},
                                                          {"POST /f/one", "POST /f/one"},
                                                          {"GET /f/", "/f/{rest...}"}};
  std::sort(patterns.begin(), patterns.end());
  for (int round = 0; round < 40; ++round) {
    mux m;
    for (const auto& p : patterns) m.handle(p, show());
    for (const auto& [request, pattern] : expected) {
      std::string r = request;
      std::size_t space = r.find(' ');
      EXPECT_EQ(ask(m, r.substr(0, space), r.substr(space + 1)).body, pattern) << request;
    }
    std::rotate(patterns.begin(), patterns.begin() + 3, patterns.end());
    std::next_permutation(patterns.begin(), patterns.end());
  }
}

TEST(Mux, Values) {
  mux m;
  m.handle("GET /users/{id}", show({"id"}));
  m.handle("/users/{id}/posts/{post}", show({"id", "post"}));
  m.handle("/files/{rest...}", show({"rest"}));
  EXPECT_EQ(ask(m, "GET", "/users/7").body, "GET /users/{id} id=7");
  EXPECT_EQ(ask(m, "GET", "/users/a%2Fb%20c").body, "GET /users/{id} id=a/b c");
  EXPECT_EQ(ask(m, "PUT", "/users/1/posts/2").body, "/users/{id}/posts/{post} id=1 post=2");
  EXPECT_EQ(ask(m, "GET", "/files/a/b%20c/").body, "/files/{rest...} rest=a/b c/");
  EXPECT_EQ(ask(m, "GET", "/files/").body, "/files/{rest...} rest=");
  EXPECT_EQ(ask(m, "GET", "/users/").status, 404);  // a wildcard needs a segment
}

TEST(Mux, BacktracksOutOfALiteral) {
  mux m;
  m.handle("/a/b/c", show());
  m.handle("/a/{x}/d", show({"x"}));
  m.handle("/{y}/b/e", show({"y"}));
  EXPECT_EQ(ask(m, "GET", "/a/b/d").body, "/a/{x}/d x=b");
  EXPECT_EQ(ask(m, "GET", "/a/b/e").body, "/{y}/b/e y=a");
  EXPECT_EQ(ask(m, "GET", "/a/b/f").status, 404);
}

TEST(Mux, LiteralsAreComparedDecoded) {
  mux m;
  m.handle("/caf%C3%A9/x", show());
  EXPECT_EQ(ask(m, "GET", "/caf%c3%a9/x").body, "/caf%C3%A9/x");
  EXPECT_EQ(ask(m, "GET", "/%63af%c3%a9/x").body, "/caf%C3%A9/x");
  EXPECT_EQ(ask(m, "GET", "/caf%c3%a9%2Fx").status, 404);
}

TEST(Mux, HeadUsesGet) {
  mux m;
  m.handle("GET /a", show());
  m.handle("HEAD /b", show());
  m.handle("/b", show());
  EXPECT_EQ(ask(m, "HEAD", "/a").status, 200);
  EXPECT_EQ(ask(m, "HEAD", "/a").field("Content-Length"), "6");
  EXPECT_EQ(ask(m, "HEAD", "/b").field("Content-Length"), "7");
  EXPECT_EQ(ask(m, "GET", "/b").body, "/b");
}

TEST(Mux, NotFoundAndMethodNotAllowed) {
  mux m;
  m.handle("GET /a", show());
  m.handle("POST /a", show());
  m.handle("DELETE /{x}", show());
  m.handle("PUT /dir/", show());
  response r = ask(m, "PUT", "/a");
  EXPECT_EQ(r.status, 405);
  EXPECT_EQ(r.field("Allow"), "DELETE, GET, HEAD, POST");
  EXPECT_EQ(ask(m, "GET", "/b").field("Allow"), "DELETE");
  r = ask(m, "GET", "/a/b");
  EXPECT_EQ(r.status, 404);
  EXPECT_EQ(r.body, "404 page not found\n");
  EXPECT_EQ(r.field("X-Content-Type-Options"), "nosniff");
  m.not_found([](response_writer& w, request&) { w.respond(404, "text/plain", "mine"); });
  EXPECT_EQ(ask(m, "GET", "/a/b").body, "mine");
}

TEST(Mux, CleanPathRedirects) {
  mux m;
  m.handle("/", show());
  const std::pair<const char*, const char*> table[] = {{"//", "/"},
                                                       {"/a//b", "/a/b"},
                                                       {"/a/./b", "/a/b"},
                                                       {"/a/../b", "/b"},
                                                       {"/../../b", "/b"},
                                                       {"/a/..", "/"},
                                                       {"/a/.", "/a/"},
                                                       {"/a/b/../", "/a/"},
                                                       {"/%2e%2e/b", "/b"},
                                                       {"/a/%2E/b/", "/a/b/"},
                                                       {"//evil.example/", "/evil.example/"},
                                                       {"/a//b?c=//d", "/a/b?c=//d"},
                                                       {"/\\evil//", "/%5Cevil/"}};
  for (const auto& [path, location] : table) {
    response r = ask(m, "GET", path);
    EXPECT_EQ(r.status, 301) << path;
    EXPECT_EQ(r.field("Location"), location) << path;
  }
  for (const char* clean : {"/", "/a", "/a/", "/a.b/..c/.d./e..", "/...", "/a%20b", "/%2f"}) {
    EXPECT_EQ(ask(m, "GET", clean).status, 200) << clean;
    EXPECT_EQ(detail::clean_path(clean), clean);
  }
}

TEST(Mux, SubtreeWithoutItsSlashRedirects) {
  mux m;
  m.handle("/tree/", show());
  m.handle("/both/", show());
  m.handle("/both", show());
  response r = ask(m, "GET", "/tree?q=1");
  EXPECT_EQ(r.status, 301);
  EXPECT_EQ(r.field("Location"), "/tree/?q=1");
  EXPECT_EQ(ask(m, "GET", "/both").body, "/both");
  EXPECT_EQ(ask(m, "GET", "/tree/x").body, "/tree/");
  EXPECT_EQ(ask(m, "GET", "/trees").status, 404);
  mux root;
  root.handle("/", show());
  root.handle("/tree/", show());
  EXPECT_EQ(ask(root, "GET", "/tree").status, 301);
}

TEST(Mux, Hosts) {
  mux m;
  m.handle("/", show());
  m.handle("api.example.com/", show());
  m.handle("API.example.com/users", show());
  EXPECT_EQ(ask(m, "GET", "/x", "api.example.com").body, "api.example.com/");
  EXPECT_EQ(ask(m, "GET", "/users", "Api.Example.Com:8080").body, "API.example.com/users");
  EXPECT_EQ(ask(m, "GET", "/x", "www.example.com").body, "/");
  EXPECT_EQ(ask(m, "GET", "/x", "[::1]:80").body, "/");
}

TEST(Mux, MountUnderAnyPrefix) {
  mux inner;
  auto name = [](response_writer& w, request& r) {
    w.write(std::string(r.pattern()) + " sub=" + r.subpath() + " path=" + std::string(r.path()));
  };
  inner.handle("/", name);
  inner.handle("/pprof/", name);
  inner.handle("/pprof/{profile}", name);
  mux outer;
  outer.mount("/debug", inner);
  outer.mount("/t/{tenant}/x/", inner);
  outer.handle("/", show());
  EXPECT_EQ(ask(outer, "GET", "/debug/pprof/heap").body,
            "/pprof/{profile} sub=pprof/heap path=/debug/pprof/heap");
  EXPECT_EQ(ask(outer, "GET", "/t/7/x/pprof/heap").body,
            "/pprof/{profile} sub=pprof/heap path=/t/7/x/pprof/heap");
  EXPECT_EQ(ask(outer, "GET", "/debug/").body, "/ sub= path=/debug/");
  EXPECT_EQ(ask(outer, "GET", "/debug").field("Location"), "/debug/");
  EXPECT_EQ(ask(outer, "GET", "/debug/pprof?a=b").field("Location"), "/debug/pprof/?a=b");
  EXPECT_EQ(ask(outer, "GET", "/debugger").body, "/");

  mux plain;
  plain.mount("/raw", [](response_writer& w, request& r) { w.write(r.raw_subpath()); });
  EXPECT_EQ(ask(plain, "GET", "/raw/a%2Fb/").body, "/a%2Fb/");
  EXPECT_THROW(plain.mount("GET /x", show()), std::invalid_argument);
}

TEST(Mux, OptionsAsteriskIsAnswered) {
  mux m;
  EXPECT_EQ(ask(m, "OPTIONS", "*").status, 200);
}

TEST(Mux, MalformedPatternsAreRefusedWithTheReason) {
  const std::pair<const char*, const char*> table[] = {
      {"", "empty"},
      {"a", "has to start with '/'"},
      {"GET", "has to start with '/'"},
      {"GET x", "has to start with '/'"},
      {"G(T /", "method is not a token"},
      {"/a//b", "empty segment"},
      {"/a/../b", "'.' or '..'"},
      {"/{}", "wildcard name"},
      {"/{9}", "wildcard name"},
      {"/{a-b}", "wildcard name"},
      {"/x{a}", "fill its whole segment"},
      {"/{a}x", "fill its whole segment"},
      {"/{a", "fill its whole segment"},
      {"/a}", "fill its whole segment"},
      {"/{a}/{a}", "twice"},
      {"/{a...}/b", "not at the end"},
      {"/{$}/b", "not at the end"},
      {"/{...}", "wildcard name"},
      {"/a b", "method is not a token"},
      {"/a?b", "'?'"},
      {"GET h\"o/", "no host has"},
      {"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}", "wildcards"}};
  for (const auto& [pattern, why] : table) {
    mux m;
    std::string message = refusal(m, pattern);
    EXPECT_NE(message.find(why), std::string::npos) << pattern << ": " << message;
    EXPECT_NE(message.find(std::string("pattern \"") + pattern + "\""), std::string::npos);
  }
  mux m;
  EXPECT_THROW(m.handle("/x", handler()), std::invalid_argument);
}

TEST(Mux, ConflictsAreRefusedAndNamed) {
  const char* pairs[][2] = {
      {"/a", "/a"},         {"/a/{x}", "/a/{y}"}, {"/a/{x}/", "/a/{x}/{rest...}"},
      {"/{x}/b", "/a/{y}"}, {"GET /{x}", "/a"},   {"/a/", "/{x}/b"},
      {"GET /a", "GET /a"}, {"h/a", "h/a"},       {"GET /a/{x...}", "/a/b"}};
  for (const auto& p : pairs) {
    for (int swap : {0, 1}) {
      mux m;
      m.handle(p[swap], show());
      std::string message = refusal(m, p[1 - swap]);
      EXPECT_NE(message.find("conflicts with"), std::string::npos) << p[0] << " " << p[1];
      EXPECT_NE(message.find(p[0]), std::string::npos);
      EXPECT_NE(message.find(p[1]), std::string::npos);
    }
  }
  const char* fine[][2] = {
      {"/a", "/b"},          {"GET /a", "POST /a"},   {"/a", "/a/"},        {"/a/{x}", "/a/b"},
      {"h/a", "/a"},         {"h/{x}", "/a"},         {"/{$}", "/"},        {"GET /a", "/a"},
      {"GET /a", "HEAD /a"}, {"GET /{x}", "/{x...}"}, {"/a/{x}", "/a/{$}"}, {"/{x}/b", "/a/c"}};
  for (const auto& p : fine) {
    for (int swap : {0, 1}) {
      mux m;
      m.handle(p[swap], show());
      EXPECT_EQ(refusal(m, p[1 - swap]), "accepted") << p[0] << " " << p[1];
    }
  }
  mux m;
  m.handle("/{x}/b", show());
  EXPECT_NE(refusal(m, "/a/{y}").find("both match \"/a/b\""), std::string::npos);
}

// The comparison of patterns against the definition: enumerate short paths, collect what each
// pattern matches, derive the relation from the sets.
TEST(RoutePattern, RelationAgreesWithTheSetsOfMatchedPaths) {
  std::vector<std::string> paths = {"/"};
  for (const char* a : {"a", "b"}) {
    paths.push_back(std::string("/") + a);
    paths.push_back(std::string("/") + a + "/");
    for (const char* b : {"a", "b"}) {
      paths.push_back(std::string("/") + a + "/" + b);
      paths.push_back(std::string("/") + a + "/" + b + "/");
      for (const char* c : {"a", "b"}) {
        paths.push_back(std::string("/") + a + "/" + b + "/" + c);
        paths.push_back(std::string("/") + a + "/" + b + "/" + c + "/");
      }
    }
  }
  const char* segments[] = {"a", "b", "{}"};
  std::vector<std::string> patterns = {"/", "/{$}"};
  auto named = [](const char* s, int i) {
    return std::string(s) == "{}" ? "{w" + std::to_string(i) + "}" : std::string(s);
  };
  for (const char* a : segments) {
    for (const char* end : {"", "/", "/{$}"}) patterns.push_back("/" + named(a, 1) + end);
    for (const char* b : segments) {
      for (const char* end : {"", "/", "/{$}"}) {
        patterns.push_back("/" + named(a, 1) + "/" + named(b, 2) + end);
      }
    }
  }
  std::vector<std::vector<bool>> matched;
  for (const auto& p : patterns) {
    mux m;
    m.handle(p, show());
    matched.emplace_back();
    for (const auto& path : paths) {
      response r = ask(m, "GET", path);
      matched.back().push_back(r.status == 200);
    }
  }
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    for (std::size_t j = 0; j < patterns.size(); ++j) {
      bool both = false, only_i = false, only_j = false;
      for (std::size_t k = 0; k < paths.size(); ++k) {
        both |= matched[i][k] && matched[j][k];
        only_i |= matched[i][k] && !matched[j][k];
        only_j |= !matched[i][k] && matched[j][k];
      }
      relation expected = !both              ? relation::disjoint
                          : only_i && only_j ? relation::overlaps
                          : only_i           ? relation::more_general
                          : only_j           ? relation::more_specific
                                             : relation::equivalent;
      EXPECT_EQ(detail::compare_paths(route_pattern::parse(patterns[i]),
                                      route_pattern::parse(patterns[j])),
                expected)
          << patterns[i] << " and " << patterns[j];
    }
  }
}

}  // namespace
}  // namespace weft::http
