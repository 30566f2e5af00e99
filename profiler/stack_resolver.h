#pragma once
// From a stack of program counters to the source-level frames that a reader should see.
//
// One resolver serves one output (a profile, a text page, a dump): it symbolizes each address once,
// remembers whether the frame is the program's or the runtime's, and applies the two hiding rules
// of Go's tools that weft keeps (runtime_frames.h says which names they mean):
//   - the root: what lies between the thread of control's first instruction and the task's
//   function;
//   - the leaf, where the format asks for it: runtime-internal frames below the public API call,
//   and in heap profiles the functions that allocate.
// A stack that consists of nothing else is shown whole.
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "profiler/runtime_frames.h"
#include "profiler/sample_set.h"
#include "profiler/symbol_source.h"

namespace weft::prof {

enum class leaf_frames : uint8_t {
  all,
  hide_runtime,
  hide_allocation,  // and malloc, operator new, std::allocator: an allocation's leaf is who asked
};

struct resolved_frame {
  const frame* source = nullptr;
  uintptr_t address = 0;  // the address that was symbolized
  uint32_t position = 0;  // index into the stack's pcs
  uint32_t line = 0;      // index into the address's expansion, 0 = innermost
  uint32_t id = 0;        // dense, one per (address, line) of this resolver: for side tables
  frame_kind kind = frame_kind::user;
};

// Not thread-safe.
class stack_resolver {
 public:
  explicit stack_resolver(const symbol_source& symbols) : symbols_(symbols) {}

  // Visible frames, leaf first; inlined functions before the function they were inlined into. Empty
  // only for an empty stack. The span is valid until the next call.
  std::span<const resolved_frame> resolve(const stack_view& stack, leaf_frames leaf);

  // The frames at one address, nothing hidden. The span is valid until the next call.
  std::span<const resolved_frame> resolve_address(uintptr_t address);

  const symbol_source& symbols() const { return symbols_; }

 private:
  const std::vector<resolved_frame>& expansion(uintptr_t address);

  const symbol_source& symbols_;
  std::unordered_map<uintptr_t, std::vector<resolved_frame>> cache_;
  std::vector<resolved_frame> scratch_;
  uint32_t next_id_ = 0;
};

}  // namespace weft::prof
