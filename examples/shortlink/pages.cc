#include "examples/shortlink/pages.h"

#include "examples/shortlink/validate.h"

namespace shortlink {
namespace {

constexpr std::string_view page_start = R"html(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>shortlink</title>
<style>
  body { font: 1.1rem/1.6 sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
  input { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem; margin-bottom: .8rem; }
  button { font: inherit; padding: .4rem 1.2rem; }
</style>
<h1>shortlink</h1>
)html";

constexpr std::string_view home = R"html(
<form method="post" action="/links">
  <label>Long URL <input name="url" type="url" required maxlength="2048" placeholder="https://example.com/"></label>
  <label>Code, if you want to choose it
    <input name="code" pattern="[A-Za-z0-9_\-]{3,32}" placeholder="my-link"></label>
  <button>Shorten</button>
</form>
<p><a href="/stats">Statistics of the service</a></p>
</html>
)html";

}  // namespace

std::string_view home_page() {
  static const std::string page = std::string(page_start) + std::string(home);
  return page;
}

std::string created_page(std::string_view short_url, std::string_view url, std::string_view code) {
  std::string short_html = escape_html(short_url), url_html = escape_html(url);
  return std::string(page_start) + "<p><a href=\"" + short_html + "\">" + short_html +
         "</a> now leads to " + url_html + "</p>\n<p><a href=\"/links/" + escape_html(code) +
         "\">Its statistics</a> · <a href=\"/\">Another one</a></p>\n</html>\n";
}

}  // namespace shortlink
