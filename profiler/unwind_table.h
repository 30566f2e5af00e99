#pragma once
// Compiles a module's .eh_frame into a sorted array of 8-byte rows that a signal handler can
// search. See unwind_table.cc for the design. Private to the unwinder.
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "profiler/cfi.h"

namespace weft::prof {

// How a frame's CFA (its caller's rsp after the return) is found. The low 3 bits of
// unwind_row::cfa; the other 13 are the payload.
enum class cfa_kind : uint8_t {
  rsp_offset,  // rsp + 8 * payload
  rbp_offset,  // rbp + 8 * payload
  plt,         // a PLT section: rsp + 8, and 8 more once the stub has pushed its index, which is
               // when (rip & 15) >= payload
  signal,      // the kernel's signal frame: rsp points to a ucontext_t that holds all registers
  extended,    // extended_rules[payload]
  stop,        // no caller; the payload is a stop_reason
};

enum class stop_reason : uint16_t {
  outermost,    // CFI says that rip is undefined
  no_function,  // a gap between functions
  unsupported,  // CFI that extended_rule cannot express
};

// The rule for the pcs from `pc` up to the next row's `pc`. In the plain kinds the return address
// lies at CFA - 8, and rbp and rbx lie at CFA - 8 * slot, or are unchanged when the slot is 0.
struct unwind_row {
  uint32_t pc;  // offset from the module's first executable byte
  uint16_t cfa;
  uint8_t rbp_slot;
  uint8_t rbx_slot;

  cfa_kind kind() const { return static_cast<cfa_kind>(cfa & 7); }
  uint32_t payload() const { return cfa >> 3; }
};
static_assert(sizeof(unwind_row) == 8);

// The rare rules that do not fit a row: frames over 64 KiB, realigned (DRAP) frames, hand-written
// assembly. CFA = reg + offset, or *(reg + offset) + add when `deref`.
struct extended_rule {
  bool deref = false;
  bool exact_pc = false;  // the caller's pc is not a return address ('S' augmentation)
  uint8_t reg = dwarf_rsp;
  int32_t offset = 0;
  int32_t add = 0;
  register_rule rip, rbp, rbx, rsp;

  friend auto operator<=>(const extended_rule&, const extended_rule&) = default;
};

// One module's rules, relative to its first executable byte, so that a module which is unloaded and
// loaded elsewhere keeps its table.
class unwind_table {
 public:
  static constexpr uint32_t bucket_bytes = 512;

  // The row that covers `offset`, which must be below size(). Async-signal-safe.
  const unwind_row& find(uint32_t offset) const noexcept {
    uint32_t bucket = offset / bucket_bytes;
    // buckets_[b] is the row that covers the bucket's first byte, so the one wanted lies in
    // [buckets_[b], buckets_[b + 1]].
    uint32_t low = buckets_data_[bucket];
    uint32_t high = buckets_data_[bucket + 1];
    while (low < high) {
      uint32_t middle = (low + high + 1) / 2;
      if (rows_data_[middle].pc <= offset) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return rows_data_[low];
  }

  // The rule of a row of kind `extended`. Async-signal-safe.
  const extended_rule& extended(const unwind_row& row) const noexcept {
    return extended_data_[row.payload()];
  }

  uint32_t size() const noexcept { return size_; }
  size_t row_count() const { return rows_.size(); }
  size_t unsupported_rows() const { return unsupported_; }
  size_t bytes() const;
  std::span<const unwind_row> rows() const { return rows_; }

 private:
  friend class unwind_table_builder;

  std::vector<unwind_row> rows_;
  std::vector<uint32_t> buckets_;
  std::vector<extended_rule> extended_;
  // The vectors' data, so that the search is plain pointer reads in every build mode (a debug
  // build's operator[] is a function call, and instrumented under a sanitizer).
  const unwind_row* rows_data_ = nullptr;
  const uint32_t* buckets_data_ = nullptr;
  const extended_rule* extended_data_ = nullptr;
  uint32_t size_ = 0;
  size_t unsupported_ = 0;
};

// Reads the module's .eh_frame_hdr and every FDE it leads to. Malformed CFI costs the rows of the
// function that has it (they become `unsupported`), never a fault. The module must stay mapped
// during the call. Throws std::bad_alloc only.
unwind_table compile_unwind_table(const module_image& module);

}  // namespace weft::prof
