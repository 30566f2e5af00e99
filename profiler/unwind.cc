// Stack unwinding in signal handlers.
//
// Shape      unwind_table.cc compiles each module's .eh_frame into 8-byte rows; this file keeps the
//            set of modules and walks. A walk finds the module (the last one first, then a binary
//            search), the row, computes the CFA from rsp or rbp and reads the return address and
//            the saved rbp and rbx: 11 ns per frame, against 170-500 for libgcc.
// Why        A sampled pc is usually inside libc or libstdc++, which omit frame pointers: a walk by
//            rbp recovers 7-9 % of the frames. libgcc's unwinder is exact but 15 to 40 times
//            slower.
// Lookup     A return address may be the first byte after the function (a call that does not
//            return), so it is looked up by pc - 1; an interrupted pc, at the start or below a
//            signal frame, is exact.
// Snapshots  Handlers read one pointer to an immutable snapshot: sorted module ranges, each with
//            its table. unwind_refresh() publishes a new one; an old one is *never* freed, because
//            that would need proof that no handler runs on any thread, also on threads that weft
//            has never heard of. The price is bounded: a snapshot costs 32 bytes a module, and a
//            table is kept per build-id and relative to its module, so a library that is loaded and
//            unloaded a thousand times has one table.
//            A snapshot may name a library that has been closed since, with another one in its
//            place: glibc's _dl_find_object(), made for signal handlers, tells. Only for modules
//            that were not there at the process's start; the others cannot be closed.
// Bounds     [U1] every load lies in the given range or in a table. [U2] a step that finds no
//            caller ends the trace, and each step fills an entry of `pcs`, so a walk is bounded by
//            its size; unwind_ends(), whose arrays bound nothing, ends after as many frames as the
//            range has words: a smashed frame may be its own caller. A caller's rsp below its
//            callee's is legal: that is what running on another stack looks like.
// Limits     While an exception is delivered, libgcc overwrites the registers that its own frames
//            have saved with the landing pad's; a trace interrupted there may end early (under 0.1
//            % of the samples of a program that throws constantly; libgcc's own unwinder may crash
//            there).
// Not done   A pc -> row cache (5 ns instead of 11 per frame): it would have to be per thread, and
//            a sample costs 3 us of signal delivery anyway. Registers beyond rsp, rbp, rbx: nothing
//            compiled addresses a frame by them, except hand-written leaf code, which sees all of
//            them.
// Tests      tests/unit/profiler/unwind_test.cc; unwind_sampling_test.cc: as libgcc on >= 99.9 % of
//            samples.
#include "profiler/unwind.h"

#include <dlfcn.h>
#include <link.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "profiler/modules.h"
#include "profiler/unwind_table.h"

// The walk reads other functions' frames, which a sanitizer has poisoned or not yet seen written.
#define WEFT_RAW_STACK_ACCESS \
  __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize("undefined")))

namespace weft::prof {
namespace {

struct loaded_module {
  uintptr_t lo;
  uintptr_t hi;
  const unwind_table* table;
  uintptr_t eh_frame_hdr;  // of a module that may be closed; 0: it stays
};

struct snapshot {
  const loaded_module* modules = nullptr;  // sorted by lo
  size_t count = 0;
  std::vector<loaded_module> storage;
  module_counters taken_at;
};

// The .eh_frame_hdr of the module that is loaded at `pc` now; 0 if there is none, or it has none.
// Async-signal-safe.
uintptr_t eh_frame_hdr_at(uintptr_t pc) noexcept {
  dl_find_object found{};
  if (::_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return 0;
  return reinterpret_cast<uintptr_t>(found.dlfo_eh_frame);
}

// The modules that the process was started with, by their .eh_frame_hdr. Never destroyed.
const std::vector<uintptr_t>* g_modules_at_start = nullptr;
[[gnu::constructor]] void note_modules_at_start() {
  auto* modules = new std::vector<uintptr_t>;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* all) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
            static_cast<std::vector<uintptr_t>*>(all)->push_back(info->dlpi_addr +
                                                                 info->dlpi_phdr[i].p_vaddr);
        }
        return 0;
      },
      modules);
  g_modules_at_start = modules;
}

bool was_there_at_start(uintptr_t eh_frame_hdr) {
  return g_modules_at_start != nullptr &&
         std::ranges::find(*g_modules_at_start, eh_frame_hdr) != g_modules_at_start->end();
}

// [ord unwind.snapshot] the release store publishes a snapshot and its tables to handlers.
constinit std::atomic<const snapshot*> current_snapshot{nullptr};

// ---- the walk --------------------------------------------------------------------------------

struct [[gnu::packed, gnu::may_alias]] stack_word {
  uintptr_t value;
};

// One walk's state: where it is, and where the registers that rows do not follow can be found.
struct walk_state {
  uintptr_t pc;
  uintptr_t rsp;
  uintptr_t rbp;
  uintptr_t rbx;
  bool exact_pc;
  const regs* leaf;        // all registers of this frame, for the start frame
  uintptr_t leaf_context;  // the same for a frame interrupted by a signal: its ucontext_t
  uintptr_t lo;            // [U1] loads at [lo, last]
  uintptr_t last;
};

// Where the kernel's ucontext_t has each register, by DWARF number.
constexpr uint8_t context_offset[17] = {144, 136, 152, 128, 112, 104, 120, 160, 40,
                                        48,  56,  64,  72,  80,  88,  96,  168};
static_assert(offsetof(ucontext_t, uc_mcontext.gregs) == 40);
static_assert(REG_R8 == 0 && REG_RDI == 8 && REG_RBP == 10 && REG_RSP == 15 && REG_RIP == 16);

WEFT_RAW_STACK_ACCESS inline bool load(const walk_state& w, uintptr_t at, uintptr_t& value) {
  if (at < w.lo || at > w.last) return false;
  value = reinterpret_cast<const stack_word*>(at)->value;
  return true;
}

WEFT_RAW_STACK_ACCESS bool read_register(const walk_state& w, uint8_t reg, uintptr_t& value) {
  switch (reg) {
    case dwarf_rsp:
      value = w.rsp;
      return true;
    case dwarf_rbp:
      value = w.rbp;
      return true;
    case dwarf_rbx:
      value = w.rbx;
      return true;
    default:
      break;
  }
  if (w.leaf_context != 0) return load(w, w.leaf_context + context_offset[reg], value);
  if (w.leaf == nullptr) return false;
  const regs& r = *w.leaf;
  const uintptr_t by_number[16] = {r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp,
                                   r.r8,  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15};
  value = by_number[reg];
  return true;
}

// The caller's value of one register by an extended rule; `unchanged` is what `same` means.
WEFT_RAW_STACK_ACCESS bool apply(const walk_state& w, const register_rule& rule, uintptr_t cfa,
                                 uintptr_t unchanged, uintptr_t& value) {
  using place = register_rule::place;
  switch (rule.where) {
    case place::same:
      value = unchanged;
      return true;
    case place::cfa_offset:
      return load(w, cfa + static_cast<uintptr_t>(intptr_t{rule.offset}), value);
    case place::in_register:
      return read_register(w, rule.reg, value);
    case place::at_register: {
      uintptr_t base = 0;
      return read_register(w, rule.reg, base) &&
             load(w, base + static_cast<uintptr_t>(intptr_t{rule.offset}), value);
    }
    case place::undefined:
    case place::unsupported:
      // Lost, which matters only if an outer frame is addressed by it; 0 then ends the trace.
      value = 0;
      return true;
  }
  return false;
}

WEFT_RAW_STACK_ACCESS bool step_extended(walk_state& w, const extended_rule& rule) {
  uintptr_t cfa = 0;
  if (!read_register(w, rule.reg, cfa)) return false;
  cfa += static_cast<uintptr_t>(intptr_t{rule.offset});
  if (rule.deref) {
    if (!load(w, cfa, cfa)) return false;
    cfa += static_cast<uintptr_t>(intptr_t{rule.add});
  }
  uintptr_t pc = 0;
  uintptr_t rsp = 0;
  uintptr_t rbp = 0;
  uintptr_t rbx = 0;
  if (!apply(w, rule.rip, cfa, 0, pc) || !apply(w, rule.rsp, cfa, cfa, rsp) ||
      !apply(w, rule.rbp, cfa, w.rbp, rbp) || !apply(w, rule.rbx, cfa, w.rbx, rbx)) {
    return false;
  }
  w.pc = pc;
  w.rsp = rsp;
  w.rbp = rbp;
  w.rbx = rbx;
  w.exact_pc = rule.exact_pc;
  w.leaf = nullptr;
  w.leaf_context = 0;
  return true;
}

WEFT_RAW_STACK_ACCESS bool step_signal(walk_state& w) {
  const uintptr_t context = w.rsp;
  if (!load(w, context + context_offset[dwarf_rip], w.pc) ||
      !load(w, context + context_offset[dwarf_rbp], w.rbp) ||
      !load(w, context + context_offset[dwarf_rbx], w.rbx) ||
      !load(w, context + context_offset[dwarf_rsp], w.rsp)) {
    return false;
  }
  w.exact_pc = true;
  w.leaf = nullptr;
  w.leaf_context = context;
  return true;
}

WEFT_RAW_STACK_ACCESS inline bool step_plain(walk_state& w, const unwind_row& row, uintptr_t cfa) {
  uintptr_t rbp = w.rbp;
  uintptr_t rbx = w.rbx;
  if (!load(w, cfa - 8, w.pc)) return false;
  if (row.rbp_slot != 0 && !load(w, cfa - uintptr_t{8} * row.rbp_slot, rbp)) return false;
  if (row.rbx_slot != 0 && !load(w, cfa - uintptr_t{8} * row.rbx_slot, rbx)) return false;
  w.rsp = cfa;
  w.rbp = rbp;
  w.rbx = rbx;
  w.exact_pc = false;
  w.leaf = nullptr;
  w.leaf_context = 0;
  return true;
}

// The module that contains `pc`, or null. `guess` is the previous answer: callers cluster.
WEFT_RAW_STACK_ACCESS inline const loaded_module* find_module(const snapshot& s, uintptr_t pc,
                                                              const loaded_module* guess) {
  if (guess != nullptr && pc - guess->lo < guess->hi - guess->lo) return guess;
  size_t low = 0;
  size_t high = s.count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (s.modules[middle].lo <= pc) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return nullptr;
  const loaded_module* module = &s.modules[low - 1];
  if (pc >= module->hi) return nullptr;
  if (module->eh_frame_hdr != 0 && eh_frame_hdr_at(pc) != module->eh_frame_hdr) return nullptr;
  return module;
}

// Walks from `w`, leaving out the first `skip` frames, until keep(pc) is false.
template <class Keep>
WEFT_RAW_STACK_ACCESS unwind_end walk(walk_state w, const snapshot* s, size_t skip, Keep& keep) {
  const loaded_module* module = nullptr;
  for (;;) {
    if (skip != 0) {
      --skip;
    } else if (!keep(w.pc)) {
      return unwind_end::truncated;
    }
    if (s == nullptr) return unwind_end::no_table;
    const uintptr_t pc = w.exact_pc ? w.pc : w.pc - 1;
    module = find_module(*s, pc, module);
    if (module == nullptr) return unwind_end::no_table;
    const unwind_row& row = module->table->find(static_cast<uint32_t>(pc - module->lo));
    bool good = false;
    switch (row.kind()) {
      case cfa_kind::rsp_offset:
        good = step_plain(w, row, w.rsp + uintptr_t{8} * row.payload());
        break;
      case cfa_kind::rbp_offset:
        good = step_plain(w, row, w.rbp + uintptr_t{8} * row.payload());
        break;
      case cfa_kind::plt:
        good = step_plain(w, row, w.rsp + ((w.pc & 15) >= row.payload() ? 16 : 8));
        break;
      case cfa_kind::signal:
        good = step_signal(w);
        break;
      case cfa_kind::extended:
        good = step_extended(w, module->table->extended(row));
        break;
      case cfa_kind::stop:
        switch (static_cast<stop_reason>(row.payload())) {
          case stop_reason::outermost:
            return unwind_end::outermost;
          case stop_reason::no_function:
            return unwind_end::no_table;
          case stop_reason::unsupported:
            return unwind_end::bad_frame;
        }
        break;
    }
    if (!good) return unwind_end::bad_frame;
    if (w.pc == 0) return unwind_end::outermost;
  }
}

struct leaf_side {
  uintptr_t* pcs;
  size_t capacity;
  size_t depth = 0;
  bool operator()(uintptr_t pc) noexcept {
    if (depth == capacity) return false;
    pcs[depth++] = pc;
    return true;
  }
};

struct both_sides {
  std::span<uintptr_t> inner, outer;  // outer is a ring until the end
  const size_t most;
  size_t total = 0;
  bool operator()(uintptr_t pc) noexcept {
    if (total == most) return false;
    if (total < inner.size())
      inner[total] = pc;
    else if (!outer.empty())
      outer[(total - inner.size()) % outer.size()] = pc;
    ++total;
    return true;
  }
};

// Walks into an array.
WEFT_RAW_STACK_ACCESS unwind_result walk(const walk_state& w, const snapshot* s, size_t skip,
                                         uintptr_t* pcs, size_t capacity) {
  leaf_side keep{pcs, capacity};
  unwind_end end = walk(w, s, skip, keep);
  return {keep.depth, end};
}

WEFT_RAW_STACK_ACCESS walk_state start_at(const regs& start, stack_range range) {
  // A range too small for one word gives bounds that no address meets.
  const bool usable = range.hi > range.lo && range.hi - range.lo >= sizeof(uintptr_t);
  return {start.rip, start.rsp, start.rbp,
          start.rbx, true,      &start,
          0,         range.lo,  usable ? range.hi - sizeof(uintptr_t) : 0};
}

// ---- modules ---------------------------------------------------------------------------------

struct known_table {
  std::string identity;  // name, build-id and sizes; "" for a module without build-id
  uintptr_t text_lo = 0;
  uintptr_t eh_frame_hdr = 0;
  std::unique_ptr<const unwind_table> table;
};

struct registry {
  std::mutex mutex;
  std::vector<known_table> tables;
  std::vector<std::unique_ptr<const snapshot>> snapshots;  // the last one is current
};

// Never destroyed: handlers may run until the last instruction of exit().
registry& the_registry() {
  static registry* const instance = new registry;
  return *instance;
}

module_image image_of(const dl_phdr_info& info) {
  module_image image;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info.dlpi_phdr[i];
    const uintptr_t lo = info.dlpi_addr + header.p_vaddr;
    const uintptr_t hi = lo + header.p_memsz;
    if (header.p_type == PT_LOAD && (header.p_flags & PF_R) != 0) {
      image.readable.push_back({lo, hi});
    }
    if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0) {
      image.text_lo = image.text_hi == 0 ? lo : std::min(image.text_lo, lo);
      image.text_hi = std::max(image.text_hi, hi);
    }
    if (header.p_type == PT_GNU_EH_FRAME) {
      image.eh_frame_hdr = lo;
    }
  }
  return image;
}

struct refresh {
  registry& known;
  snapshot& next;
  const bool unloads_since_last;
};

// Runs under the dynamic linker's lock, so the module cannot vanish while its CFI is read.
int add_module(dl_phdr_info* info, size_t /*size*/, void* context) {
  refresh& r = *static_cast<refresh*>(context);
  module_image image = image_of(*info);
  if (image.text_hi <= image.text_lo || image.eh_frame_hdr == 0) return 0;
  std::string build_id = build_id_of(*info);
  std::string identity;
  if (!build_id.empty()) {
    identity = info->dlpi_name;
    identity += ' ' + build_id + ' ' + std::to_string(image.text_hi - image.text_lo) + ' ' +
                std::to_string(image.eh_frame_hdr - image.text_lo);
  }
  const unwind_table* table = nullptr;
  for (const known_table& k : r.known.tables) {
    // Without a build-id, only "nothing was unloaded" proves that the bytes there are the same.
    bool same_place = k.text_lo == image.text_lo && k.eh_frame_hdr == image.eh_frame_hdr;
    if (identity.empty() ? (k.identity.empty() && same_place && !r.unloads_since_last)
                         : k.identity == identity) {
      table = k.table.get();
      break;
    }
  }
  if (table == nullptr) {
    auto built = std::make_unique<const unwind_table>(compile_unwind_table(image));
    table = built.get();
    if (identity.empty()) {  // a stale table of this place must not be found by a later refresh
      for (known_table& k : r.known.tables) {
        if (k.identity.empty() && k.text_lo == image.text_lo) k.text_lo = 0;
      }
    }
    r.known.tables.push_back(
        {std::move(identity), image.text_lo, image.eh_frame_hdr, std::move(built)});
  }
  r.next.storage.push_back({image.text_lo, image.text_lo + table->size(), table,
                            was_there_at_start(image.eh_frame_hdr) ? 0 : image.eh_frame_hdr});
  return 0;
}

}  // namespace

void unwind_refresh() {
  const snapshot* seen = current_snapshot.load(std::memory_order_acquire);
  if (seen != nullptr && seen->taken_at == count_module_changes()) return;

  registry& known = the_registry();
  std::lock_guard lock(known.mutex);
  seen = current_snapshot.load(std::memory_order_relaxed);
  // Counted before the modules are listed: one loaded in between is seen now or by the next
  // refresh.
  const module_counters now = count_module_changes();
  if (seen != nullptr && seen->taken_at == now) return;
  auto next = std::make_unique<snapshot>();
  next->taken_at = now;
  refresh context{known, *next, seen != nullptr && seen->taken_at.unloads != now.unloads};
  dl_iterate_phdr(add_module, &context);
  std::sort(next->storage.begin(), next->storage.end(),
            [](const loaded_module& a, const loaded_module& b) { return a.lo < b.lo; });
  next->modules = next->storage.data();
  next->count = next->storage.size();
  known.snapshots.push_back(std::move(next));
  current_snapshot.store(known.snapshots.back().get(), std::memory_order_release);
}

bool unwind_is_behind(uintptr_t pc) noexcept {
  const snapshot* s = current_snapshot.load(std::memory_order_acquire);
  return eh_frame_hdr_at(pc) != 0 && (s == nullptr || find_module(*s, pc, nullptr) == nullptr);
}

WEFT_RAW_STACK_ACCESS unwind_result unwind(const regs& start, stack_range range,
                                           std::span<uintptr_t> pcs) noexcept {
  return walk(start_at(start, range), current_snapshot.load(std::memory_order_acquire), 0,
              pcs.data(), pcs.size());
}

WEFT_RAW_STACK_ACCESS unwind_ends_result unwind_ends(const regs& start, stack_range range,
                                                     std::span<uintptr_t> inner,
                                                     std::span<uintptr_t> outer) noexcept {
  const size_t words = range.hi > range.lo ? (range.hi - range.lo) / sizeof(uintptr_t) : 0;
  both_sides keep{inner, outer, words + 2};
  unwind_end end =
      walk(start_at(start, range), current_snapshot.load(std::memory_order_acquire), 0, keep);
  const size_t beyond = keep.total > inner.size() ? keep.total - inner.size() : 0;
  if (beyond > outer.size() && !outer.empty())
    std::rotate(outer.begin(), outer.begin() + static_cast<std::ptrdiff_t>(beyond % outer.size()),
                outer.end());
  return {std::min(keep.total, inner.size()), std::min(beyond, outer.size()), keep.total, end};
}

WEFT_RAW_STACK_ACCESS unwind_result unwind_here(stack_range range,
                                                std::span<uintptr_t> pcs) noexcept {
  // What the caller's registers were is for the tables to say: the walk starts at one instruction
  // of this very function, with the registers as they are there, and leaves its own frame out. That
  // is exact for every compiler and optimization level; reading rbp or rbx as "the caller's" would
  // not be.
  regs here{};
  asm volatile(
      "leaq 1f(%%rip), %0\n"
      "1:\n\t"
      "movq %%rsp, %1\n\t"
      "movq %%rbp, %2\n\t"
      "movq %%rbx, %3"
      : "=&a"(here.rip), "=&d"(here.rsp), "=&c"(here.rbp), "=&S"(here.rbx));
  const snapshot* s = current_snapshot.load(std::memory_order_acquire);
  unwind_result result{};
  if (s != nullptr) result = walk(start_at(here, range), s, 1, pcs.data(), pcs.size());
  if (result.depth == 0 && !pcs.empty()) {
    pcs[0] = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
    result = {1, s == nullptr ? unwind_end::no_table : result.end};
  }
  return result;
}

regs regs_from_ucontext(const void* ucontext) noexcept {
  const auto& g = static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs;
  auto value = [&](int index) { return static_cast<uintptr_t>(g[index]); };
  return {.rip = value(REG_RIP),
          .rsp = value(REG_RSP),
          .rbp = value(REG_RBP),
          .rbx = value(REG_RBX),
          .rax = value(REG_RAX),
          .rdx = value(REG_RDX),
          .rcx = value(REG_RCX),
          .rsi = value(REG_RSI),
          .rdi = value(REG_RDI),
          .r8 = value(REG_R8),
          .r9 = value(REG_R9),
          .r10 = value(REG_R10),
          .r11 = value(REG_R11),
          .r12 = value(REG_R12),
          .r13 = value(REG_R13),
          .r14 = value(REG_R14),
          .r15 = value(REG_R15)};
}

unwind_stats unwind_statistics() {
  registry& known = the_registry();
  std::lock_guard lock(known.mutex);
  unwind_stats stats{};
  if (!known.snapshots.empty()) {
    const snapshot& current = *known.snapshots.back();
    stats.modules = current.count;
    for (const loaded_module& module : current.storage) {
      stats.rows += module.table->row_count();
      stats.unsupported_rows += module.table->unsupported_rows();
    }
  }
  for (const known_table& k : known.tables) stats.bytes += k.table->bytes();
  return stats;
}

}  // namespace weft::prof
