#pragma once
// What serves one request. A handler may block: each request in flight has its own task. An
// exception that leaves it answers 500, or resets the connection if the head has left already.
#include <weft/http/request.h>
#include <weft/http/response.h>

#include <functional>

namespace weft::http {

// Called from several tasks at once.
using handler = std::function<void(response_writer&, request&)>;

}  // namespace weft::http
