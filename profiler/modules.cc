// The dynamic linker's module list and /proc/self/maps.
#include "profiler/modules.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <utility>

#include "profiler/symbolize.h"

namespace weft::prof {
namespace {

int read_counters(dl_phdr_info* info, size_t size, void* out) {
  if (size >= offsetof(dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs) {
    *static_cast<module_counters*>(out) = {info->dlpi_adds, info->dlpi_subs};
  }
  return 1;  // the counters are the same in every entry
}

int add_info(dl_phdr_info* info, size_t /*size*/, void* out) {
  loaded_module_info module;
  module.name = info->dlpi_name;
  module.build_id = build_id_of(*info);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD) continue;
    uintptr_t lo = info->dlpi_addr + header.p_vaddr;
    module.lo = module.hi == 0 ? lo : std::min(module.lo, lo);
    module.hi = std::max(module.hi, lo + header.p_memsz);
  }
  static_cast<std::vector<loaded_module_info>*>(out)->push_back(std::move(module));
  return 0;
}

// One line of /proc/self/maps: "start-limit perms offset device inode   name". False for a mapping
// that is not executable or has no name.
bool parse_mapping(const std::string& line, mapping& out) {
  unsigned long start = 0, limit = 0;
  unsigned long long offset = 0;
  char permissions[5] = {};
  int name_at = 0;
  if (std::sscanf(line.c_str(), "%lx-%lx %4s %llx %*s %*s %n", &start, &limit, permissions, &offset,
                  &name_at) != 4 ||
      name_at == 0 || permissions[2] != 'x' || static_cast<size_t>(name_at) >= line.size()) {
    return false;
  }
  constexpr std::string_view deleted = " (deleted)";
  out = {start, limit, offset, line.substr(static_cast<size_t>(name_at)), {}};
  if (out.filename.ends_with(deleted)) out.filename.resize(out.filename.size() - deleted.size());
  return true;
}

std::vector<mapping> read_mappings() {
  std::vector<mapping> mappings;
  const std::vector<loaded_module_info> modules = list_modules();
  std::ifstream maps("/proc/self/maps");
  std::string line;
  mapping m;
  while (std::getline(maps, line)) {
    if (!parse_mapping(line, m)) continue;
    for (const loaded_module_info& module : modules) {
      if (m.start < module.hi && m.limit > module.lo) m.build_id = module.build_id;
    }
    mappings.push_back(std::move(m));
  }
  // As Go does where there is no /proc: one mapping without any property.
  if (mappings.empty()) mappings.push_back({0, 0, 0, {}, {}});
  return mappings;
}

}  // namespace

module_counters count_module_changes() {
  module_counters counters;
  dl_iterate_phdr(read_counters, &counters);
  return counters;
}

std::vector<loaded_module_info> list_modules() {
  std::vector<loaded_module_info> modules;
  dl_iterate_phdr(add_info, &modules);
  return modules;
}

std::string build_id_of(const dl_phdr_info& info) {
  constexpr uint32_t nt_gnu_build_id = 3;
  constexpr char digits[] = "0123456789abcdef";
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info.dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const char* note = reinterpret_cast<const char*>(info.dlpi_addr + header.p_vaddr);
    for (size_t left = header.p_memsz; left >= sizeof(ElfW(Nhdr));) {
      ElfW(Nhdr) head;
      std::memcpy(&head, note, sizeof head);
      const size_t name_size = (size_t{head.n_namesz} + 3) & ~size_t{3};
      const size_t value_size = (size_t{head.n_descsz} + 3) & ~size_t{3};
      const size_t size = sizeof head + name_size + value_size;
      if (size > left) break;
      const char* name = note + sizeof head;
      if (head.n_type == nt_gnu_build_id && head.n_namesz == 4 &&
          std::memcmp(name, "GNU", 4) == 0) {
        std::string hex;
        for (size_t byte = 0; byte < head.n_descsz; ++byte) {
          const auto value = static_cast<unsigned char>(name[name_size + byte]);
          hex += digits[value >> 4];
          hex += digits[value & 15];
        }
        return hex;
      }
      note += size;
      left -= size;
    }
  }
  return {};
}

std::vector<mapping> current_mappings() {
  static std::mutex mutex;
  static std::vector<mapping>* const cached = new std::vector<mapping>;
  static module_counters cached_at;
  const module_counters now = count_module_changes();
  std::lock_guard lock(mutex);
  if (cached->empty() || cached_at != now) {
    *cached = read_mappings();
    cached_at = now;
  }
  return *cached;
}

}  // namespace weft::prof
