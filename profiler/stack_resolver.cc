#include "profiler/stack_resolver.h"

namespace weft::prof {

const std::vector<resolved_frame>& stack_resolver::expansion(uintptr_t address) {
  auto [entry, inserted] = cache_.try_emplace(address);
  if (!inserted) return entry->second;
  uint32_t line = 0;
  for (const frame& f : symbols_.frames(address)) {
    entry->second.push_back({&f, address, 0, line++, next_id_++, classify_frame(f.name, f.file)});
  }
  return entry->second;
}

std::span<const resolved_frame> stack_resolver::resolve_address(uintptr_t address) {
  return expansion(address);
}

std::span<const resolved_frame> stack_resolver::resolve(const stack_view& stack, leaf_frames leaf) {
  scratch_.clear();
  for (size_t i = 0; i < stack.pcs.size(); ++i) {
    for (resolved_frame f : expansion(stack.address(i))) {
      f.position = static_cast<uint32_t>(i);
      scratch_.push_back(f);
    }
  }
  size_t begin = 0;
  size_t end = scratch_.size();
  // The root of a truncated stack is somewhere in the middle of the program.
  if (!stack.truncated && end > 0 && scratch_[end - 1].kind == frame_kind::runtime) {
    while (end > 0 && scratch_[end - 1].kind != frame_kind::user) --end;
  }
  const auto hidden = [leaf](const resolved_frame& f) {
    if (leaf == leaf_frames::all) return false;
    return f.kind == frame_kind::runtime || (leaf == leaf_frames::hide_allocation &&
                                             is_allocation_frame(f.source->name, f.source->file));
  };
  while (begin < end && hidden(scratch_[begin])) ++begin;
  if (begin == end) return scratch_;
  return std::span(scratch_).subspan(begin, end - begin);
}

}  // namespace weft::prof
