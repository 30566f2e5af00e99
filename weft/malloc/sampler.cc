// The sampler of weft::malloc: when an allocation is recorded, and what must not go wrong then.
//
// Countdown  Each thread subtracts what it allocates from t_left (base/alloc_sampling.h says why
//            the distances are exponential). A thread begins at 0, so that its first allocation
//            comes here.
// Recursion  What the recorder itself allocates, if anything, is not sampled (`inside`), and
//            nothing here allocates: a thread's state is in its static thread-local block.
// Listener   weft::weft's wiring is told of the first sample by a weak symbol, so that a program's
//            static constructors are in the profile; a program without it samples nothing.
// Rate       set_mem_profile_rate() puts every thread's countdown to 0; the thread then draws a
//            distance at the new mean. A store that meets the thread's subtraction is lost, which
//            a membarrier makes visible: then it is repeated. What was drawn at the old mean and
//            ran out is recorded with the old mean.
// realloc    An allocation of the new size and a free of the old block. A sampled block keeps its
//            place if it fits and is sampled again.
// fork       The child has one thread, and others may have held locks of the sampled store. So
//            fork() waits until no thread is in it (`gate`); threads that come meanwhile do not
//            sample, or wait to free. What the listener's readers hold nobody can know here: the
//            child of a process that has threads allocates and frees, but records no more.
// Sanitizers A program that is compiled with one and linked with this all the same gets the
//            sanitizer's allocator: no allocation is ever below the countdown then, and every
//            address is in the sampled range, so that both go the slow way, to where they are
//            passed on. The fast paths do not know.
// Ends       A thread's state leaves the list before its memory goes, in a pthread key's
//            destructor, and never enters it again, whatever later destructors allocate.
#include "weft/malloc/sampler.h"

#include <linux/membarrier.h>
#include <mimalloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/alloc_sampling.h"
#include "base/spinlock.h"

// In weft/wire.cc; absent from programs that do not link weft::weft. `loading` once, when this
// library is ready for the settings of the environment.
extern "C" [[gnu::weak]] void weft_wire_heap_profile(bool loading) noexcept;

// The sanitizers' runtimes have these.
extern "C" {
[[gnu::weak]] void* __interceptor_malloc(size_t);
[[gnu::weak]] void* __interceptor_calloc(size_t, size_t);
[[gnu::weak]] void* __interceptor_realloc(void*, size_t);
[[gnu::weak]] void* __interceptor_memalign(size_t, size_t);
[[gnu::weak]] void __interceptor_free(void*);
[[gnu::weak]] size_t __interceptor_malloc_usable_size(void*);
}

namespace weft::heap {

thread_local constinit uint64_t t_left = 0;

namespace {

struct thread_state {
  std::atomic<int64_t> rate{0};    // the mean at which t_left was drawn
  std::atomic<uint32_t> epoch{0};  // base::sample_rng_epoch() of `rng`
  uint64_t rng = 0;
  uint64_t* left = nullptr;  // the thread's t_left; set while in the list
  thread_state* next = nullptr;
  thread_state* prev = nullptr;
  bool inside = false;
  bool forking = false;
  bool seen = false;   // its first allocation has been here
  bool ended = false;  // its destructor has run
};

thread_local constinit thread_state t_state [[gnu::tls_model("initial-exec")]];

constinit base::spinlock g_threads_lock;
constinit thread_state* g_threads = nullptr;
constinit pthread_key_t g_key = 0;
constinit bool g_sanitizer = false;       // everything is passed on
constinit std::atomic<int> g_started{0};  // 0 no, 1 somebody is at it, 2 yes

// The gate of fork().
constinit std::atomic<int> g_inside{0};
constinit std::atomic<bool> g_forking{false};
constinit bool g_recording = true;  // false in children of processes with threads

bool enter() noexcept {
  // [ord heap.gate] against before_fork(): count, then look; it sets, then reads the count.
  g_inside.fetch_add(1, std::memory_order_seq_cst);
  if (!g_forking.load(std::memory_order_seq_cst) || t_state.forking) return true;
  g_inside.fetch_sub(1, std::memory_order_seq_cst);
  return false;
}

void leave() noexcept { g_inside.fetch_sub(1, std::memory_order_seq_cst); }

void before_fork() noexcept {
  bool free = false;
  while (!g_forking.compare_exchange_weak(free, true, std::memory_order_seq_cst)) {
    free = false;
    ::sched_yield();
  }
  while (g_inside.load(std::memory_order_seq_cst) != 0) ::sched_yield();  // [ord heap.gate]
  g_threads_lock.lock();
  t_state.forking = true;
}

void after_fork_in_parent() noexcept {
  t_state.forking = false;
  g_threads_lock.unlock();
  g_forking.store(false, std::memory_order_seq_cst);
}

void after_fork_in_child() noexcept {
  if (__libc_single_threaded == 0) g_recording = false;
  // The other threads are gone, and their thread-local memory may be used for something else.
  bool listed = t_state.left != nullptr;
  t_state.next = t_state.prev = nullptr;
  g_threads = listed ? &t_state : nullptr;
  after_fork_in_parent();
}

void thread_ended(void*) noexcept {
  g_threads_lock.lock();
  thread_state& t = t_state;
  t.ended = true;
  if (t.left != nullptr) {
    (t.prev != nullptr ? t.prev->next : g_threads) = t.next;
    if (t.next != nullptr) t.next->prev = t.prev;
    t.left = nullptr;
  }
  g_threads_lock.unlock();
}

void fence_other_threads() noexcept {
  constexpr auto call = [](int command) { return ::syscall(SYS_membarrier, command, 0, 0); };
  if (call(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return;
  call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  call(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

bool up_to_date(const thread_state& t) noexcept {
  return t.rate.load(std::memory_order_relaxed) == base::mem_profile_rate() &&
         t.epoch.load(std::memory_order_relaxed) == base::sample_rng_epoch();
}

// Sends every thread that has not drawn at the current rate to redraw().
void rate_changed() noexcept {
  g_threads_lock.lock();
  for (int round = 0; round < 8; ++round) {
    bool all = true;
    for (thread_state* t = g_threads; t != nullptr; t = t->next) {
      std::atomic_ref left(*t->left);
      if (up_to_date(*t)) continue;
      if (left.load(std::memory_order_relaxed) == 0) continue;
      left.store(0, std::memory_order_relaxed);
      all = false;
    }
    if (all) break;
    fence_other_threads();
  }
  g_threads_lock.unlock();
}

// Once, in the first allocation of the process, or soon after.
void start() noexcept {
  int none = 0;
  if (!g_started.compare_exchange_strong(none, 1, std::memory_order_relaxed)) return;
  if (__interceptor_malloc != nullptr && __interceptor_free != nullptr) {
    g_sanitizer = true;
    g_sampled.base.store(0, std::memory_order_relaxed);
    g_sampled.size.store(SIZE_MAX, std::memory_order_relaxed);
    g_started.store(2, std::memory_order_release);
    return;
  }
  ::pthread_key_create(&g_key, thread_ended);
  base::on_mem_profile_rate(rate_changed);
  g_started.store(2, std::memory_order_release);  // [ord heap.started] publishes g_key
}

void first_allocation(thread_state& t) noexcept {
  start();
  // [ord heap.started]. Otherwise another thread is in start(), or this one is in fork(), with the
  // list's lock: this thread enters the list next time.
  if (g_started.load(std::memory_order_acquire) != 2 || t.forking) return;
  t.seen = true;
  if (g_sanitizer || t.ended || ::pthread_setspecific(g_key, &t) != 0) return;
  g_threads_lock.lock();
  t.left = &t_left;
  t.next = g_threads;
  t.prev = nullptr;
  if (g_threads != nullptr) g_threads->prev = &t;
  g_threads = &t;
  g_threads_lock.unlock();
}

// Draws a new distance; the rate may change meanwhile.
void redraw(thread_state& t) noexcept {
  do {
    if (const uint32_t epoch = base::sample_rng_epoch();
        t.epoch.load(std::memory_order_relaxed) != epoch) {
      t.rng = base::new_sample_rng();
      t.epoch.store(epoch, std::memory_order_relaxed);
    }
    const int64_t rate = base::mem_profile_rate();
    t.rate.store(rate, std::memory_order_relaxed);
    t_left = static_cast<uint64_t>(base::next_sample_distance(t.rng, rate) + 1);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } while (!up_to_date(t));
}

// Whether the allocation of `size` bytes that has been counted out is one to sample, and at which
// mean. What is left of t_left is decided.
bool decide(thread_state& t, size_t size, int64_t* rate) noexcept {
  const uint64_t before = t_left + size;
  if (!t.seen) first_allocation(t);
  if (before != 0) {  // a distance ran out
    *rate = t.rate.load(std::memory_order_relaxed);
    redraw(t);
    return *rate > 0;
  }
  redraw(t);
  *rate = t.rate.load(std::memory_order_relaxed);
  if (*rate != 1) {
    // This allocation is the first of the new distance.
    if (!counts_out(size)) return false;
    redraw(t);
  }
  return *rate > 0;
}

const base::alloc_port& listener() noexcept {
  const base::alloc_port* port = &base::current_alloc_port();
  if (port->allocated == nullptr && weft_wire_heap_profile != nullptr) {
    weft_wire_heap_profile(false);
    port = &base::current_alloc_port();
  }
  return *port;
}

// The token of the sample; null: nobody wants it.
void* record(size_t size, int64_t rate) noexcept {
  const base::alloc_port& port = listener();
  return port.allocated != nullptr ? port.allocated(size, base::heap_kind::ordinary, rate)
                                   : nullptr;
}

void forget(void* token) noexcept {
  const base::alloc_port& port = base::current_alloc_port();
  if (token != nullptr && port.freed != nullptr && g_recording) port.freed(token);
}

// The time in which the thread is the recorder: nothing is sampled, and what the recorder allocates
// is not counted.
class recording {
 public:
  explicit recording(thread_state& t) noexcept : t_(t), left_(t_left) { t.inside = true; }
  ~recording() {
    t_left = left_;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    // The store may have undone rate_changed()'s.
    if (!up_to_date(t_)) t_left = 0;
    t_.inside = false;
    leave();
  }
  recording(const recording&) = delete;

 private:
  thread_state& t_;
  uint64_t left_;
};

// Runs f() as the recorder. Returns its result, or null if this is the recorder already or a fork
// is under way.
template <class F>
void* as_recorder(thread_state& t, F f) noexcept {
  if (t.inside || !g_recording || !enter()) return nullptr;
  recording scope(t);
  return f();
}

// A recorded block of the store, or null.
void* new_sampled(size_t size, size_t alignment, bool zero, int64_t rate) noexcept {
  void* block = store_allocate(size, std::max(alignment, size_t{16}), zero);
  if (block == nullptr) return nullptr;
  void* token = record(size, rate);
  if (token == nullptr) {
    store_free(block);
    return nullptr;
  }
  store_set_token(block, token);
  return block;
}

void* sanitizers_block(size_t size, size_t alignment, bool zero) noexcept {
  t_left = 0;
  if (alignment > 16) return __interceptor_memalign(alignment, size);
  return zero ? __interceptor_calloc(1, size) : __interceptor_malloc(size);
}

// mimalloc reports a failure, but leaves errno alone.
void set_errno(int error, void*) { errno = error == EINVAL || error == EFAULT ? error : ENOMEM; }

[[gnu::constructor]] void when_loaded() noexcept {
  ::mi_register_error(set_errno, nullptr);
  ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  if (weft_wire_heap_profile != nullptr) weft_wire_heap_profile(true);
}

}  // namespace

void* sample_allocation(size_t size, size_t alignment, bool zero) noexcept {
  const int saved_errno = errno;
  thread_state& t = t_state;
  int64_t rate = 0;
  if (!t.seen) first_allocation(t);
  if (g_sanitizer) return sanitizers_block(size, alignment, zero);
  if (t.inside || size > PTRDIFF_MAX || !decide(t, size, &rate)) return nullptr;
  void* p = as_recorder(t, [&] { return new_sampled(size, alignment, zero, rate); });
  errno = saved_errno;
  return p;
}

void* sampled_realloc(void* p, size_t size, bool out) noexcept {
  if (g_sanitizer) {
    t_left = 0;
    return __interceptor_realloc(p, size);
  }
  const size_t usable = store_usable_size(p);
  int64_t rate = 0;
  const bool sampled =
      out && !t_state.inside && size <= PTRDIFF_MAX && decide(t_state, size, &rate);
  if (sampled && size <= usable && size >= usable / 2) {
    void* kept = as_recorder(t_state, [&]() -> void* {
      void* token = record(size, rate);
      if (token == nullptr) return nullptr;
      forget(store_token(p));
      store_set_token(p, token);
      return p;
    });
    if (kept != nullptr) return kept;
  }
  void* moved = nullptr;
  if (sampled) moved = as_recorder(t_state, [&] { return new_sampled(size, 16, false, rate); });
  if (moved == nullptr) moved = ::mi_malloc(size);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, p, std::min(size, usable));
  sampled_free(p);
  return moved;
}

size_t sampled_usable_size(void* p) noexcept {
  if (g_sanitizer) return __interceptor_malloc_usable_size(p);
  return store_usable_size(p);
}

void sampled_free(void* p) noexcept {
  if (g_sanitizer) return __interceptor_free(p);
  const int saved_errno = errno;
  thread_state& t = t_state;
  // The recorder frees only what it allocated, which is not sampled; but what else runs in it (a
  // thread's first unwinding, say) may free what is.
  if (t.inside) {
    forget(store_free(p));
  } else {
    while (!enter()) ::sched_yield();
    recording scope(t);
    forget(store_free(p));
  }
  errno = saved_errno;
}

}  // namespace weft::heap
