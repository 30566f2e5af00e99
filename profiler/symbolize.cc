// Program counters to names.
//
// Shape      symbolize() looks in the cache under a shared lock; a miss takes the lock exclusively,
//            asks libbacktrace for the inline expansion (DWARF) and the ELF symbol, and keeps the
//            answer forever. Names come, best first, from: the ELF symbol (.symtab, else .dynsym;
//            also of separate debug files), the DWARF function name, dladdr (which alone knows the
//            vdso).
// Names      The physical function is named by its ELF symbol, because that is complete: DWARF at
//            -g1 has no linkage names for some functions, only the unqualified ones. Inlined
//            functions have no symbol and get what DWARF says.
// Modules    libbacktrace reads the list of modules once per state and a state cannot be freed. So
//            a new state is made only when a pc lies in a module that the current state has not
//            seen; after that the old ones are unused. When a module leaves, its pcs are forgotten,
//            since another one may come to the same address; their frames stay allocated, because
//            callers hold references.
// Why        libbacktrace: 36 us per pc with inlined frames, no package beyond gcc. libdw is 80 s
//            for the same 10 000 pcs unless one writes an index; dladdr sees exported functions
//            only.
// Locks      one shared_mutex over cache and states. Parallel misses would gain little: they are
//            rare once a profile has been taken, and the first one loads the DWARF for everybody.
// Tests      tests/unit/profiler/symbolize_test.cc
#include "profiler/symbolize.h"

#include <backtrace.h>
#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "profiler/backtrace_sort.h"
#include "profiler/modules.h"

namespace weft::prof {
namespace {

using expansion = std::vector<frame>;

// The reference that links backtrace_sort.cc instead of libbacktrace's own sort.
[[gnu::used]] constexpr auto mended_sort = &backtrace_qsort;

// What libbacktrace tells through its callbacks. It reports "no debug info" as an error, which is
// an ordinary outcome here: the caller falls back to the next source of names.
void ignore_error(void* /*data*/, const char* /*message*/, int /*error*/) {}

int add_frame(void* data, uintptr_t /*pc*/, const char* file, int line, const char* function) {
  auto& frames = *static_cast<expansion*>(data);
  // libbacktrace says "nothing known" by a callback with all fields empty.
  if (file == nullptr && line == 0 && function == nullptr) return 0;
  frame f;
  if (function != nullptr) f.system_name = function;
  if (file != nullptr) f.file = file;
  f.line = line;
  frames.push_back(std::move(f));
  return 0;
}

struct elf_symbol {
  std::string name;
  uintptr_t entry = 0;
};

void take_symbol(void* data, uintptr_t /*pc*/, const char* name, uintptr_t value,
                 uintptr_t /*size*/) {
  if (name != nullptr) *static_cast<elf_symbol*>(data) = {name, value};
}

// "_ZN3foo3barEv.cold" -> "foo::bar()". A name that is not mangled stays as it is.
std::string display_name(const std::string& system_name) {
  if (!system_name.starts_with("_Z")) return system_name;
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(system_name.c_str(), nullptr, nullptr, &status), &std::free);
  if (status != 0 || demangled == nullptr) return system_name;
  std::string name = demangled.get();
  // gcc splits functions into parts; which part it was is visible in the system name.
  size_t clone = name.find(" [clone ");
  if (clone != std::string::npos) name.resize(clone);
  return name;
}

class symbolizer {
 public:
  const expansion& lookup(uintptr_t pc);
  size_t size() {
    std::shared_lock lock(mutex_);
    return cache_.size();
  }

 private:
  void notice_module_changes();
  backtrace_state* state_for(const loaded_module_info& module);
  expansion resolve(uintptr_t pc);
  elf_symbol symbol_at(backtrace_state* state, uintptr_t pc);
  int start_line_of(backtrace_state* state, uintptr_t entry);

  std::shared_mutex mutex_;
  std::unordered_map<uintptr_t, std::unique_ptr<const expansion>> cache_;
  std::unordered_map<uintptr_t, int> start_lines_;           // by entry address
  std::vector<std::unique_ptr<const expansion>> forgotten_;  // of unloaded modules
  module_counters counters_;                                 // of the modules below
  std::vector<loaded_module_info> modules_;                  // loaded now
  std::vector<loaded_module_info> state_modules_;            // known to state_
  backtrace_state* state_ = nullptr;
};

const expansion& symbolizer::lookup(uintptr_t pc) {
  const module_counters now = count_module_changes();
  {
    std::shared_lock lock(mutex_);
    if (counters_ == now) {
      auto it = cache_.find(pc);
      if (it != cache_.end()) return *it->second;
    }
  }
  std::lock_guard lock(mutex_);
  if (counters_ != now) notice_module_changes();
  auto it = cache_.find(pc);
  if (it == cache_.end()) {
    it = cache_.emplace(pc, std::make_unique<const expansion>(resolve(pc))).first;
  }
  return *it->second;
}

void symbolizer::notice_module_changes() {
  const module_counters now = count_module_changes();
  std::vector<loaded_module_info> present = list_modules();
  std::vector<loaded_module_info> changed;  // places where a module came or went
  auto note_missing = [&](const std::vector<loaded_module_info>& from,
                          const std::vector<loaded_module_info>& in) {
    for (const loaded_module_info& m : from) {
      if (std::find(in.begin(), in.end(), m) == in.end()) changed.push_back(m);
    }
  };
  note_missing(modules_, present);
  note_missing(present, modules_);
  auto moved = [&](uintptr_t pc) {
    return std::any_of(changed.begin(), changed.end(),
                       [&](const loaded_module_info& m) { return pc >= m.lo && pc < m.hi; });
  };
  for (auto it = cache_.begin(); it != cache_.end();) {
    if (moved(it->first)) {
      forgotten_.push_back(std::move(it->second));
      it = cache_.erase(it);
    } else {
      ++it;
    }
  }
  std::erase_if(start_lines_, [&](const auto& item) { return moved(item.first); });
  modules_ = std::move(present);
  counters_ = now;
}

// A state that knows the module; null if libbacktrace cannot read the program at all.
backtrace_state* symbolizer::state_for(const loaded_module_info& module) {
  bool known =
      std::find(state_modules_.begin(), state_modules_.end(), module) != state_modules_.end();
  if (state_ == nullptr || !known) {
    // threaded = 1: the state must not assume that its caller is the process's only thread.
    state_ = backtrace_create_state(nullptr, 1, ignore_error, nullptr);
    state_modules_ = modules_;
  }
  return state_;
}

elf_symbol symbolizer::symbol_at(backtrace_state* state, uintptr_t pc) {
  elf_symbol symbol;
  if (state != nullptr) backtrace_syminfo(state, pc, take_symbol, ignore_error, &symbol);
  if (!symbol.name.empty()) return symbol;
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(pc), &info) != 0 && info.dli_sname != nullptr) {
    symbol = {info.dli_sname, reinterpret_cast<uintptr_t>(info.dli_saddr)};
  }
  return symbol;
}

// The line table's row for the entry instruction is the line of the definition. When an inlined
// function begins right there the row belongs to that one, so the line is left unknown.
int symbolizer::start_line_of(backtrace_state* state, uintptr_t entry) {
  if (state == nullptr || entry == 0) return 0;
  auto [it, inserted] = start_lines_.try_emplace(entry, 0);
  if (inserted) {
    expansion at_entry;
    backtrace_pcinfo(state, entry, add_frame, ignore_error, &at_entry);
    if (at_entry.size() == 1) it->second = at_entry.front().line;
  }
  return it->second;
}

expansion symbolizer::resolve(uintptr_t pc) {
  expansion frames;
  auto module = std::find_if(modules_.begin(), modules_.end(),
                             [&](const loaded_module_info& m) { return pc >= m.lo && pc < m.hi; });
  if (module == modules_.end()) {  // the state may remember a module that has left this place
    frames.emplace_back();
    return frames;
  }
  backtrace_state* state = state_for(*module);
  if (state != nullptr) backtrace_pcinfo(state, pc, add_frame, ignore_error, &frames);
  if (frames.empty()) frames.emplace_back();
  for (size_t i = 0; i + 1 < frames.size(); ++i) frames[i].inlined = true;

  frame& physical = frames.back();
  elf_symbol symbol = symbol_at(state, pc);
  if (!symbol.name.empty()) {
    physical.system_name = std::move(symbol.name);
    physical.entry = symbol.entry;
    if (physical.line != 0) physical.start_line = start_line_of(state, symbol.entry);
  }
  for (frame& f : frames) {
    f.name = display_name(f.system_name);
    f.entry = physical.entry;
  }
  return frames;
}

// Never destroyed: dumps are written until the last moment of the process.
symbolizer& the_symbolizer() {
  static symbolizer* const instance = new symbolizer;
  return *instance;
}

}  // namespace

const std::vector<frame>& symbolize(uintptr_t pc) { return the_symbolizer().lookup(pc); }

size_t symbol_cache_size() { return the_symbolizer().size(); }

}  // namespace weft::prof
