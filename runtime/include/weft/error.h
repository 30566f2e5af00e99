#pragma once
// Misuse of a primitive, as an exception with the text that Go's panic has.
#include <stdexcept>

namespace weft {

// Thrown for what Go answers with a recoverable panic: "send on closed channel", "close of nil
// channel", "sync: negative WaitGroup counter", ... Uncaught, it ends the process with a report,
// exit status 2.
class panic_error : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

}  // namespace weft
