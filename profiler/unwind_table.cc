// .eh_frame -> compact rows: the half of the unwinder that may allocate.
//
// Shape      .eh_frame_hdr's binary-search table leads to every FDE, in address order. Each FDE's
// CFA
//            program runs once, over the few things a walk needs: the CFA and the places of rip,
//            rbp, rbx and rsp. Every pc range with one set of rules becomes one row of 8 bytes;
//            equal neighbours merge (a function starts as its predecessor ends: CFA = rsp + 8).
//            What does not fit 4 bytes of rules goes into a small side array of extended rules. An
//            index with the row of every 512th byte keeps the search within a cache line or two.
// Why        An interpreter that runs CFA programs in the handler costs 400-500 ns per frame and
//            needs locks or the loader's structures; a row costs a search and two loads.
// Not done   Tracking r12-r15: no frame of gcc's or clang's is addressed by them. General DWARF
//            expressions: three shapes cover all of Debian's libraries (register + offset, the same
//            dereferenced, the PLT's); others become `unsupported` rows and end the trace.
// Invariants [T1] rows are sorted by pc, the first has pc 0, so every offset below size() has a
// row.
//            [T2] nothing outside the module's loaded segments is read, whatever the CFI says.
// Tests      tests/unit/profiler/unwind_test.cc, unwind_table_test.cc       Reading on  unwind.cc
#include "profiler/unwind_table.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>
#include <utility>

namespace weft::prof {
namespace {

// Reads bounded memory; the first read past the end makes ok() false, and all later ones yield 0.
class cursor {
 public:
  cursor(uintptr_t at, uintptr_t end) : at_(at), end_(end), ok_(at <= end) {}

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

struct cfa_rule {
  enum class form : uint8_t { offset, deref, plt, unsupported };
  form how = form::unsupported;
  uint8_t reg = 0;
  int32_t offset = 0;
  int32_t add = 0;  // after the dereference; plt: the threshold
};

struct frame_state {
  cfa_rule cfa;
  register_rule rip, rbp, rbx, rsp;

  register_rule* find(uint64_t reg) {
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
};

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

struct cie_record {
  bool valid = false;
  bool signal_frame = false;
  bool has_augmentation_data = false;
  uint8_t pointer_encoding = 0;
  uint64_t code_alignment = 1;
  int64_t data_alignment = 1;
  frame_state initial;
};

// A CIE's or an FDE's bytes after the length and the CIE pointer.
struct entry {
  uintptr_t id_at = 0;  // address of the CIE pointer field
  uint32_t id = 0;      // 0: a CIE
  uintptr_t body = 0;
  uintptr_t end = 0;  // 0: the terminator, or malformed
};

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
  explicit unwind_table_builder(const module_image& module) : module_(module) {}

  unwind_table build();

 private:
  using rules = unwind_row;  // with pc unused

  cursor at(uintptr_t address) const;
  entry read_entry(uintptr_t address) const;
  std::vector<uintptr_t> functions();
  const cie_record& cie_at(uintptr_t address);
  void add_function(uintptr_t fde);
  bool execute(cursor program, const cie_record& cie, frame_state& state, uintptr_t lo,
               uintptr_t hi);
  rules encode(const frame_state& state, bool signal_frame);
  rules encode_extended(const frame_state& state, bool signal_frame);
  void emit(uintptr_t pc, rules rule);

  const module_image& module_;
  unwind_table table_;
  std::unordered_map<uintptr_t, cie_record> cies_;
  std::map<extended_rule, uint32_t> extended_ids_;
  uintptr_t covered_to_ = 0;
};

// [T2] an address outside the loaded segments gives a cursor that has failed.
cursor unwind_table_builder::at(uintptr_t address) const {
  for (const module_image::segment& segment : module_.readable) {
    if (address >= segment.lo && address < segment.hi) return cursor(address, segment.hi);
  }
  cursor nowhere(0, 0);
  nowhere.fail();
  return nowhere;
}

entry unwind_table_builder::read_entry(uintptr_t address) const {
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
std::vector<uintptr_t> unwind_table_builder::functions() {
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

const cie_record& unwind_table_builder::cie_at(uintptr_t address) {
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
  cie.valid = in.ok() && execute(in, cie, state, 0, 0);
  cie.initial = state;
  return cie;
}

void unwind_table_builder::add_function(uintptr_t fde) {
  entry e = read_entry(fde);
  if (e.end == 0 || e.id == 0) return;
  const cie_record& cie = cie_at(e.id_at - e.id);
  cursor in(e.body, e.end);
  uintptr_t lo = read_pointer(in, cie.pointer_encoding, 0);
  uint64_t length = read_format(in, cie.pointer_encoding & pe_format);
  // A discarded function keeps an FDE at address 0 or 1.
  if (!in.ok() || length == 0 || lo < module_.text_lo || lo >= module_.text_hi ||
      length > module_.text_hi - lo) {
    return;
  }
  uintptr_t hi = lo + length;
  if (lo > covered_to_ + max_padding) emit(covered_to_, {0, pack(stop_reason::no_function), 0, 0});
  bool good = cie.valid;
  if (good && cie.has_augmentation_data) in.skip(in.uleb());
  if (good) {
    frame_state state = cie.initial;
    good = in.ok() && execute(in, cie, state, lo, hi);
  }
  if (!good) emit(lo, {0, pack(stop_reason::unsupported), 0, 0});
  covered_to_ = std::max(covered_to_, hi);
}

// Runs a CFA program from `state`, emitting rows for [lo, hi). A CIE's initial instructions run
// with an empty range. False for a malformed program; the rows it has emitted are then overwritten.
bool unwind_table_builder::execute(cursor in, const cie_record& cie, frame_state& state,
                                   uintptr_t lo, uintptr_t hi) {
  const bool emitting = hi > lo;
  std::vector<frame_state> remembered;
  uintptr_t pc = lo;
  auto advance_to = [&](uintptr_t next) {
    if (next < pc) in.fail();
    if (emitting && next > pc && pc < hi) emit(pc, encode(state, cie.signal_frame));
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
        if (register_rule* rule = state.find(low)) {
          frame_state initial = cie.initial;
          *rule = *initial.find(low);
        }
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
        frame_state initial = cie.initial;
        if (register_rule* rule = state.find(reg)) *rule = *initial.find(reg);
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
  if (emitting && pc < hi) emit(pc, encode(state, cie.signal_frame));
  return true;
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
  for (uintptr_t fde : functions()) add_function(fde);
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
