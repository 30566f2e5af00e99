// Call frame information: what compilers and assemblers say about each function's frame.
//
// Shape      .eh_frame_hdr's binary-search table leads to every FDE (a function), and each FDE to
//            its CIE (what its functions share). A CFA program is a list of "advance the pc" and
//            "from here on" steps; run() plays it over the few registers that a walk follows.
// Not done   Tracking r12-r15: no frame of gcc's or clang's is addressed by them. General DWARF
//            expressions: three shapes cover all of Debian's libraries (register + offset, the same
//            dereferenced, the PLT's); others make the rule `unsupported`.
// Invariants [T2] nothing outside the module's loaded segments is read, whatever the CFI says.
// Tests      tests/unit/profiler/unwind_table_test.cc
#include "profiler/cfi.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace weft::prof {

// Reads bounded memory; the first read past the end makes ok() false, and all later ones yield 0.
class cfi_cursor {
 public:
  cfi_cursor(uintptr_t at, uintptr_t end) : at_(at), end_(end), ok_(at <= end) {}

  bool ok() const { return ok_; }
  bool done() const { return !ok_ || at_ >= end_; }
  uintptr_t at() const { return at_; }
  uintptr_t end() const { return end_; }
  void fail() { ok_ = false; }

  template <typename T>
  T read() {
    T value{};
    if (!ok_ || end_ - at_ < sizeof(T)) {
      ok_ = false;
      return value;
    }
    std::memcpy(&value, address(), sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  void skip(uint64_t bytes) {
    if (!ok_ || end_ - at_ < bytes) {
      ok_ = false;
    } else {
      at_ += bytes;
    }
  }

  uint64_t uleb() {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte = 0;
    do {
      byte = read<uint8_t>();
      if (shift < 64) value |= uint64_t{byte & 0x7fu} << shift;
      shift += 7;
    } while (ok_ && (byte & 0x80) != 0);
    return value;
  }

  int64_t sleb() {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte = 0;
    do {
      byte = read<uint8_t>();
      if (shift < 64) value |= uint64_t{byte & 0x7fu} << shift;
      shift += 7;
    } while (ok_ && (byte & 0x80) != 0);
    if (shift < 64 && (byte & 0x40) != 0) value |= ~uint64_t{0} << shift;
    return static_cast<int64_t>(value);
  }

 private:
  const void* address() const { return reinterpret_cast<const void*>(at_); }

  uintptr_t at_;
  uintptr_t end_;
  bool ok_;
};

namespace {

using cursor = cfi_cursor;

// DW_EH_PE_*: how a pointer is stored.
constexpr uint8_t pe_omit = 0xff;
constexpr uint8_t pe_indirect = 0x80;
constexpr uint8_t pe_application = 0x70;
constexpr uint8_t pe_pcrel = 0x10;
constexpr uint8_t pe_datarel = 0x30;
constexpr uint8_t pe_aligned = 0x50;
constexpr uint8_t pe_format = 0x0f;

uint64_t read_format(cursor& in, uint8_t format) {
  switch (format) {
    case 0x0:  // absptr
    case 0x4:  // udata8
    case 0xc:  // sdata8
      return in.read<uint64_t>();
    case 0x1:
      return in.uleb();
    case 0x2:
      return in.read<uint16_t>();
    case 0x3:
      return in.read<uint32_t>();
    case 0x9:
      return static_cast<uint64_t>(in.sleb());
    case 0xa:
      return static_cast<uint64_t>(int64_t{in.read<int16_t>()});
    case 0xb:
      return static_cast<uint64_t>(int64_t{in.read<int32_t>()});
    default:
      in.fail();
      return 0;
  }
}

// `data` is the base of datarel pointers, 0 where there is none. An indirect pointer (personality
// routines) is read but not followed. Text- and function-relative ones do not occur on x86-64.
uintptr_t read_pointer(cursor& in, uint8_t encoding, uintptr_t data) {
  if ((encoding & pe_application) == pe_aligned) {
    in.skip((8 - in.at() % 8) % 8);
    return in.read<uint64_t>();
  }
  uintptr_t here = in.at();
  uintptr_t value = read_format(in, encoding & pe_format);
  if (value == 0) return 0;  // a null pointer stays null in every relative form
  switch (encoding & pe_application) {
    case 0:
      return value;
    case pe_pcrel:
      return here + value;
    case pe_datarel:
      if (data == 0) in.fail();
      return data + value;
    default:
      in.fail();
      return 0;
  }
}

bool fits_int32(int64_t value) { return value == static_cast<int32_t>(value); }

// Recognizes `reg + offset`, `*(reg + offset)`, `*(reg + offset) + add` and the PLT expression that
// every x86-64 linker emits: rsp + 8 + ((rip & 15) >= N) * 8.
cfa_rule parse_expression(cursor in) {
  constexpr uint8_t op_deref = 0x06, op_plus_uconst = 0x23, op_breg0 = 0x70, op_breg15 = 0x7f;
  constexpr uint8_t op_lit0 = 0x30, op_lit15 = 0x3f;
  cfa_rule unsupported;
  uint8_t op = in.read<uint8_t>();
  if (op < op_breg0 || op > op_breg15) return unsupported;
  cfa_rule rule;
  rule.reg = op - op_breg0;
  int64_t offset = in.sleb();
  if (!in.ok() || !fits_int32(offset)) return unsupported;
  rule.offset = static_cast<int32_t>(offset);
  if (in.done()) {
    rule.how = cfa_rule::form::offset;
    return rule;
  }
  op = in.read<uint8_t>();
  if (op == op_deref) {
    rule.how = cfa_rule::form::deref;
    if (in.done()) return rule;
    if (in.read<uint8_t>() != op_plus_uconst) return unsupported;
    uint64_t add = in.uleb();
    if (!in.done() || !in.ok() || add > INT32_MAX) return unsupported;
    rule.add = static_cast<int32_t>(add);
    return rule;
  }
  constexpr uint8_t op_breg16 = 0x80, op_and = 0x1a, op_ge = 0x2a, op_shl = 0x24, op_plus = 0x22;
  if (op != op_breg16 || rule.reg != dwarf_rsp || rule.offset != 8) return unsupported;
  uint8_t rip_offset = in.read<uint8_t>();
  uint8_t mask = in.read<uint8_t>();
  uint8_t conjunction = in.read<uint8_t>();
  uint8_t threshold = in.read<uint8_t>();
  uint8_t compare = in.read<uint8_t>();
  uint8_t shift = in.read<uint8_t>();
  uint8_t shl = in.read<uint8_t>();
  uint8_t plus = in.read<uint8_t>();
  if (!in.ok() || !in.done() || rip_offset != 0 || mask != op_lit15 || conjunction != op_and ||
      threshold < op_lit0 || threshold > op_lit15 || compare != op_ge || shift != op_lit0 + 3 ||
      shl != op_shl || plus != op_plus) {
    return unsupported;
  }
  rule.how = cfa_rule::form::plt;
  rule.add = threshold - op_lit0;
  return rule;
}

}  // namespace

struct cie_record {
  bool valid = false;
  bool signal_frame = false;
  bool has_augmentation_data = false;
  uint8_t pointer_encoding = 0;
  uint64_t code_alignment = 1;
  int64_t data_alignment = 1;
  frame_state initial;
};

namespace {

// Runs a CFA program from `state` over [lo, hi). A CIE's initial instructions run with an empty
// range and emit nothing. False for a malformed program.
bool execute(cursor in, const cie_record& cie, frame_state& state, uintptr_t lo, uintptr_t hi,
             const cfi_reader::emitter& emit) {
  const bool emitting = hi > lo;
  std::vector<frame_state> remembered;
  uintptr_t pc = lo;
  auto advance_to = [&](uintptr_t next) {
    if (next < pc) in.fail();
    if (emitting && next > pc && pc < hi) emit(pc, state);
    pc = next;
  };
  auto set_rule = [&](uint64_t reg, register_rule rule) {
    if (register_rule* target = state.find(reg)) *target = rule;
  };
  auto at_cfa = [&](int64_t factored) {
    int64_t offset = 0;
    if (__builtin_mul_overflow(factored, cie.data_alignment, &offset) || !fits_int32(offset)) {
      in.fail();
    }
    return register_rule{register_rule::place::cfa_offset, 0, static_cast<int32_t>(offset)};
  };
  auto set_cfa = [&](uint64_t reg, int64_t offset) {
    bool known = reg <= 15 && fits_int32(offset);
    state.cfa = {known ? cfa_rule::form::offset : cfa_rule::form::unsupported,
                 static_cast<uint8_t>(reg & 15), static_cast<int32_t>(offset), 0};
  };
  auto block = [&] {  // a DWARF expression: length, bytes
    uint64_t size = in.uleb();
    uintptr_t start = in.at();
    in.skip(size);
    return in.ok() ? cursor(start, start + size) : cursor(0, 0);
  };

  while (!in.done() && (!emitting || pc < hi)) {
    uint8_t op = in.read<uint8_t>();
    uint8_t low = op & 0x3f;
    switch (op & 0xc0) {
      case 0x40:  // advance_loc
        advance_to(pc + low * cie.code_alignment);
        continue;
      case 0x80:  // offset
        set_rule(low, at_cfa(static_cast<int64_t>(in.uleb())));
        continue;
      case 0xc0:  // restore
        if (register_rule* rule = state.find(low)) *rule = *cie.initial.find(low);
        continue;
      default:
        break;
    }
    switch (op) {
      case 0x00:  // nop
        break;
      case 0x01:  // set_loc
        advance_to(read_pointer(in, cie.pointer_encoding, 0));
        break;
      case 0x02:  // advance_loc1
        advance_to(pc + in.read<uint8_t>() * cie.code_alignment);
        break;
      case 0x03:  // advance_loc2
        advance_to(pc + in.read<uint16_t>() * cie.code_alignment);
        break;
      case 0x04:  // advance_loc4
        advance_to(pc + in.read<uint32_t>() * cie.code_alignment);
        break;
      case 0x05: {  // offset_extended
        uint64_t reg = in.uleb();
        set_rule(reg, at_cfa(static_cast<int64_t>(in.uleb())));
        break;
      }
      case 0x06: {  // restore_extended
        uint64_t reg = in.uleb();
        if (register_rule* rule = state.find(reg)) *rule = *cie.initial.find(reg);
        break;
      }
      case 0x07:  // undefined
        set_rule(in.uleb(), {register_rule::place::undefined, 0, 0});
        break;
      case 0x08:  // same_value
        set_rule(in.uleb(), {});
        break;
      case 0x09: {  // register
        uint64_t reg = in.uleb();
        uint64_t source = in.uleb();
        set_rule(reg, {source <= 15 ? register_rule::place::in_register
                                    : register_rule::place::unsupported,
                       static_cast<uint8_t>(source & 15), 0});
        break;
      }
      case 0x0a:  // remember_state
        remembered.push_back(state);
        break;
      case 0x0b:  // restore_state
        if (remembered.empty()) return false;
        state = remembered.back();
        remembered.pop_back();
        break;
      case 0x0c: {  // def_cfa
        uint64_t reg = in.uleb();
        set_cfa(reg, static_cast<int64_t>(in.uleb()));
        break;
      }
      case 0x0d:  // def_cfa_register
        set_cfa(in.uleb(), state.cfa.offset);
        break;
      case 0x0e:  // def_cfa_offset
        set_cfa(state.cfa.reg, static_cast<int64_t>(in.uleb()));
        break;
      case 0x0f:  // def_cfa_expression
        state.cfa = parse_expression(block());
        break;
      case 0x10: {  // expression
        uint64_t reg = in.uleb();
        cfa_rule place = parse_expression(block());
        bool known = place.how == cfa_rule::form::offset;
        set_rule(reg,
                 {known ? register_rule::place::at_register : register_rule::place::unsupported,
                  place.reg, place.offset});
        break;
      }
      case 0x11: {  // offset_extended_sf
        uint64_t reg = in.uleb();
        set_rule(reg, at_cfa(in.sleb()));
        break;
      }
      case 0x12: {  // def_cfa_sf
        uint64_t reg = in.uleb();
        set_cfa(reg, at_cfa(in.sleb()).offset);
        break;
      }
      case 0x13:  // def_cfa_offset_sf
        set_cfa(state.cfa.reg, at_cfa(in.sleb()).offset);
        break;
      case 0x14:    // val_offset
      case 0x15: {  // val_offset_sf
        uint64_t reg = in.uleb();
        int64_t factored = op == 0x14 ? static_cast<int64_t>(in.uleb()) : in.sleb();
        // The one such rule in use says the default: the caller's rsp is the CFA.
        bool is_default = reg == dwarf_rsp && factored == 0;
        set_rule(reg, {is_default ? register_rule::place::same : register_rule::place::unsupported,
                       0, 0});
        break;
      }
      case 0x16: {  // val_expression
        uint64_t reg = in.uleb();
        block();
        set_rule(reg, {register_rule::place::unsupported, 0, 0});
        break;
      }
      case 0x2e:  // GNU_args_size: of use to landing pads only
        in.uleb();
        break;
      case 0x2f: {  // GNU_negative_offset_extended
        uint64_t reg = in.uleb();
        set_rule(reg, at_cfa(-static_cast<int64_t>(in.uleb())));
        break;
      }
      default:
        return false;
    }
  }
  if (!in.ok()) return false;
  if (emitting && pc < hi) emit(pc, state);
  return true;
}

}  // namespace

// A CIE's or an FDE's bytes after the length and the CIE pointer.
struct cfi_reader::entry {
  uintptr_t id_at = 0;  // address of the CIE pointer field
  uint32_t id = 0;      // 0: a CIE
  uintptr_t body = 0;
  uintptr_t end = 0;  // 0: the terminator, or malformed
};

cfi_reader::cfi_reader(const module_image& module) : module_(module) {}
cfi_reader::~cfi_reader() = default;

// [T2] an address outside the loaded segments gives a cursor that has failed.
cfi_cursor cfi_reader::at(uintptr_t address) const {
  for (const module_image::segment& segment : module_.readable) {
    if (address >= segment.lo && address < segment.hi) return cursor(address, segment.hi);
  }
  cursor nowhere(0, 0);
  nowhere.fail();
  return nowhere;
}

cfi_reader::entry cfi_reader::read_entry(uintptr_t address) const {
  entry result;
  cursor in = at(address);
  uint64_t length = in.read<uint32_t>();
  if (length == 0xffffffff) length = in.read<uint64_t>();
  if (!in.ok() || length < 4 || length > in.end() - in.at()) return result;
  result.id_at = in.at();
  uintptr_t end = in.at() + length;
  result.id = in.read<uint32_t>();
  result.body = in.at();
  result.end = in.ok() ? end : 0;
  return result;
}

// The addresses of all FDEs in the order of the functions they describe.
std::vector<uintptr_t> cfi_reader::fdes() {
  std::vector<std::pair<uintptr_t, uintptr_t>> found;  // function, FDE
  cursor in = at(module_.eh_frame_hdr);
  uint8_t version = in.read<uint8_t>();
  uint8_t frame_encoding = in.read<uint8_t>();
  uint8_t count_encoding = in.read<uint8_t>();
  uint8_t table_encoding = in.read<uint8_t>();
  uintptr_t eh_frame = read_pointer(in, frame_encoding, module_.eh_frame_hdr);
  if (!in.ok() || version != 1) return {};
  if (count_encoding != pe_omit && table_encoding != pe_omit) {
    uint64_t count = read_pointer(in, count_encoding, module_.eh_frame_hdr);
    for (uint64_t i = 0; i < count; ++i) {
      uintptr_t function = read_pointer(in, table_encoding, module_.eh_frame_hdr);
      uintptr_t fde = read_pointer(in, table_encoding, module_.eh_frame_hdr);
      if (!in.ok()) break;
      found.emplace_back(function, fde);
    }
  } else {
    // A linker that met CFI it could not sort leaves the table out; the section itself ends with a
    // zero length.
    for (uintptr_t address = eh_frame;;) {
      entry e = read_entry(address);
      if (e.end == 0) break;
      if (e.id != 0) {
        cursor body(e.body, e.end);
        const cie_record& cie = cie_at(e.id_at - e.id);
        found.emplace_back(cie.valid ? read_pointer(body, cie.pointer_encoding, 0) : 0, address);
      }
      address = e.end;
    }
  }
  if (!std::is_sorted(found.begin(), found.end())) std::sort(found.begin(), found.end());
  std::vector<uintptr_t> fdes;
  fdes.reserve(found.size());
  for (const auto& [function, fde] : found) fdes.push_back(fde);
  return fdes;
}

const cie_record& cfi_reader::cie_at(uintptr_t address) {
  auto [it, inserted] = cies_.try_emplace(address);
  cie_record& cie = it->second;
  if (!inserted) return cie;
  entry e = read_entry(address);
  if (e.end == 0 || e.id != 0) return cie;
  cursor in(e.body, e.end);
  uint8_t version = in.read<uint8_t>();
  char augmentation[8] = {};
  size_t letters = 0;
  for (char c = in.read<char>(); c != '\0' && in.ok(); c = in.read<char>()) {
    if (letters + 1 >= sizeof augmentation) return cie;
    augmentation[letters++] = c;
  }
  if (version == 4) in.skip(2);  // address size, segment selector size
  cie.code_alignment = in.uleb();
  cie.data_alignment = in.sleb();
  uint64_t return_column = version == 1 ? in.read<uint8_t>() : in.uleb();
  if (return_column != dwarf_rip) return cie;
  if (letters != 0 && augmentation[0] != 'z') return cie;  // unknown layout without the length
  if (letters != 0) {
    cie.has_augmentation_data = true;
    uint64_t size = in.uleb();
    uintptr_t data_at = in.at();
    for (size_t i = 1; i < letters && in.ok(); ++i) {
      switch (augmentation[i]) {
        case 'R':
          cie.pointer_encoding = in.read<uint8_t>();
          break;
        case 'P': {
          uint8_t encoding = in.read<uint8_t>();
          read_pointer(in, encoding & static_cast<uint8_t>(~pe_indirect), module_.eh_frame_hdr);
          break;
        }
        case 'L':
          in.skip(1);
          break;
        case 'S':
          cie.signal_frame = true;
          break;
        default:
          i = letters;  // a letter from the future; its data is skipped below
          break;
      }
    }
    if (in.at() - data_at > size) return cie;
    in.skip(size - (in.at() - data_at));
  }
  frame_state state;
  cie.valid = in.ok() && execute(in, cie, state, 0, 0, {});
  cie.initial = state;
  return cie;
}

std::optional<function_cfi> cfi_reader::function_at(uintptr_t fde) {
  entry e = read_entry(fde);
  if (e.end == 0 || e.id == 0) return std::nullopt;
  const cie_record& cie = cie_at(e.id_at - e.id);
  cursor in(e.body, e.end);
  function_cfi function;
  function.lo = read_pointer(in, cie.pointer_encoding, 0);
  uint64_t length = read_format(in, cie.pointer_encoding & pe_format);
  // A discarded function keeps an FDE at address 0 or 1.
  if (!in.ok() || length == 0 || function.lo < module_.text_lo || function.lo >= module_.text_hi ||
      length > module_.text_hi - function.lo) {
    return std::nullopt;
  }
  function.hi = function.lo + length;
  if (!cie.valid) return function;
  if (cie.has_augmentation_data) in.skip(in.uleb());
  if (!in.ok()) return function;
  function.signal_frame = cie.signal_frame;
  function.cie = &cie;
  function.program = in.at();
  function.program_end = e.end;
  return function;
}

bool cfi_reader::run(const function_cfi& function, const emitter& emit) const {
  if (function.cie == nullptr) return false;
  frame_state state = function.cie->initial;
  return execute(cursor(function.program, function.program_end), *function.cie, state, function.lo,
                 function.hi, emit);
}

}  // namespace weft::prof
