#include "examples/shortlink/replies.h"

#include <boost/json.hpp>
#include <string>

namespace shortlink {

// A peer that is gone is no fault of a handler's: whether the answer could be delivered is ignored
// here.

void reply_json(weft::http::response_writer& w, int status, const boost::json::value& document) {
  (void)w.respond(status, "application/json", boost::json::serialize(document) + "\n");
}

void reply_error(weft::http::response_writer& w, int status, std::string_view message) {
  reply_json(w, status, {{"error", boost::json::string_view(message.data(), message.size())}});
}

void reply_html(weft::http::response_writer& w, int status, std::string_view page) {
  w.header("Content-Security-Policy",
           "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'");
  (void)w.respond(status, "text/html; charset=utf-8", page);
}

}  // namespace shortlink
