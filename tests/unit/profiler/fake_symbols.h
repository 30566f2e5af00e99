#pragma once
// A symbol table written by hand, so that what an encoder prints does not depend on how the test
// was compiled.
#include <map>
#include <string>
#include <vector>

#include "profiler/symbol_source.h"

namespace weft::prof::test {

class fake_symbols final : public symbol_source {
 public:
  // A function that is not inlined anywhere, covering one address.
  void add(uintptr_t address, std::string name, std::string file, int line, uintptr_t offset,
           std::string system_name = "") {
    frame f;
    f.system_name =
        system_name.empty() ? "_Z" + std::to_string(name.size()) + "mangled" : system_name;
    f.name = std::move(name);
    f.file = std::move(file);
    f.line = line;
    f.start_line = line > 2 ? line - 2 : line;
    f.entry = address - offset;
    table_[address] = {f};
  }

  // A function inlined at an address that add() named: the first call gives the innermost one.
  void inline_at(uintptr_t address, std::string name, std::string file, int line,
                 std::string system_name = "") {
    std::vector<frame>& frames = table_.at(address);
    frame f = frames.back();
    f.system_name =
        system_name.empty() ? "_Z" + std::to_string(name.size()) + "inlined" : system_name;
    f.name = std::move(name);
    f.file = std::move(file);
    f.line = line;
    f.inlined = true;
    frames.insert(frames.end() - 1, f);
  }

  const std::vector<frame>& frames(uintptr_t pc) const override {
    ++lookups;
    const auto entry = table_.find(pc);
    return entry != table_.end() ? entry->second : unknown_;
  }
  std::vector<mapping> mappings() const override { return maps; }
  std::string main_binary() const override { return main; }

  std::vector<mapping> maps;
  std::string main;
  mutable size_t lookups = 0;

 private:
  std::map<uintptr_t, std::vector<frame>> table_;
  std::vector<frame> unknown_{frame{}};
};

}  // namespace weft::prof::test
