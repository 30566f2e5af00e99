#pragma once
// Stacks that a probe takes begin with the runtime's own frames, and which ones depends on the
// probe: a wait that is over was recorded a few calls further on than one that is captured in
// progress. Without them the two are the same stack, so that their samples add up and the
// differences of two profiles come out right.
#include "profiler/stack_resolver.h"

namespace weft::prof {

class leaf_trim {
 public:
  explicit leaf_trim(const symbol_source& symbols = process_symbols()) : resolver_(symbols) {}

  // The part of `stack` from the first frame on that a reader gets to see.
  stack_view operator()(const stack_view& stack) {
    const auto visible = resolver_.resolve(stack, leaf_frames::hide_runtime);
    if (visible.empty()) return stack;
    return from(stack, visible.front().position);
  }

  // The same for a thread that was interrupted in the runtime: what lies below the runtime's first
  // frame, in the system's libraries, goes too.
  stack_view interrupted(const stack_view& stack) {
    constexpr size_t most_system_frames = 8;
    const size_t most = std::min(stack.pcs.size(), most_system_frames);
    for (size_t i = 0; i < most; ++i) {
      for (const resolved_frame& f : resolver_.resolve_address(stack.address(i)))
        if (f.kind == frame_kind::runtime) return (*this)(from(stack, i));
    }
    return stack;
  }

 private:
  static stack_view from(const stack_view& stack, size_t first) {
    return {stack.pcs.subspan(first), stack.leaf_is_exact && first == 0, stack.truncated};
  }

  stack_resolver resolver_;
};

}  // namespace weft::prof
