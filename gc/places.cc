// Where references are made and stored. A ref may lie in an object of the heap, in a word that its
// type declares; on the stack of a task or of a thread that the runtime knows; and in the closure
// of a task. Anywhere else it keeps nothing alive, and what it refers to is freed while it is in
// use.
//
// In debug builds every ref that is made or stored to is asked, and a wrong one ends the process at
// once with the type and the offset (check_place). In others only refs that are made while marking
// is on are, which is where the barrier leaves the fast path anyway; they are counted.
#include "gc/places.h"

#include <cxxabi.h>
#include <weft/gc/detail/heap.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/check.h"
#include "gc/heap.h"
#include "gc/span.h"
#include "gc/stress.h"
#include "gc/unstopped.h"
#include "scheduler/park.h"
#include "scheduler/spawning.h"
#include "scheduler/stack_memory.h"
#include "scheduler/world_stop.h"

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace weft::gc {
namespace {

std::atomic<uint64_t> g_untraced{0};

enum class verdict : uint8_t { traced, undeclared, freed, elsewhere };

struct finding {
  verdict is = verdict::traced;
  const type_info* owner = nullptr;  // undeclared: type of the object, or of the array's elements
  size_t offset = 0;                 // in it
};

bool is_declared(const type_info& t, size_t offset) noexcept {
  if (offset % sizeof(void*) != 0) return false;
  if (t.conservative) return true;
  const size_t word = offset / sizeof(void*);
  return t.mask != nullptr && word / 64 < t.mask_words &&
         ((t.mask[word / 64] >> (word % 64)) & 1) != 0;
}

finding look_in_heap(uintptr_t address) noexcept {
  hit h;
  if (!find(address, h)) return {verdict::freed};
  const type_info* t = h.s->type;
  size_t offset = address - h.object();
  if (h.s->headered) {
    t = reinterpret_cast<const array_header*>(h.object())->type.load(std::memory_order_acquire);
    if (t == nullptr) return {};
    offset = (offset - header_bytes(*t)) % t->size;
  }
  return {is_declared(*t, offset) ? verdict::traced : verdict::undeclared, t, offset};
}

bool lies_in(uintptr_t address, const void* from, size_t bytes) noexcept {
  return address - reinterpret_cast<uintptr_t>(from) < bytes;
}

// A closure of a task that has not begun, or that is too large for the task's stack.
bool is_in_closure(uintptr_t address, sched::task* current) noexcept {
  if (current != nullptr && current->body != nullptr) {
    const void* at = sched::body_of(*current);
    if (at != nullptr && lies_in(address, at, current->body->size)) return true;
  }
  const sched::memory_range made = sched::closure_being_made();
  if (address - reinterpret_cast<uintptr_t>(made.lo) <
      reinterpret_cast<uintptr_t>(made.hi) - reinterpret_cast<uintptr_t>(made.lo))
    return true;
  const size_t chunks = sched::g_task_table.chunk_count->load(std::memory_order_acquire);
  for (size_t i = 0; i < chunks; ++i) {
    if (lies_in(address, sched::g_task_table.chunks[i].load(std::memory_order_acquire),
                sched::g_task_table.chunk_records * sizeof(sched::task)))
      return true;
  }
  return false;
}

bool is_on_stack(uintptr_t address) noexcept {
  {
    const sched::thread* th = sched::self();
    if (address >= th->stack_lo && address < th->stack_hi) return true;
  }
  if (sched::find_slab(address) != nullptr) return true;
#if WEFT_ASAN
  if (void* fake = __asan_get_current_fake_stack();
      fake != nullptr && __asan_addr_is_in_fake_stack(fake, reinterpret_cast<void*>(address),
                                                      nullptr, nullptr) != nullptr)
    return true;
#endif
  return false;
}

bool is_on_thread_stack(uintptr_t address) noexcept {
  struct question {
    uintptr_t address;
    bool yes;
  } q{address, false};
  unstopped here;
  sched::for_each_thread(
      [](sched::thread* th, void* arg) {
        auto& asked = *static_cast<question*>(arg);
        asked.yes |= asked.address >= th->stack_lo && asked.address < th->stack_hi;
      },
      &q);
  return q.yes;
}

finding look(const void* place) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(place);
  // Another thread may be making the heap.
  if (g_heap_exists.load(std::memory_order_acquire) && in_cage(address))
    return look_in_heap(address);
  if (is_on_stack(address)) return {};
  if (is_in_closure(address, sched::self()->current.load(std::memory_order_relaxed))) return {};
  return {is_on_thread_stack(address) ? verdict::traced : verdict::elsewhere};
}

std::string readable(const std::type_info& t) {
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(t.name(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? name.get() : t.name();
}

// "ref<T>" from the type of T*.
std::string ref_to(const std::type_info& pointer) {
  std::string name = readable(pointer);
  while (!name.empty() && (name.back() == '*' || name.back() == ' ')) name.pop_back();
  return "gc::ref<" + name + ">";
}

[[noreturn]] void refuse(const finding& f, const void* place, const std::type_info& pointer) {
  const std::string ref = ref_to(pointer);
  switch (f.is) {
    case verdict::undeclared:
      base::fatalf(
          "weft::gc: %s at offset %zu is a %s that its class does not declare, so the collector "
          "does not see it. Add the member to WEFT_GC_FIELDS(...) or trace() of the class, or "
          "remove the specialization of weft::gc::opaque for it",
          readable(*f.owner->type).c_str(), f.offset, ref.c_str());
    case verdict::freed:
      base::fatalf("weft::gc: a %s at %p lies in memory of the heap that has been freed",
                   ref.c_str(), place);
    default:
      base::fatalf(
          "weft::gc: a %s at %p lies in memory that the collector does not trace: of malloc, or a "
          "static or thread-local variable, or an exception. Use weft::gc::root<T> there, or "
          "weft::gc::global<T> for a variable of static storage duration",
          ref.c_str(), place);
  }
}

}  // namespace

void watch_places(bool on) noexcept {
  detail::places_are_watched.store(on, std::memory_order_relaxed);
}

uint64_t untraced_references() noexcept { return g_untraced.load(std::memory_order_relaxed); }

namespace detail {

std::atomic<bool> places_are_watched{false};

void check_place(const void* place, const std::type_info& pointer) noexcept {
  const finding f = look(place);
  if (f.is != verdict::traced) [[unlikely]]
    refuse(f, place, pointer);
}

void* made_while_marking(const void* place, const void* fresh) noexcept {
  if (g_options.paranoid) shade(fresh);
  if (look(place).is != verdict::traced && g_untraced.fetch_add(1, std::memory_order_relaxed) == 0)
    base::log_line(
        "a gc::ref at %p lies in memory that the collector does not trace; a debug build, or "
        "WEFT_GC=places=1 in one with assertions, names the type",
        place);
  return word_at(const_cast<void*>(place));
}

}  // namespace detail
}  // namespace weft::gc
