#pragma once
// Names for program counters: function, file, line, with inlined frames. See symbolize.cc.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace weft::prof {

// One source-level frame. A physical frame expands to one or more of these, innermost first.
struct frame {
  std::string name;  // demangled for display: "main", "shortlink::create(weft::http::request&)"
  std::string system_name;  // mangled linker name; equals `name` only for C functions
  std::string file;         // "" when unknown
  int line = 0;             // 0 when unknown
  int start_line = 0;       // line of the function's first instruction; 0 when unknown or inlined
  uintptr_t entry = 0;      // address of the physical function's first byte; 0 when unknown
  bool inlined = false;     // true for all but the last (physical) frame of an expansion
};

// An executable mapping of /proc/self/maps with a name.
struct mapping {
  uintptr_t start;
  uintptr_t limit;
  uint64_t offset;
  std::string filename;  // " (deleted)" removed
  std::string build_id;  // lower-case hex of NT_GNU_BUILD_ID, "" if none
};

// The frames at `pc`, innermost inlined function first, the physical function last; never empty
// (an unknown pc gives one frame whose name is ""). `pc` must lie inside the instruction meant: for
// a return address pass address - 1. Cached; the reference stays valid for the process's life.
// Takes locks, allocates and may read files: never from a signal handler. Thread-safe.
const std::vector<frame>& symbolize(uintptr_t pc);

// The executable mappings, in file order, re-read when a module came or went. Thread-safe.
std::vector<mapping> current_mappings();

// Number of distinct pcs in the cache, for metrics and tests. Thread-safe.
size_t symbol_cache_size();

}  // namespace weft::prof
