#pragma once
// What an uncaught exception says before it ends the process.
#include <exception>
#include <string>

namespace weft::detail {

// what() and the demangled type, one line per exception of a nested chain, outermost first:
//   it broke (std::runtime_error)
//   caused by: no such file (std::system_error)
std::string describe_exception(const std::exception_ptr& e);

// Makes std::terminate print "panic: ..." and the stacks that WEFT_TRACEBACK asks for, and end the
// process with status 2. Once, at start-up.
void install_panic_report();

}  // namespace weft::detail
