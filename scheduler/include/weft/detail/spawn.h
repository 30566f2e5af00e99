#pragma once
// How templates hand a callable to the scheduler without knowing it.
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace weft::sched {
struct task;
}

namespace weft::detail {

// A callable that waits for its task's first run. It is moved into storage inside the task record
// (or on the heap when larger), and from there to the task's stack, where it is invoked; a really
// large one stays on the heap. Moves happen in critical sections: they must not wait.
struct body_ops {
  size_t size;
  size_t align;
  void (*move_to)(void* from, void* to) noexcept;
  void (*invoke)(void* storage);  // runs and destroys; an exception passes through, undestroyed
  void (*destroy)(void* storage) noexcept;  // for a task that never ran
  // Null, or: the object on which others wait until this body has run, for find_deadlocks().
  const void* (*completes)(const void* storage) noexcept;
};

// A body that has `const void* completes() const noexcept`.
template <class F>
concept completing_body = requires(const F& f) {
  f.completes();
};

template <class F>
constexpr auto completes_of() noexcept -> const void* (*)(const void*) noexcept {
  if constexpr (completing_body<F>)
    return [](const void* storage) noexcept { return static_cast<const F*>(storage)->completes(); };
  else
    return nullptr;
}

template <class F>
inline constexpr body_ops body_ops_for = {
    sizeof(F),
    alignof(F),
    [](void* from, void* to) noexcept { ::new (to) F(std::move(*static_cast<F*>(from))); },
    [](void* storage) {
      F& f = *static_cast<F*>(storage);
      f();
      f.~F();
    },
    [](void* storage) noexcept { static_cast<F*>(storage)->~F(); },
    completes_of<F>()};

// What spawn_options says, in a form that needs no header.
struct spawn_params {
  const char* name = nullptr;  // copied
  uint8_t stack_class = 0;
  bool system = false;  // the runtime's own task: not counted, not shown
  bool main = false;    // the program's main task: takes id 1 if nobody has
};

// Makes a task of *callable (moved from) and queues it. The return address of this call is recorded
// as the place of creation. Callable from any thread.
[[gnu::noinline]] void spawn_task(const body_ops& ops, void* callable, const spawn_params& params);

}  // namespace weft::detail
