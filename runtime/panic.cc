// The report of an uncaught exception, in the form of Go's uncaught panic.
//
// It runs inside the throw: no frame of a task catches (weft_task_main and the body's invoke let
// exceptions pass, and unwinding information ends at the task's first frame), so the search for a
// handler fails before any frame is unwound, and the stack below is still that of the throw, with
// every destructor ahead. The exception is a spawn() whose handle was dropped: its body must catch,
// because somebody might join. Then the report's stack is that of whoever dropped the handle last.
#include "runtime/panic.h"

#include <cxxabi.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <string>
#include <typeinfo>

#include "base/check.h"
#include "scheduler/ports.h"

namespace weft::detail {
namespace {

constexpr int max_chain = 32;

std::string demangled(const std::type_info& type) {
  int status = 0;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string text = name != nullptr ? name : type.name();
  std::free(name);
  return text;
}

// One exception of the chain; `cause` becomes the one nested in it, or null.
std::string describe_one(const std::exception_ptr& e, std::exception_ptr& cause) {
  cause = nullptr;
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    if (const auto* nested = dynamic_cast<const std::nested_exception*>(&x))
      cause = nested->nested_ptr();
    std::string type = demangled(typeid(x));
    // std::throw_with_nested derives from the type thrown; it is that one which says something.
    constexpr std::string_view wrapper = "std::_Nested_exception<";
    if (type.starts_with(wrapper) && type.ends_with('>'))
      type = type.substr(wrapper.size(), type.size() - wrapper.size() - 1);
    return std::string(x.what()) + " (" + type + ")";
  } catch (const std::string& s) {
    return s;
  } catch (const char* s) {
    return s != nullptr ? s : "(null)";
  } catch (int i) {
    return "exception of type int: " + std::to_string(i);
  } catch (const std::nested_exception& n) {
    cause = n.nested_ptr();
    return "exception of type " + demangled(typeid(n));
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    return "exception of type " + (type != nullptr ? demangled(*type) : "unknown");
  }
}

void report_and_exit() {
  std::string value = "std::terminate called without an exception";
  if (std::exception_ptr e = std::current_exception()) value = describe_exception(e);
  std::string text = "panic: ";
  for (char c : value) {
    text += c;
    if (c == '\n') text += '\t';  // Go marks continuation lines so
  }
  text += "\n\n";
  base::begin_report();
  base::write_stderr(text.data(), text.size());
  const sched::report_port& port = sched::current_report_port();
  if (port.dump_current != nullptr) port.dump_current(STDERR_FILENO);
  base::end_report();
}

}  // namespace

std::string describe_exception(const std::exception_ptr& e) {
  std::exception_ptr cause;
  std::string text = describe_one(e, cause);
  for (int i = 0; cause != nullptr && i < max_chain; ++i) {
    std::exception_ptr next = std::move(cause);
    text += "\ncaused by: " + describe_one(next, cause);
  }
  return text;
}

void install_panic_report() { std::set_terminate(report_and_exit); }

}  // namespace weft::detail
