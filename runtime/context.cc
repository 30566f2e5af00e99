// The tree of contexts.
//
// Words      node: one with_…() call. source: a node that can be cancelled; every node knows the
//            nearest one above or at itself, so values and shields cost a waiter nothing. run: one
//            walk over a subtree that cancels it.
// Links      A node references its parent. A source lists the sources below it without referencing
//            them: a dying child takes itself off under the lister's lock, and a run takes children
//            only by try_keep(). A source references the functions of after_func(), and they it:
//            that cycle ends when the source is cancelled, or when nobody can cancel it any more.
// Invariants [X1] Each node is marked once, by one run, which then closes its channel, fires its
//                 listeners and functions and takes its children.
//            [X2] Error and cause are written before the mark, the channel is closed before
//                 `announced`, and err() shows the error only after that.
//            [X3] A run ends after all below its root is cancelled: it waits for the runs that
//                 marked nodes in its way. Their roots are strictly below its own, so no two runs
//                 wait for each other.
//            [X4] After the mark nobody joins the lists of listeners, children and functions.
//            [X5] A deadline below another is the earlier one, or it would have no timer.
// Deadlines  A timer's function runs under the lock of its heap and may not touch other timers, so
//            it only starts a task, which cancels. The timer references nothing: a dying node
//            removes it, and its function takes a reference if there is still one to take.
// Not done   Cancelling recursively under the parent's lock, as Go does: chains may be deep and
//            subtrees large, and these locks spin. A cancel function that cancels when it is
//            dropped: `with_timeout(…).first` would then be a cancelled context.
// Locks      A source's lock is a leaf but for what ready() takes; none is held with another's.
#include <weft/context.h>
#include <weft/task.h>

#include <mutex>

#include "base/clock.h"
#include "runtime/context_node.h"
#include "runtime/timed_wait.h"
#include "scheduler/park.h"

namespace weft {
namespace detail {
namespace {

context_node& root_node(int which) noexcept {
  static context_node* const roots[2] = {new context_node(context_node::kind::root, nullptr),
                                         new context_node(context_node::kind::root, nullptr)};
  return *roots[which];
}

bool try_keep(context_node* n) noexcept {
  uint64_t refs = n->refs.load(std::memory_order_relaxed);
  while (refs != 0) {
    if (n->refs.compare_exchange_weak(refs, refs + 1, std::memory_order_relaxed)) return true;
  }
  return false;
}

// Until another run has come as far as `flag` says. Rare and short: runs execute no user code.
void await(const std::atomic<bool>& flag) noexcept {
  while (!flag.load(std::memory_order_acquire)) this_task::yield();
}

// A critical section that holds a lock.
class guarded {
 public:
  explicit guarded(small_lock& l) noexcept : lock_(l) { lock_.lock(); }
  ~guarded() { lock_.unlock(); }
  guarded(const guarded&) = delete;

 private:
  sched::critical in_runtime_;
  small_lock& lock_;
};

void drop_function(after_node* n) noexcept {
  if (n == nullptr || n->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  drop(n->source);
  delete n;
}

void start_function(after_node* n) {
  if (n->decided.exchange(true, std::memory_order_acq_rel)) return;
  go([f = std::move(n->f)]() mutable {
    context_scope scope(background());
    f();
  });
}

void destroy(context_node* n) noexcept {
  if (n->what != context_node::kind::cancel) {
    delete n;
    return;
  }
  auto* c = static_cast<cancel_node*>(n);
  {
    sched::critical in_runtime;
    sched::remove_timer(c->timer);
  }
  c->unlist();
  chan_ref done(c->done_channel.load(std::memory_order_relaxed));
  delete c;
}

// Nobody can cancel `n`, to which the caller holds a reference, any more: lets go of functions that
// can never run, also below.
void abandon(cancel_node* n) noexcept {
  keep(n);
  n->work_next = nullptr;
  for (cancel_node* work = n; work != nullptr;) {
    cancel_node* top = std::exchange(work, work->work_next);
    after_node* functions = nullptr;
    {
      guarded hold(top->lock_);
      top->abandoned = true;
      std::swap(functions, top->functions);
      for (after_node* f = functions; f != nullptr; f = f->next) f->listed = false;
    }
    while (functions != nullptr) drop_function(std::exchange(functions, functions->next));
    for (cancel_node* c = top->take_children(); c != nullptr;) {
      cancel_node* child = std::exchange(c, c->next);
      if (child->cancellers.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        child->work_next = work;
        work = child;
      } else {
        drop(child);
      }
    }
    drop(top);
  }
}

void cancel_at_deadline(void* arg) {
  auto* n = static_cast<cancel_node*>(arg);
  cancel_tree(n, errc::context_deadline_exceeded, n->timeout_cause);
  drop(n);
}

void deadline_passed(sched::timer* t, int64_t) noexcept {
  auto* n = static_cast<cancel_node*>(t->arg);
  if (try_keep(n)) sched::start_task(cancel_at_deadline, n, 0);
}

context_node& parent_node(const context& parent) {
  if (parent.is_nil()) throw panic_error("cannot create context from nil parent");
  return *parent.node();
}

context_node& node_of(const context& ctx) {
  if (ctx.is_nil()) throw panic_error("nil context");
  return *ctx.node();
}

// A node with one cancel function.
cancel_node* make_cancel_node(const context& parent) {
  context_node& above = parent_node(parent);
  keep(&above);
  auto* n = new cancel_node(&above);
  n->upper = above.source;
  n->cancellers.store(1, std::memory_order_relaxed);
  return n;
}

template <class Function>
std::pair<context, Function> handles_of(cancel_node* n) noexcept {
  keep(n);
  return {context(n), Function(n)};
}

template <class Function>
std::pair<context, Function> plain_child(const context& parent) {
  cancel_node* n = make_cancel_node(parent);
  n->list_below_upper();
  return handles_of<Function>(n);
}

std::pair<context, cancel_function> timed_child(const context& parent, int64_t when_ns,
                                                std::exception_ptr cause) {
  if (parent_node(parent).deadline_ns <= when_ns) return plain_child<cancel_function>(parent);
  cancel_node* n = make_cancel_node(parent);
  n->deadline_ns = when_ns;
  n->timeout_cause = std::move(cause);
  n->cancellers.fetch_add(1, std::memory_order_relaxed);
  n->timer.when_ns = when_ns;
  n->timer.fire = deadline_passed;
  n->timer.arg = n;
  n->list_below_upper();
  if (when_ns <= base::now_refresh()) {
    cancel_tree(n, errc::context_deadline_exceeded, n->timeout_cause);
  } else if (!n->cancelled()) {
    sched::critical in_runtime;
    sched::add_timer(n->timer);
    // A run that passed before the line above has found no timer to remove.
    if (n->cancelled()) sched::remove_timer(n->timer);
  }
  return handles_of<cancel_function>(n);
}

int64_t when_of(std::chrono::steady_clock::time_point t) noexcept {
  return t.time_since_epoch().count();
}

int64_t when_after(std::chrono::nanoseconds d) noexcept {
  const int64_t now = base::now_refresh();
  return d.count() <= 0 ? now : sched::deadline_after(now, d.count());
}

}  // namespace

context_node::context_node(kind k, context_node* p) noexcept
    : what(k),
      parent(p),
      source(p != nullptr && k != kind::shield ? p->source : nullptr),
      deadline_ns(p != nullptr && k != kind::shield ? p->deadline_ns : sched::never_ns) {}

void keep(context_node* n) noexcept {
  if (n != nullptr && n->what != context_node::kind::root)
    n->refs.fetch_add(1, std::memory_order_relaxed);
}

void drop(context_node* n) noexcept {
  // A loop: chains may be long.
  while (n != nullptr && n->what != context_node::kind::root &&
         n->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    context_node* above = n->parent;
    destroy(n);
    n = above;
  }
}

// -- a source

bool cancel_node::mark(errc e, const std::exception_ptr& cause) noexcept {
  guarded hold(lock_);
  if (cancelled_.load(std::memory_order_relaxed)) return false;
  code = e;
  why = cause;
  cancelled_.store(true, std::memory_order_release);  // [ord cancel.state]
  return true;
}

void cancel_node::announce() noexcept {
  sched::critical in_runtime;
  sched::remove_timer(timer);
  // Written under the lock before the mark, or left alone.
  if (chan_core* c = done_channel.load(std::memory_order_acquire)) c->close_inside();
  announced.store(true, std::memory_order_release);
  fire_listeners();
}

cancel_node* cancel_node::take_children() noexcept {
  constexpr int batch = 256;
  cancel_node* taken = nullptr;
  for (bool more = true; more;) {
    guarded hold(lock_);
    for (int i = 0; i < batch && children != nullptr; ++i) {
      cancel_node* c = children;
      children = c->next;
      if (children != nullptr) children->prev = nullptr;
      c->listed = false;
      if (!try_keep(c)) continue;
      c->next = taken;
      taken = c;
    }
    more = children != nullptr;
  }
  return taken;
}

void cancel_node::run_functions() noexcept {
  after_node* chain = nullptr;
  {
    guarded hold(lock_);
    std::swap(chain, functions);
    for (after_node* f = chain; f != nullptr; f = f->next) f->listed = false;
  }
  while (chain != nullptr) {
    after_node* f = std::exchange(chain, chain->next);
    start_function(f);
    drop_function(f);
  }
}

void cancel_node::list_below_upper() noexcept {
  if (upper == nullptr) return;
  {
    guarded hold(upper->lock_);
    if (!upper->cancelled()) {
      if (upper->abandoned) return;
      cancellers.fetch_add(1, std::memory_order_relaxed);
      listed = true;
      prev = nullptr;
      next = upper->children;
      if (next != nullptr) next->prev = this;
      upper->children = this;
      return;
    }
  }
  cancel_tree(this, upper->code, upper->why);
}

void cancel_node::unlist() noexcept {
  if (upper == nullptr) return;
  guarded hold(upper->lock_);
  if (!listed) return;
  listed = false;
  (prev != nullptr ? prev->next : upper->children) = next;
  if (next != nullptr) next->prev = prev;
}

void cancel_tree(cancel_node* root, errc e, const std::exception_ptr& cause) noexcept {
  if (!root->mark(e, cause)) {
    await(root->settled);
    return;
  }
  keep(root);
  cancel_node* work = nullptr;    // taken from their parents; linked by next
  cancel_node* others = nullptr;  // marked by other runs; likewise
  cancel_node* done = nullptr;    // marked by this one; linked by work_next
  for (cancel_node* n = root;;) {
    n->work_next = done;
    done = n;
    n->announce();
    n->run_functions();
    for (cancel_node* c = n->take_children(); c != nullptr;) {
      cancel_node* child = std::exchange(c, c->next);
      child->next = work;
      work = child;
    }
    for (n = nullptr; n == nullptr && work != nullptr;) {
      cancel_node* c = std::exchange(work, work->next);
      if (c->mark(e, cause)) {
        n = c;
      } else {
        c->next = others;
        others = c;
      }
    }
    if (n == nullptr) break;
  }
  root->unlist();
  for (cancel_node* n = others; n != nullptr; n = n->next) await(n->settled);
  for (cancel_node* n = done; n != nullptr; n = n->work_next)
    n->settled.store(true, std::memory_order_release);
  // Only now: the last reference to a value may be among these, and its destructor, which is the
  // user's, may cancel a node of this run.
  while (others != nullptr) drop(std::exchange(others, others->next));
  while (done != nullptr) drop(std::exchange(done, done->work_next));
}

// -- what the templates in the header call

context with_value_node(const context& parent, std::unique_ptr<context_value> v) {
  context_node& above = parent_node(parent);
  auto* n = new context_node(context_node::kind::value, &above);
  keep(&above);
  n->value = std::move(v);
  return context(n);
}

stop_function after_func_node(const context& ctx, std::function<void()> f) {
  cancel_node* source = node_of(ctx).source;
  auto* n = new after_node;
  stop_function handle(n);
  n->f = std::move(f);
  if (source == nullptr) return handle;
  keep(source);
  n->source = source;
  {
    guarded hold(source->lock_);
    if (!source->cancelled()) {
      if (source->abandoned) return handle;
      n->refs.fetch_add(1, std::memory_order_relaxed);
      n->listed = true;
      n->next = source->functions;
      if (n->next != nullptr) n->next->prev = n;
      source->functions = n;
      return handle;
    }
  }
  start_function(n);
  return handle;
}

wait_limit limit_of(const context& ctx) { return {node_of(ctx).source}; }

// -- tasks

void inherit_context(const sched::task& parent, sched::task& child) noexcept {
  auto* n = static_cast<context_node*>(parent.run_context);
  keep(n);
  child.run_context = n;
}

void drop_own_context() noexcept {
  sched::enter();
  void* n = std::exchange(sched::current_task()->run_context, nullptr);
  sched::leave();
  drop(static_cast<context_node*>(n));
}

context_scope::context_scope(const context& ctx) : previous_(ctx) {
  context_node* n = &node_of(ctx);
  if (n == &root_node(0)) n = nullptr;
  sched::enter();
  void* before = std::exchange(sched::current_task()->run_context, n);
  sched::leave();
  // The reference that previous_ has counted for ctx is the task's now, and the task's is its.
  previous_.exchange_node(static_cast<context_node*>(before));
}

context_scope::~context_scope() {
  context_node* mine = previous_.exchange_node(nullptr);
  sched::enter();
  void* n = std::exchange(sched::current_task()->run_context, mine);
  sched::leave();
  drop(static_cast<context_node*>(n));
}

}  // namespace detail

using detail::cancel_node;

context background() noexcept { return context(&detail::root_node(0)); }
context todo() noexcept { return context(&detail::root_node(1)); }

std::pair<context, cancel_function> with_cancel(const context& parent) {
  return detail::plain_child<cancel_function>(parent);
}

std::pair<context, cancel_cause_function> with_cancel_cause(const context& parent) {
  return detail::plain_child<cancel_cause_function>(parent);
}

std::pair<context, cancel_function> with_deadline(const context& parent,
                                                  std::chrono::steady_clock::time_point t) {
  return detail::timed_child(parent, detail::when_of(t), nullptr);
}

std::pair<context, cancel_function> with_timeout(const context& parent,
                                                 std::chrono::nanoseconds d) {
  return detail::timed_child(parent, detail::when_after(d), nullptr);
}

std::pair<context, cancel_function> with_deadline_cause(const context& parent,
                                                        std::chrono::steady_clock::time_point t,
                                                        std::exception_ptr cause) {
  return detail::timed_child(parent, detail::when_of(t), std::move(cause));
}

std::pair<context, cancel_function> with_timeout_cause(const context& parent,
                                                       std::chrono::nanoseconds d,
                                                       std::exception_ptr cause) {
  return detail::timed_child(parent, detail::when_after(d), std::move(cause));
}

context without_cancel(const context& parent) {
  detail::context_node& above = detail::parent_node(parent);
  auto* n = new detail::context_node(detail::context_node::kind::shield, &above);
  detail::keep(&above);
  return context(n);
}

recv_chan<std::monostate> context::done() const {
  using detail::chan_core;
  cancel_node* s = detail::node_of(*this).source;
  if (s == nullptr) return {};
  chan_core* core = s->done_channel.load(std::memory_order_acquire);
  if (core == nullptr) {
    static const auto* const closed = [] {
      auto* c = new chan<std::monostate>(0);
      c->close();
      return c;
    }();
    const chan<std::monostate> fresh = s->cancelled() ? *closed : chan<std::monostate>(0);
    detail::guarded hold(s->lock_);
    core = s->done_channel.load(std::memory_order_relaxed);
    if (core == nullptr) {
      core = (s->cancelled() ? *closed : fresh).ref().get();
      core->add_ref();
      s->done_channel.store(core, std::memory_order_release);
    }
  }
  core->add_ref();
  return chan<std::monostate>(detail::chan_ref(core));
}

error_code context::err() const {
  const cancel_node* s = detail::node_of(*this).source;
  if (s == nullptr || !s->cancelled()) return {};
  detail::await(s->announced);  // [X2]
  return s->code;
}

std::exception_ptr context::cause() const {
  const error_code e = err();
  if (!e) return nullptr;
  const cancel_node* s = node_->source;
  return s->why != nullptr ? s->why : std::make_exception_ptr(system_error(e));
}

std::optional<std::chrono::steady_clock::time_point> context::deadline() const {
  const int64_t when = detail::node_of(*this).deadline_ns;
  if (when == sched::never_ns) return std::nullopt;
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(when));
}

const detail::context_value* context::find(const void* key) const {
  for (const detail::context_node* n = &detail::node_of(*this); n != nullptr; n = n->parent) {
    if (n->value != nullptr && n->value->key == key) return n->value.get();
  }
  return nullptr;
}

cancel_function::cancel_function(const cancel_function& o) noexcept : node_(o.node_) {
  if (node_ == nullptr) return;
  detail::keep(node_);
  static_cast<cancel_node*>(node_)->cancellers.fetch_add(1, std::memory_order_relaxed);
}

cancel_function::~cancel_function() {
  if (node_ == nullptr) return;
  auto* n = static_cast<cancel_node*>(node_);
  if (n->cancellers.fetch_sub(1, std::memory_order_acq_rel) == 1 && !n->cancelled())
    detail::abandon(n);
  detail::drop(n);
}

void cancel_function::operator()() const noexcept { cancel(nullptr); }

void cancel_function::cancel(std::exception_ptr cause) const noexcept {
  if (node_ != nullptr)
    detail::cancel_tree(static_cast<cancel_node*>(node_), errc::canceled, cause);
}

stop_function::stop_function(const stop_function& o) noexcept : node_(o.node_) {
  if (node_ != nullptr) node_->refs.fetch_add(1, std::memory_order_relaxed);
}

stop_function::~stop_function() { detail::drop_function(node_); }

bool stop_function::operator()() const {
  detail::after_node* n = node_;
  if (n == nullptr || n->decided.exchange(true, std::memory_order_acq_rel)) return false;
  bool was_listed = false;
  if (n->source != nullptr) {
    detail::guarded hold(n->source->lock_);
    was_listed = std::exchange(n->listed, false);
    if (was_listed) {
      (n->prev != nullptr ? n->prev->next : n->source->functions) = n->next;
      if (n->next != nullptr) n->next->prev = n->prev;
    }
  }
  n->f = nullptr;
  if (was_listed) detail::drop_function(n);
  return true;
}

context this_task::context() {
  sched::critical in_runtime;
  auto* n = static_cast<detail::context_node*>(sched::current_task()->run_context);
  if (n == nullptr) return background();
  detail::keep(n);
  return weft::context(n);
}

}  // namespace weft
