#pragma once
// What the dynamic linker has loaded. Private to the unwinder and the symbolizer. Normal threads
// only: everything here takes the dynamic linker's lock, and most of it allocates.
#include <link.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace weft::prof {

// How many modules have ever been loaded and unloaded. Reading it costs some ten nanoseconds; equal
// counters mean an unchanged set of modules.
struct module_counters {
  unsigned long long loads = 0;
  unsigned long long unloads = 0;

  friend bool operator==(const module_counters&, const module_counters&) = default;
};
module_counters count_module_changes();

// One module; two equal ones are the same file at the same place.
struct loaded_module_info {
  uintptr_t lo = 0;  // the hull of its loaded segments
  uintptr_t hi = 0;
  std::string name;      // the linker's: "" for the executable
  std::string build_id;  // lower-case hex of NT_GNU_BUILD_ID, "" if none

  friend bool operator==(const loaded_module_info&, const loaded_module_info&) = default;
};
std::vector<loaded_module_info> list_modules();

// The NT_GNU_BUILD_ID bytes of a module in lower-case hex, "" if it has none.
std::string build_id_of(const dl_phdr_info& info);

}  // namespace weft::prof
