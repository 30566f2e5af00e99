// Call frame information -> compact rows: the half of the unwinder that may allocate.
//
// Shape      cfi.cc runs each function's CFA program once. Every pc range with one set of rules
//            becomes one row of 8 bytes; equal neighbours merge (a function starts as its
//            predecessor ends: CFA = rsp + 8). What does not fit 4 bytes of rules goes into a small
//            side array of extended rules. An index with the row of every 512th byte keeps the
//            search within a cache line or two. Debian's libc and libstdc++ with an executable: 63
//            000 rows, 520 KB, 3 ms.
// Why        An interpreter that runs CFA programs in the handler costs 170-500 ns per frame and
//            needs locks or the loader's structures; a row costs a search and two loads.
// Invariants [T1] rows are sorted by pc, the first has pc 0, so every offset below size() has a
//            row.
// Tests      tests/unit/profiler/unwind_table_test.cc, unwind_test.cc. Reading on: unwind.cc
#include "profiler/unwind_table.h"

#include <algorithm>
#include <map>
#include <utility>

namespace weft::prof {
namespace {

constexpr uint16_t pack(cfa_kind kind, uint32_t payload) {
  return static_cast<uint16_t>((payload << 3) | static_cast<uint32_t>(kind));
}
constexpr uint16_t pack(stop_reason reason) {
  return pack(cfa_kind::stop, static_cast<uint32_t>(reason));
}
constexpr uint32_t max_payload = (1u << 13) - 1;

// The longest space between two functions that counts as padding, not as code without CFI.
constexpr uint32_t max_padding = 15;

}  // namespace

class unwind_table_builder {
 public:
  explicit unwind_table_builder(const module_image& module) : module_(module), cfi_(module) {}

  unwind_table build();

 private:
  using rules = unwind_row;  // with pc unused

  void add_function(const function_cfi& function);
  rules encode(const frame_state& state, bool signal_frame);
  rules encode_extended(const frame_state& state, bool signal_frame);
  void emit(uintptr_t pc, rules rule);

  const module_image& module_;
  cfi_reader cfi_;
  unwind_table table_;
  std::map<extended_rule, uint32_t> extended_ids_;
  uintptr_t covered_to_ = 0;
};

void unwind_table_builder::add_function(const function_cfi& function) {
  if (function.lo > covered_to_ + max_padding) {
    emit(covered_to_, {0, pack(stop_reason::no_function), 0, 0});
  }
  bool good = cfi_.run(function, [&](uintptr_t pc, const frame_state& state) {
    emit(pc, encode(state, function.signal_frame));
  });
  // Takes the place of whatever the malformed program has emitted.
  if (!good) emit(function.lo, {0, pack(stop_reason::unsupported), 0, 0});
  covered_to_ = std::max(covered_to_, function.hi);
}

unwind_table_builder::rules unwind_table_builder::encode(const frame_state& state,
                                                         bool signal_frame) {
  using place = register_rule::place;
  if (state.rip.where == place::undefined) return {0, pack(stop_reason::outermost), 0, 0};
  // glibc's __restore_rt: all registers relative to the ucontext_t at rsp.
  constexpr int32_t ucontext_rsp = 160;
  if (signal_frame && state.cfa.how == cfa_rule::form::deref && state.cfa.reg == dwarf_rsp &&
      state.cfa.offset == ucontext_rsp && state.cfa.add == 0) {
    return {0, pack(cfa_kind::signal, 0), 0, 0};
  }
  // A callee-saved register's slot number, or -1 if it does not fit a row.
  auto slot = [](const register_rule& rule) {
    if (rule.where == place::same || rule.where == place::undefined) return 0;
    bool fits = rule.where == place::cfa_offset && rule.offset < 0 && rule.offset % 8 == 0 &&
                rule.offset >= -8 * 255;
    return fits ? rule.offset / -8 : -1;
  };
  const register_rule usual_rip = {place::cfa_offset, 0, -8};
  int rbp_slot = slot(state.rbp);
  int rbx_slot = slot(state.rbx);
  bool plain = !signal_frame && rbp_slot >= 0 && rbx_slot >= 0 && state.rip == usual_rip &&
               state.rsp.where == place::same;
  if (plain && state.cfa.how == cfa_rule::form::offset &&
      (state.cfa.reg == dwarf_rsp || state.cfa.reg == dwarf_rbp) && state.cfa.offset >= 0 &&
      state.cfa.offset % 8 == 0 && state.cfa.offset / 8 <= static_cast<int32_t>(max_payload)) {
    cfa_kind kind = state.cfa.reg == dwarf_rsp ? cfa_kind::rsp_offset : cfa_kind::rbp_offset;
    return {0, pack(kind, static_cast<uint32_t>(state.cfa.offset / 8)),
            static_cast<uint8_t>(rbp_slot), static_cast<uint8_t>(rbx_slot)};
  }
  if (plain && state.cfa.how == cfa_rule::form::plt) {
    return {0, pack(cfa_kind::plt, static_cast<uint32_t>(state.cfa.add)),
            static_cast<uint8_t>(rbp_slot), static_cast<uint8_t>(rbx_slot)};
  }
  return encode_extended(state, signal_frame);
}

unwind_table_builder::rules unwind_table_builder::encode_extended(const frame_state& state,
                                                                  bool signal_frame) {
  using place = register_rule::place;
  const rules unsupported = {0, pack(stop_reason::unsupported), 0, 0};
  // The caller's pc and rsp decide the next frame; without rbp or rbx the walk may still end well.
  bool known =
      (state.cfa.how == cfa_rule::form::offset || state.cfa.how == cfa_rule::form::deref) &&
      state.rip.where != place::unsupported && state.rip.where != place::same &&
      state.rsp.where != place::unsupported && state.rsp.where != place::undefined;
  if (!known) return unsupported;
  extended_rule rule;
  rule.deref = state.cfa.how == cfa_rule::form::deref;
  rule.exact_pc = signal_frame;
  rule.reg = state.cfa.reg;
  rule.offset = state.cfa.offset;
  rule.add = state.cfa.add;
  rule.rip = state.rip;
  rule.rbp = state.rbp;
  rule.rbx = state.rbx;
  rule.rsp = state.rsp;
  auto next_id = static_cast<uint32_t>(table_.extended_.size());
  auto [it, inserted] = extended_ids_.try_emplace(rule, next_id);
  if (inserted) {
    if (next_id > max_payload) {
      extended_ids_.erase(it);
      return unsupported;
    }
    table_.extended_.push_back(rule);
  }
  return {0, pack(cfa_kind::extended, it->second), 0, 0};
}

// [T1] Appends in address order; a function that starts inside its predecessor (glibc's
// __restore_rt begins one byte early on purpose) takes over from there.
void unwind_table_builder::emit(uintptr_t address, rules rule) {
  auto pc = static_cast<uint32_t>(address - module_.text_lo);
  std::vector<unwind_row>& rows = table_.rows_;
  while (!rows.empty() && rows.back().pc >= pc) rows.pop_back();
  auto same_rule = [&](const unwind_row& row) {
    return row.cfa == rule.cfa && row.rbp_slot == rule.rbp_slot && row.rbx_slot == rule.rbx_slot;
  };
  if (!rows.empty() && same_rule(rows.back())) return;
  rule.pc = pc;
  rows.push_back(rule);
}

unwind_table unwind_table_builder::build() {
  uint64_t size = module_.text_hi - module_.text_lo;
  table_.size_ = static_cast<uint32_t>(std::min<uint64_t>(size, UINT32_MAX));
  covered_to_ = module_.text_lo;
  emit(module_.text_lo, {0, pack(stop_reason::no_function), 0, 0});
  for (uintptr_t fde : cfi_.fdes()) {
    if (std::optional<function_cfi> function = cfi_.function_at(fde)) add_function(*function);
  }
  if (covered_to_ < module_.text_hi) {
    emit(covered_to_, {0, pack(stop_reason::no_function), 0, 0});
  }

  std::vector<unwind_row>& rows = table_.rows_;
  rows.shrink_to_fit();
  table_.extended_.shrink_to_fit();
  for (const unwind_row& row : rows) {
    table_.unsupported_ += row.cfa == pack(stop_reason::unsupported);
  }
  uint32_t row = 0;
  for (uint64_t pc = 0; pc < uint64_t{table_.size_} + unwind_table::bucket_bytes;
       pc += unwind_table::bucket_bytes) {
    while (row + 1 < rows.size() && rows[row + 1].pc <= pc) ++row;
    table_.buckets_.push_back(row);
  }
  table_.buckets_.push_back(static_cast<uint32_t>(rows.size() - 1));
  table_.rows_data_ = rows.data();
  table_.buckets_data_ = table_.buckets_.data();
  table_.extended_data_ = table_.extended_.data();
  return std::move(table_);
}

size_t unwind_table::bytes() const {
  return rows_.size() * sizeof(unwind_row) + buckets_.size() * sizeof(uint32_t) +
         extended_.size() * sizeof(extended_rule);
}

unwind_table compile_unwind_table(const module_image& module) {
  return unwind_table_builder(module).build();
}

}  // namespace weft::prof
