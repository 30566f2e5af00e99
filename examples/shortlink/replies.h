#pragma once
// The forms in which the service answers.
#include <weft/http/response.h>

#include <boost/json/value.hpp>
#include <string_view>

namespace shortlink {

void reply_json(weft::http::response_writer& w, int status, const boost::json::value& document);
// {"error": message}
void reply_error(weft::http::response_writer& w, int status, std::string_view message);
void reply_html(weft::http::response_writer& w, int status, std::string_view page);

}  // namespace shortlink
