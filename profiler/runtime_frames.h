#pragma once
// Which frames belong to the runtime's machinery and not to the program, told by name alone. This
// is weft's counterpart of two rules of Go: names that start with "runtime." are hidden at the leaf
// of a stack, and runtime.goexit is never shown at its root.
#include <cstdint>
#include <string_view>

namespace weft::prof {

enum class frame_kind : uint8_t {
  user,      // the program, libraries, and weft's public API: weft::chan<int>::recv()
  runtime,   // weft's inside: weft::sched::, weft::detail::, context-switch assembly
  plumbing,  // std::invoke and its kin: hidden only between a task's entry and the task's function
};

// The kind of a function by its display name (demangled, with or without return type).
frame_kind classify_frame(std::string_view name);

// The same for a source-level frame. Under -g1 compilers give inlined functions no scope:
// "raw_switch" for weft::sched::raw_switch. Such a name is judged by the file it is defined in.
frame_kind classify_frame(std::string_view name, std::string_view file);

inline bool is_runtime_frame(std::string_view name) {
  return classify_frame(name) == frame_kind::runtime;
}

// True for weft::go, weft::spawn and their like: a "created by" line names the function that called
// them, also when the compiler inlined them into it.
bool is_spawn_frame(std::string_view name, std::string_view file = {});

// True for malloc, operator new and what the standard library has between them and a container:
// whoever called them is the one that allocates.
bool is_allocation_frame(std::string_view name, std::string_view file = {});

// A demangled name without its return type: "void weft::go<f>(f)" gives "weft::go<f>(f)".
std::string_view without_return_type(std::string_view name);

// A demangled name without return type, parameter list and what follows it: "void a::f<int>(int)
// const" gives "a::f<int>"; parameter lists of enclosing functions stay
// ("run()::{lambda(int)#1}::operator()").
std::string_view without_parameters(std::string_view name);

}  // namespace weft::prof
