#include "profiler/runtime_frames.h"

#include <cctype>

namespace weft::prof {
namespace {

struct prefix_kind {
  std::string_view prefix;
  frame_kind kind;
};

// A prefix that ends in a letter matches a whole identifier only.
constexpr prefix_kind prefixes[] = {
    {"weft::sched::", frame_kind::runtime},
    {"weft::detail::", frame_kind::runtime},
    {"weft::prof::", frame_kind::runtime},
    {"weft::gc::detail::", frame_kind::runtime},
    {"weft::base::", frame_kind::runtime},
    {"weft::heap::", frame_kind::runtime},
    {"weft_switch", frame_kind::runtime},
    {"weft_context_entry", frame_kind::runtime},
    {"weft_task_main", frame_kind::runtime},
    {"make_fcontext", frame_kind::runtime},
    {"jump_fcontext", frame_kind::runtime},
    {"ontop_fcontext", frame_kind::runtime},
    // Process entry: no line table covers it, and one such frame would make the whole main binary
    // count as unresolved.
    {"_start", frame_kind::runtime},
    {"std::invoke", frame_kind::plumbing},
    {"std::__invoke", frame_kind::plumbing},
    {"std::__invoke_impl", frame_kind::plumbing},
    {"std::__invoke_r", frame_kind::plumbing},
    {"std::apply", frame_kind::plumbing},
    {"std::__apply_impl", frame_kind::plumbing},
    {"std::_Function_handler", frame_kind::plumbing},
    {"std::function", frame_kind::plumbing},
    {"std::move_only_function", frame_kind::plumbing},
};

constexpr std::string_view spawn_functions[] = {
    "weft::go", "weft::spawn", "weft::run", "weft::task_group::go", "weft::task_group::spawn",
};

bool is_identifier(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

bool matches(std::string_view path, std::string_view prefix) {
  if (!path.starts_with(prefix)) return false;
  return path.size() == prefix.size() || !is_identifier(prefix.back()) || prefix.back() == '_' ||
         !is_identifier(path[prefix.size()]);
}

// Where the parts of a demangled name are.
struct name_parts {
  size_t path = 0;                             // after the return type
  size_t parameters = std::string_view::npos;  // the '(' of the function's own parameter list
};

// Length of the operator token at name[at...]: "operator()", "operator<<", "operator new"; or 0.
size_t operator_token(std::string_view name, size_t at) {
  constexpr std::string_view word = "operator";
  if (!name.substr(at).starts_with(word)) return 0;
  if (at > 0 && is_identifier(name[at - 1])) return 0;
  size_t end = at + word.size();
  if (end < name.size() && is_identifier(name[end])) return 0;
  if (name.substr(end).starts_with("()")) return end + 2 - at;
  while (end < name.size() &&
         std::string_view("<>=!+-*/%^&|~,[]").find(name[end]) != std::string_view::npos)
    ++end;
  return end - at;
}

name_parts parse(std::string_view name) {
  constexpr std::string_view anonymous = "(anonymous namespace)";
  name_parts parts;
  int depth = 0;
  bool in_return_type = true;
  for (size_t i = 0; i < name.size();) {
    if (size_t length = operator_token(name, i)) {
      // In "operator bool" the blank is part of the name.
      if (depth == 0) in_return_type = false;
      i += length;
      continue;
    }
    if (name.substr(i).starts_with(anonymous)) {
      i += anonymous.size();
      continue;
    }
    const char c = name[i];
    if (c == '(' && depth == 0) {
      std::string_view before = name.substr(0, i);
      while (before.ends_with(' ')) before.remove_suffix(1);
      if (!before.ends_with("decltype")) {
        in_return_type = false;
        parts.parameters = i;
      }
    }
    if (c == ' ' && depth == 0 && in_return_type) parts.path = i + 1;
    if (c == '(' || c == '<' || c == '{' || c == '[') ++depth;
    if (c == ')' || c == '}' || c == ']' || (c == '>' && (i == 0 || name[i - 1] != '-'))) {
      --depth;
      // "f(int)::local" goes on inside f, "(*T).Method" is Go's: neither is the parameter list.
      const std::string_view rest = name.substr(i + 1);
      const bool ends_name = rest.empty() || rest.starts_with(' ') || rest.starts_with('&');
      if (depth == 0 && c == ')' && !ends_name) parts.parameters = std::string_view::npos;
    }
    ++i;
  }
  return parts;
}

// Where weft's sources were compiled, with the final slash: this file's path less its own part.
std::string_view source_root() {
  constexpr std::string_view here = __FILE__;
  constexpr std::string_view own = "profiler/runtime_frames.cc";
  static_assert(here.ends_with(own));
  return here.substr(0, here.size() - own.size());
}

}  // namespace

std::string_view without_return_type(std::string_view name) {
  return name.substr(parse(name).path);
}

std::string_view without_parameters(std::string_view name) {
  const name_parts parts = parse(name);
  if (parts.parameters == std::string_view::npos || parts.parameters <= parts.path) {
    return name.substr(parts.path);
  }
  return name.substr(parts.path, parts.parameters - parts.path);
}

frame_kind classify_frame(std::string_view name) {
  const std::string_view path = without_return_type(name);
  for (const prefix_kind& entry : prefixes) {
    if (matches(path, entry.prefix)) return entry.kind;
  }
  return frame_kind::user;
}

frame_kind classify_frame(std::string_view name, std::string_view file) {
  const std::string_view path = without_return_type(name);
  // A "::" among template arguments is not the function's scope.
  const std::string_view bare = without_parameters(name);
  const bool scoped = bare.substr(0, bare.find('<')).find("::") != std::string_view::npos;
  if (scoped || file.empty() || path.starts_with("weft_")) return classify_frame(name);
  if (file.find("weft/detail/") != std::string_view::npos) return frame_kind::runtime;
  if (!file.starts_with(source_root())) return classify_frame(name);
  file.remove_prefix(source_root().size());
  for (std::string_view folder :
       {"base/", "scheduler/", "gc/", "runtime/", "profiler/", "weft/malloc/"}) {
    if (file.starts_with(folder) && file.find("/include/weft/") == std::string_view::npos)
      return frame_kind::runtime;
  }
  return classify_frame(name);
}

bool is_spawn_frame(std::string_view name, std::string_view file) {
  const std::string_view path = without_parameters(name);
  if (path.find("::") == std::string_view::npos || path.find("::") > path.find('<')) {
    // Inlined under -g1, so without its scope.
    const bool ours = file.ends_with("weft/task.h") || file.ends_with("weft/wait_group.h");
    for (std::string_view function : {"go_impl", "go", "spawn"}) {
      if (ours && matches(path, function)) return true;
    }
  }
  for (std::string_view function : spawn_functions) {
    if (!path.starts_with(function)) continue;
    // What follows must be nothing or one template argument list: a lambda inside weft::run, for
    // example, is the program's own function.
    const std::string_view rest = path.substr(function.size());
    if (rest.empty()) return true;
    if (!rest.starts_with('<')) continue;
    int depth = 0;
    size_t end = 0;
    while (end < rest.size()) {
      const char c = rest[end++];
      if (c == '<') ++depth;
      if (c == '>' && rest[end - 2] != '-' && --depth == 0) break;
    }
    if (end == rest.size()) return true;
  }
  return false;
}

bool is_allocation_frame(std::string_view name, std::string_view file) {
  constexpr std::string_view functions[] = {
      "malloc",        "calloc",         "realloc",        "reallocarray",
      "aligned_alloc", "memalign",       "valloc",         "posix_memalign",
      "operator new",  "operator new[]", "weft::gc::make", "weft::gc::make_array"};
  // Template arguments follow these.
  constexpr std::string_view members[] = {"std::__new_allocator<", "std::allocator<",
                                          "std::allocator_traits<", "__gnu_cxx::new_allocator<"};
  // Under -g1 inlined functions have no scope but a file.
  constexpr std::string_view files[] = {"bits/new_allocator.h", "ext/new_allocator.h",
                                        "bits/alloc_traits.h", "bits/allocator.h"};
  const std::string_view path = without_parameters(name);
  for (std::string_view function : functions) {
    if (path == function || (path.starts_with(function) && path[function.size()] == '<'))
      return true;
  }
  for (std::string_view member : members) {
    if (path.starts_with(member)) return true;
  }
  for (std::string_view source : files) {
    if (file.ends_with(source)) return true;
  }
  if (file.ends_with("weft/gc/gc.h") &&
      (path.starts_with("make<") || path.starts_with("make_array<")))
    return true;
  // The collected heap's inside, which public headers only call.
  if (path.starts_with("weft::gc::") && file.find("include/weft/gc/") == std::string_view::npos)
    return true;
  return path == "_M_allocate" ||
         (path.starts_with("std::_Vector_base<") && path.ends_with(">::_M_allocate"));
}

}  // namespace weft::prof
