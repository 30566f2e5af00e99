#pragma once
#include <string>

namespace weft::debug {

// Starts the server that WEFT_DEBUG_ADDR asks for, if any; an address that does not work ends the
// process with a message. Once, at start-up.
void serve_from_environment();

}  // namespace weft::debug
