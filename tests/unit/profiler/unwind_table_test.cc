// The CFI compiler on sections made by hand: every pointer encoding, every shape of rule, and input
// that is wrong. (The sampling test covers what compilers emit.)
#include "profiler/unwind_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

using weft::prof::cfa_kind;
using weft::prof::compile_unwind_table;
using weft::prof::extended_rule;
using weft::prof::module_image;
using weft::prof::register_rule;
using weft::prof::stop_reason;
using weft::prof::unwind_row;
using weft::prof::unwind_table;

using bytes = std::vector<uint8_t>;

bytes operator+(bytes a, const bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// CFA program pieces.
bytes advance(uint8_t n) { return {static_cast<uint8_t>(0x40 | n)}; }
bytes def_cfa(uint8_t reg, uint8_t offset) { return {0x0c, reg, offset}; }
bytes cfa_offset(uint8_t offset) { return {0x0e, offset}; }
bytes saved(uint8_t reg, uint8_t slot) { return {static_cast<uint8_t>(0x80 | reg), slot}; }
bytes block(uint8_t op, const bytes& expression) {
  return bytes{op, static_cast<uint8_t>(expression.size())} + expression;
}
constexpr uint8_t rbx = 3, rbp = 6, rsp = 7, r10 = 10, rip = 16;

struct function {
  uint32_t offset;  // from the text's start
  uint32_t size;
  bytes program;
};

struct section_options {
  uint8_t encoding = 0x1b;        // of FDE pointers: pcrel sdata4
  uint8_t table_encoding = 0x3b;  // of the header's table: datarel sdata4; 0xff leaves it out
  std::string augmentation = "zR";
  uint8_t cie_version = 1;
  bool long_lengths = false;  // 64-bit DWARF lengths
  bool reverse_table = false;
  bytes cie_program = def_cfa(rsp, 8) + saved(rip, 1);
};

// A module in memory: header, .eh_frame and a text area that nobody executes.
class section {
 public:
  static constexpr uint32_t text_at = 8192, text_size = 4096;

  section(const std::vector<function>& functions, const section_options& options)
      : memory_(text_at + text_size), options_(options) {
    constexpr size_t header_size = 2048;
    at_ = header_size;
    uintptr_t cie = put_cie();
    std::vector<std::pair<uintptr_t, uintptr_t>> table;
    for (const function& f : functions)
      table.emplace_back(address(text_at + f.offset), put_fde(f, cie));
    put<uint32_t>(0);  // the section's end
    used_ = at_;
    if (options.reverse_table) std::reverse(table.begin(), table.end());
    at_ = 0;
    put<uint8_t>(1);
    put<uint8_t>(0x1b);
    put<uint8_t>(options.table_encoding == 0xff ? 0xff : 0x03);
    put<uint8_t>(options.table_encoding);
    put_pointer(0x1b, address(header_size));
    if (options.table_encoding == 0xff) return;
    put<uint32_t>(static_cast<uint32_t>(table.size()));
    for (auto [start, fde] : table) {
      put_pointer(options.table_encoding, start);
      put_pointer(options.table_encoding, fde);
    }
  }

  module_image image() const {
    module_image m;
    m.text_lo = address(text_at);
    m.text_hi = address(text_at + text_size);
    m.eh_frame_hdr = address(0);
    m.readable.push_back({address(0), address(memory_.size())});
    return m;
  }
  unwind_table compile() const { return compile_unwind_table(image()); }
  bytes& memory() { return memory_; }
  size_t used() const { return used_; }

 private:
  uintptr_t address(size_t offset) const {
    return reinterpret_cast<uintptr_t>(memory_.data()) + offset;
  }
  template <typename T>
  void put(T value) {
    std::memcpy(&memory_.at(at_ + sizeof value - 1) + 1 - sizeof value, &value, sizeof value);
    at_ += sizeof value;
  }
  void put_bytes(const bytes& b) {
    for (uint8_t byte : b) put(byte);
  }
  void put_leb(uint64_t value, bool is_signed) {
    for (int i = 0; i < 10; ++i) {
      uint8_t byte = value & 0x7f;
      value = is_signed ? static_cast<uint64_t>(static_cast<int64_t>(value) >> 7) : value >> 7;
      put<uint8_t>(static_cast<uint8_t>(byte | (i < 9 ? 0x80 : 0)));
    }
  }
  void put_value(uint8_t format, uint64_t value) {
    switch (format) {
      case 0x1:
        return put_leb(value, false);
      case 0x9:
        return put_leb(value, true);
      case 0x2:
      case 0xa:
        return put(static_cast<uint16_t>(value));
      case 0x3:
      case 0xb:
        return put(static_cast<uint32_t>(value));
      default:
        return put(value);
    }
  }
  void put_pointer(uint8_t encoding, uintptr_t target) {
    uint8_t application = encoding & 0x70;
    if (application == 0x50) at_ = (at_ + 7) / 8 * 8;
    uintptr_t base = application == 0x10 ? address(at_) : application == 0x30 ? address(0) : 0;
    put_value(application == 0x50 ? 0 : encoding & 0x0f, target - base);
  }
  // Writes a length, calls `body`, and patches the length.
  template <typename F>
  uintptr_t put_entry(F body) {
    // 64-bit alignment makes DW_EH_PE_aligned pointers agree with the reader's idea of addresses.
    at_ = (at_ + 7) / 8 * 8;
    size_t start = at_;
    if (options_.long_lengths) {
      put<uint32_t>(0xffffffff);
      put<uint64_t>(0);
    } else {
      put<uint32_t>(0);
    }
    size_t content = at_;
    body();
    while ((at_ - start) % 8 != 0) put<uint8_t>(0);
    size_t length = at_ - content;
    std::memcpy(&memory_[content - (options_.long_lengths ? 8 : 4)], &length,
                options_.long_lengths ? 8 : 4);
    return address(start);
  }
  uintptr_t put_cie() {
    return put_entry([&] {
      put<uint32_t>(0);
      put<uint8_t>(options_.cie_version);
      for (char c : options_.augmentation) put(c);
      put<uint8_t>(0);
      if (options_.cie_version == 4) put<uint16_t>(8);
      put<uint8_t>(1);     // code alignment
      put<uint8_t>(0x78);  // data alignment -8
      put<uint8_t>(rip);
      if (!options_.augmentation.empty()) {
        size_t length_at = at_;
        put<uint8_t>(0);
        for (char c : options_.augmentation) {
          if (c == 'R') put(options_.encoding);
          if (c == 'L') put<uint8_t>(0x1b);
          if (c == 'P') {
            put<uint8_t>(0x9b);
            put<uint32_t>(1234);
          }
        }
        memory_[length_at] = static_cast<uint8_t>(at_ - length_at - 1);
      }
      put_bytes(options_.cie_program);
    });
  }
  uintptr_t put_fde(const function& f, uintptr_t cie) {
    return put_entry([&] {
      put(static_cast<uint32_t>(address(at_) - cie));
      put_pointer(options_.encoding, address(text_at + f.offset));
      put_value((options_.encoding & 0x70) == 0x50 ? 0 : options_.encoding & 0x0f, f.size);
      if (!options_.augmentation.empty()) put<uint8_t>(0);
      put_bytes(f.program);
    });
  }

  bytes memory_;
  section_options options_;
  size_t at_ = 0;
  size_t used_ = 0;
};

unwind_table compile(const bytes& program, section_options options = {}) {
  return section({{0, 256, program}}, options).compile();
}

const unwind_row& row_at(const unwind_table& table, uint32_t pc) { return table.find(pc); }

bool stops_with(const unwind_row& row, stop_reason reason) {
  return row.kind() == cfa_kind::stop && row.payload() == static_cast<uint32_t>(reason);
}

// push rbp; mov rsp, rbp; push rbx; ...; leave; ret
const bytes with_frame_pointer = advance(1) + cfa_offset(16) + saved(rbp, 2) + advance(3) +
                                 bytes{0x0d, rbp} + advance(1) + saved(rbx, 3) + advance(20) +
                                 bytes{0x0a, 0xc0 | rbp} + def_cfa(rsp, 8) + advance(1) +
                                 bytes{0x0b};

void expect_frame_pointer_rows(const unwind_table& table, uint32_t at) {
  EXPECT_EQ(row_at(table, at).kind(), cfa_kind::rsp_offset);
  EXPECT_EQ(row_at(table, at).payload(), 1u);
  EXPECT_EQ(row_at(table, at).rbp_slot, 0);
  EXPECT_EQ(row_at(table, at + 1).payload(), 2u);
  EXPECT_EQ(row_at(table, at + 1).rbp_slot, 2);
  EXPECT_EQ(row_at(table, at + 3).kind(), cfa_kind::rsp_offset);
  EXPECT_EQ(row_at(table, at + 4).kind(), cfa_kind::rbp_offset);
  EXPECT_EQ(row_at(table, at + 4).rbx_slot, 0);
  EXPECT_EQ(row_at(table, at + 5).rbx_slot, 3);
  EXPECT_EQ(row_at(table, at + 24).kind(), cfa_kind::rbp_offset);
  EXPECT_EQ(row_at(table, at + 25).kind(), cfa_kind::rsp_offset);
  EXPECT_EQ(row_at(table, at + 25).rbp_slot, 0);
  EXPECT_EQ(row_at(table, at + 26).kind(), cfa_kind::rbp_offset);
  EXPECT_EQ(row_at(table, at + 26).rbp_slot, 2);
}

TEST(UnwindTable, ReadsEveryPointerEncoding) {
  // absptr, udata8, sdata8; pcrel sdata4, udata8, sdata8, uleb, sleb; aligned.
  for (uint8_t encoding : {0x00, 0x04, 0x0c, 0x1b, 0x14, 0x1c, 0x11, 0x19, 0x50}) {
    SCOPED_TRACE(encoding);
    section_options options;
    options.encoding = encoding;
    expect_frame_pointer_rows(section({{16, 256, with_frame_pointer}}, options).compile(), 16);
  }
}

TEST(UnwindTable, ReadsEveryHeaderTable) {
  std::vector<function> functions;
  for (uint32_t i = 0; i < 12; ++i) functions.push_back({i * 256, 256, with_frame_pointer});
  for (uint8_t encoding : {0x3b, 0x1b, 0x00, 0x3c, 0xff}) {
    for (bool reverse : {false, true}) {
      SCOPED_TRACE(encoding);
      section_options options;
      options.table_encoding = encoding;
      options.reverse_table = reverse;
      unwind_table table = section(functions, options).compile();
      for (uint32_t i = 0; i < 12; ++i) expect_frame_pointer_rows(table, i * 256);
    }
  }
}

TEST(UnwindTable, ReadsEveryCieLayout) {
  for (const char* augmentation : {"", "zR", "zPLR", "zRP", "zRB"}) {
    for (uint8_t version : {1, 3, 4}) {
      for (bool long_lengths : {false, true}) {
        SCOPED_TRACE(augmentation);
        section_options options;
        options.augmentation = augmentation;
        if (options.augmentation.empty()) options.encoding = 0;
        options.cie_version = version;
        options.long_lengths = long_lengths;
        expect_frame_pointer_rows(compile(with_frame_pointer, options), 0);
      }
    }
  }
}

TEST(UnwindTable, UndefinedReturnAddressIsTheOutermostFrame) {
  EXPECT_TRUE(stops_with(row_at(compile({0x07, rip}), 9), stop_reason::outermost));
}

TEST(UnwindTable, GapsHaveNoFunctionButPaddingDoes) {
  section s({{64, 60, {}}, {128, 64, {}}, {256, 64, {}}}, {});
  unwind_table table = s.compile();
  EXPECT_TRUE(stops_with(row_at(table, 0), stop_reason::no_function));
  EXPECT_TRUE(stops_with(row_at(table, 63), stop_reason::no_function));
  EXPECT_EQ(row_at(table, 64).kind(), cfa_kind::rsp_offset);
  EXPECT_EQ(row_at(table, 126).kind(), cfa_kind::rsp_offset);  // 4 bytes of padding
  EXPECT_EQ(row_at(table, 191).kind(), cfa_kind::rsp_offset);
  EXPECT_TRUE(stops_with(row_at(table, 192), stop_reason::no_function));
  EXPECT_TRUE(stops_with(row_at(table, 255), stop_reason::no_function));
  EXPECT_TRUE(stops_with(row_at(table, 320), stop_reason::no_function));
  EXPECT_TRUE(stops_with(row_at(table, section::text_size - 1), stop_reason::no_function));
  EXPECT_EQ(table.row_count(), 5u);  // equal neighbours are one row
}

TEST(UnwindTable, SignalFrame) {
  section_options options;
  options.augmentation = "zRS";
  bytes program = block(0x0f, {0x77, 0xa0, 0x01, 0x06}) + bytes{0x10, rip, 3, 0x77, 0xa8, 0x01};
  EXPECT_EQ(row_at(compile(program, options), 3).kind(), cfa_kind::signal);
  // 'S' with ordinary rules: the caller's pc is exact.
  unwind_table table = compile({}, options);
  ASSERT_EQ(row_at(table, 3).kind(), cfa_kind::extended);
  EXPECT_TRUE(table.extended(row_at(table, 3)).exact_pc);
}

TEST(UnwindTable, PltExpression) {
  bytes expression = {0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22};
  unwind_table table = compile(block(0x0f, expression));
  EXPECT_EQ(row_at(table, 3).kind(), cfa_kind::plt);
  EXPECT_EQ(row_at(table, 3).payload(), 11u);
  for (size_t i = 0; i < expression.size(); ++i) {  // no byte of it may be different
    bytes other = expression;
    other[i] ^= i == 6 ? 0x40 : 0x01;  // the threshold: out of the range of DW_OP_lit*
    EXPECT_TRUE(stops_with(row_at(compile(block(0x0f, other)), 3), stop_reason::unsupported)) << i;
  }
}

TEST(UnwindTable, RealignedFrame) {
  // gcc's DRAP: CFA = *(rbp - 8), rbp at *(rbp), rbx at *(rbp - 16).
  unwind_table table = compile(block(0x0f, {0x76, 0x78, 0x06}) + bytes{0x10, rbp, 2, 0x76, 0x00} +
                               bytes{0x10, rbx, 2, 0x76, 0x70});
  ASSERT_EQ(row_at(table, 3).kind(), cfa_kind::extended);
  const extended_rule& rule = table.extended(row_at(table, 3));
  EXPECT_TRUE(rule.deref);
  EXPECT_EQ(rule.reg, rbp);
  EXPECT_EQ(rule.offset, -8);
  EXPECT_EQ(rule.rbp, (register_rule{register_rule::place::at_register, rbp, 0}));
  EXPECT_EQ(rule.rbx, (register_rule{register_rule::place::at_register, rbp, -16}));
}

TEST(UnwindTable, OtherRegistersAndBigOffsets) {
  unwind_table table =
      compile(def_cfa(r10, 0) + advance(1) + bytes{0x0c, rsp, 0x80, 0x80, 0x40} + advance(1) +
              bytes{0x0c, rsp, 0x88, 0x80, 0x04} + advance(1) + bytes{0x0c, rsp, 0x0c});
  ASSERT_EQ(row_at(table, 0).kind(), cfa_kind::extended);
  EXPECT_EQ(table.extended(row_at(table, 0)).reg, r10);
  ASSERT_EQ(row_at(table, 1).kind(), cfa_kind::extended);  // 1 MiB: more than 13 bits of words
  EXPECT_EQ(table.extended(row_at(table, 1)).offset, 1 << 20);
  ASSERT_EQ(row_at(table, 2).kind(), cfa_kind::extended);  // 64 KiB + 8
  EXPECT_EQ(table.extended(row_at(table, 2)).offset, 65544);
  ASSERT_EQ(row_at(table, 3).kind(), cfa_kind::extended);  // not a multiple of 8
  EXPECT_EQ(table.extended(row_at(table, 3)).offset, 12);
}

TEST(UnwindTable, UnknownExpressionsAreUnsupported) {
  for (const bytes& expression :
       std::vector<bytes>{{}, {0x77}, {0x77, 8, 0x06, 0x06}, {0x30}, {0x9c}}) {
    unwind_table table = compile(block(0x0f, expression));
    EXPECT_TRUE(stops_with(row_at(table, 3), stop_reason::unsupported));
    EXPECT_EQ(table.unsupported_rows(), 1u);
  }
}

TEST(UnwindTable, MalformedProgramCostsItsFunctionOnly) {
  // Unknown opcode; restore_state without remember_state; a block longer than the entry; a program
  // that goes back.
  for (const bytes& wrong : std::vector<bytes>{{0x3e}, {0x0b}, {0x0f, 0x7f}, {0x01, 1, 0, 0, 0}}) {
    section s(
        {{0, 64, with_frame_pointer}, {64, 64, advance(3) + wrong}, {128, 64, with_frame_pointer}},
        {});
    unwind_table table = s.compile();
    expect_frame_pointer_rows(table, 0);
    EXPECT_TRUE(stops_with(row_at(table, 64), stop_reason::unsupported));
    EXPECT_TRUE(stops_with(row_at(table, 127), stop_reason::unsupported));
    expect_frame_pointer_rows(table, 128);
  }
}

// [T1] sorted rows from 0, [T2] no read outside (for the address sanitizer to see), and a search
// that agrees with the definition, whatever the bytes are.
TEST(UnwindTable, SurvivesCorruptSections) {
  std::mt19937 random(20240607);
  std::vector<function> functions;
  for (uint32_t i = 0; i < 8; ++i) functions.push_back({i * 300, 256, with_frame_pointer});
  const section_options variants[] = {{}, {.encoding = 0x1c, .table_encoding = 0xff}};
  for (const section_options& options : variants) {
    for (int round = 0; round < 10000; ++round) {
      section s(functions, options);
      for (int flips = 1 + round % 6; flips > 0; --flips) {
        size_t at = random() % 2 == 0 ? random() % 80 : 2048 + random() % (s.used() - 2048);
        s.memory()[at] = static_cast<uint8_t>(random() % 3 == 0 ? 0xff : random());
      }
      unwind_table table = s.compile();
      ASSERT_FALSE(table.rows().empty());
      ASSERT_EQ(table.rows().front().pc, 0u);
      ASSERT_EQ(std::adjacent_find(table.rows().begin(), table.rows().end(),
                                   [](auto& a, auto& b) { return a.pc >= b.pc; }),
                table.rows().end());
      for (uint32_t pc = 0; pc < section::text_size; pc += 61) {
        auto next = std::upper_bound(table.rows().begin(), table.rows().end(), pc,
                                     [](uint32_t value, auto& row) { return value < row.pc; });
        ASSERT_EQ(&table.find(pc), &*(next - 1));
      }
    }
  }
}

}  // namespace
