#pragma once
// The nodes of the tree of contexts; context.cc has the design.
#include <weft/context.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>

#include "runtime/cancel_source.h"
#include "scheduler/timers.h"

namespace weft::sched {
struct task;
}

namespace weft::detail {

struct cancel_node;

struct context_node {
  enum class kind : uint8_t { root, value, shield, cancel };

  context_node(kind k, context_node* p) noexcept;

  const kind what;
  std::atomic<uint64_t> refs{1};
  context_node* const parent;  // referenced; null for roots
  cancel_node* source;         // the nearest that can be cancelled, maybe this; null: none
  int64_t deadline_ns;         // of the nearest deadline, never_ns: none
  std::unique_ptr<context_value> value;
};

// One function of after_func(). Referenced by its handle and by the list that holds it.
struct after_node {
  std::atomic<uint64_t> refs{1};
  std::atomic<bool> decided{false};  // taken back, started or given up; whoever sets it did it
  cancel_node* source = nullptr;     // referenced; null: never listed
  after_node* prev = nullptr;
  after_node* next = nullptr;
  bool listed = false;  // source's lock
  std::function<void()> f;
};

struct cancel_node final : context_node, cancel_source {
  explicit cancel_node(context_node* p) noexcept : context_node(kind::cancel, p) { source = this; }

  // Constant after construction.
  cancel_node* upper = nullptr;  // the parent's source

  // upper's lock.
  bool listed = false;
  cancel_node* prev = nullptr;
  cancel_node* next = nullptr;  // once unlisted: of the run that took it from upper

  // Own lock.
  cancel_node* children = nullptr;
  after_node* functions = nullptr;
  bool abandoned = false;

  errc code = errc::canceled;                     // written before cancelled_
  std::exception_ptr why;                         // likewise
  std::atomic<bool> announced{false};             // done_channel is closed
  std::atomic<bool> settled{false};               // all below is cancelled
  std::atomic<chan_core*> done_channel{nullptr};  // made at the first done(); referenced

  // Of the run that marked it, or of abandon().
  cancel_node* work_next = nullptr;

  // How many ways there are in which it may still be cancelled: cancel functions, the timer, upper.
  std::atomic<int64_t> cancellers{0};

  sched::timer timer;
  std::exception_ptr timeout_cause;

  // -- context.cc
  bool mark(errc e, const std::exception_ptr& cause) noexcept;
  void announce() noexcept;
  cancel_node* take_children() noexcept;  // a chain linked by next, each with a reference
  void run_functions() noexcept;
  void list_below_upper() noexcept;
  void unlist() noexcept;
  using cancel_source::lock_;
};

// Cancels `root`, to which the caller holds a reference, and all below it.
void cancel_tree(cancel_node* root, errc e, const std::exception_ptr& cause) noexcept;

// A task's context.
void inherit_context(const sched::task& parent, sched::task& child) noexcept;
void drop_own_context() noexcept;  // at a task's end, outside a critical section

}  // namespace weft::detail
