#pragma once
// I/O operations under a context.
#include <weft/context.h>
#include <weft/result.h>

#include "runtime/timed_wait.h"

namespace weft::net {

// operation(stop) with the source that cancels it, null if nothing can; the operation's
// errc::canceled becomes the context's own error.
template <class Operation>
auto under(const context& ctx, Operation operation) {
  auto r = operation(detail::limit_of(ctx).cancellation);
  if (!r && r.error() == make_error_code(errc::canceled)) r = ctx.err();
  return r;
}

}  // namespace weft::net
