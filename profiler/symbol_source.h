#pragma once
// Where an encoder gets names from: the process itself, or a table in a test.
#include <string>
#include <vector>

#include "profiler/symbolize.h"

namespace weft::prof {

class symbol_source {
 public:
  virtual ~symbol_source() = default;

  // As symbolize(): never empty, innermost inlined function first. The reference must stay valid as
  // long as the source does, because encoders keep it.
  virtual const std::vector<frame>& frames(uintptr_t pc) const = 0;

  // As current_mappings(); empty when the process's mappings cannot be read.
  virtual std::vector<mapping> mappings() const = 0;

  // Path of the executable as it appears in mappings(); "" when unknown.
  virtual std::string main_binary() const = 0;
};

// Names of this process, through symbolize(). Thread-safe; lives for ever.
const symbol_source& process_symbols();

}  // namespace weft::prof
