#pragma once
// Reads a module's call frame information: .eh_frame_hdr, .eh_frame, and the CFA programs in it.
// See cfi.cc. Private to the unwinder; normal threads only.
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace weft::prof {

// DWARF register numbers of x86-64 that a walk follows. The others of 0-15 may appear as operands.
inline constexpr uint8_t dwarf_rbx = 3;
inline constexpr uint8_t dwarf_rbp = 6;
inline constexpr uint8_t dwarf_rsp = 7;
inline constexpr uint8_t dwarf_rip = 16;

// Where the caller's value of a register is.
struct register_rule {
  enum class place : uint8_t {
    same,         // in the register itself (rsp: the CFA)
    cfa_offset,   // in memory at CFA + offset
    in_register,  // in another register
    at_register,  // in memory at register + offset
    undefined,    // nowhere
    unsupported,
  };
  place where = place::same;
  uint8_t reg = 0;
  int32_t offset = 0;

  friend auto operator<=>(const register_rule&, const register_rule&) = default;
};

// The canonical frame address: the caller's rsp after the return.
struct cfa_rule {
  enum class form : uint8_t {
    offset,  // reg + offset
    deref,   // *(reg + offset) + add
    plt,     // rsp + 8, and 8 more when (rip & 15) >= add
    unsupported,
  };
  form how = form::unsupported;
  uint8_t reg = 0;
  int32_t offset = 0;
  int32_t add = 0;
};

// All rules that hold at one pc.
struct frame_state {
  cfa_rule cfa;
  register_rule rip, rbp, rbx, rsp;

  // The rule of a register by DWARF number, null for one that is not followed.
  const register_rule* find(uint64_t reg) const {
    switch (reg) {
      case dwarf_rip:
        return &rip;
      case dwarf_rbp:
        return &rbp;
      case dwarf_rbx:
        return &rbx;
      case dwarf_rsp:
        return &rsp;
      default:
        return nullptr;
    }
  }
  register_rule* find(uint64_t reg) {
    return const_cast<register_rule*>(std::as_const(*this).find(reg));
  }
};

// A module as the dynamic linker has mapped it. It must stay mapped while it is read.
struct module_image {
  struct segment {
    uintptr_t lo;
    uintptr_t hi;
  };
  uintptr_t text_lo = 0;  // the executable segments' hull
  uintptr_t text_hi = 0;
  uintptr_t eh_frame_hdr = 0;
  std::vector<segment> readable;  // loaded segments; nothing outside them is read
};

class cfi_cursor;
struct cie_record;

// One function's FDE.
struct function_cfi {
  uintptr_t lo = 0;
  uintptr_t hi = 0;
  bool signal_frame = false;        // 'S' augmentation: the caller's pc is not a return address
  const cie_record* cie = nullptr;  // null: malformed
  uintptr_t program = 0;
  uintptr_t program_end = 0;
};

class cfi_reader {
 public:
  explicit cfi_reader(const module_image& module);
  ~cfi_reader();
  cfi_reader(const cfi_reader&) = delete;
  cfi_reader& operator=(const cfi_reader&) = delete;

  // The addresses of all FDEs, in the order of the functions they describe.
  std::vector<uintptr_t> fdes();

  // The function that an FDE describes; none for a discarded function or an unreadable entry.
  std::optional<function_cfi> function_at(uintptr_t fde);

  // Runs the function's CFA program: `emit(pc, state)` for each pc at which new rules may begin, in
  // rising order, the first at `lo`. False for a malformed program; what was emitted is then wrong.
  using emitter = std::function<void(uintptr_t pc, const frame_state& state)>;
  bool run(const function_cfi& function, const emitter& emit) const;

 private:
  struct entry;

  cfi_cursor at(uintptr_t address) const;
  entry read_entry(uintptr_t address) const;
  const cie_record& cie_at(uintptr_t address);

  const module_image& module_;
  std::unordered_map<uintptr_t, cie_record> cies_;
};

}  // namespace weft::prof
