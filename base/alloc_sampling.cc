#include "base/alloc_sampling.h"

#include <sys/random.h>

#include <atomic>
#include <cmath>
#include <ctime>

namespace weft::base {
namespace {

// Everything here is constant-initialised: the first allocation comes before any constructor.
constinit const alloc_port no_port{};
constinit std::atomic<const alloc_port*> g_port{&no_port};
constinit std::atomic<int64_t> g_rate{512 * 1024};

using rate_listener = void (*)() noexcept;
constinit std::atomic<rate_listener> g_listeners[4]{};

constinit std::atomic<uint64_t> g_seed{0};  // 0: not drawn yet
constinit std::atomic<uint64_t> g_streams{0};
constinit std::atomic<uint32_t> g_epoch{1};

constexpr uint64_t golden = 0x9e3779b97f4a7c15u;

// Without sampling a heap looks at the rate again after this many bytes.
constexpr int64_t off_distance = 1 << 20;

// splitmix64: every state is good, and so is every sequence of seeds.
uint64_t mixed(uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t drawn_seed() noexcept {
  uint64_t seed = g_seed.load(std::memory_order_relaxed);
  if (seed != 0) return seed;
  uint64_t drawn = 0;
  if (::getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) != sizeof drawn) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    drawn = static_cast<uint64_t>(now.tv_sec) * 1'000'000'007u + static_cast<uint64_t>(now.tv_nsec);
  }
  drawn |= 1;
  return g_seed.compare_exchange_strong(seed, drawn, std::memory_order_relaxed) ? drawn : seed;
}

void tell_listeners() noexcept {
  for (auto& listener : g_listeners) {
    if (auto changed = listener.load(std::memory_order_seq_cst)) changed();
  }
}

}  // namespace

void set_alloc_port(const alloc_port& port) noexcept {
  g_port.store(&port, std::memory_order_release);  // [ord alloc.port] publishes what it points to
}

const alloc_port& current_alloc_port() noexcept {
  return *g_port.load(std::memory_order_acquire);  // [ord alloc.port]
}

int64_t mem_profile_rate() noexcept { return g_rate.load(std::memory_order_relaxed); }

void set_mem_profile_rate(int64_t bytes) noexcept {
  g_rate.store(bytes < 0 ? 0 : bytes, std::memory_order_seq_cst);
  tell_listeners();
}

void on_mem_profile_rate(void (*changed)() noexcept) noexcept {
  for (auto& listener : g_listeners) {
    rate_listener free = nullptr;
    if (listener.compare_exchange_strong(free, changed, std::memory_order_seq_cst)) return;
    if (free == changed) return;
  }
}

int64_t next_sample_distance(uint64_t& rng_state, int64_t rate) noexcept {
  if (rate <= 0) return off_distance;
  if (rate == 1) return -1;
  rng_state += golden;
  // Uniform in (0, 1]: 53 bits, so that a distance is at most 37 times the mean.
  double u = (static_cast<double>(mixed(rng_state) >> 11) + 1) * 0x1p-53;
  double distance = -std::log(u) * static_cast<double>(rate);
  constexpr double most = 0x1p62;
  return distance < most ? static_cast<int64_t>(distance) : int64_t{1} << 62;
}

uint64_t new_sample_rng() noexcept {
  uint64_t n = g_streams.fetch_add(1, std::memory_order_relaxed);
  return mixed(drawn_seed() + golden * (n + 1));
}

void seed_sample_rngs(uint64_t seed) noexcept {
  g_seed.store(seed == 0 ? golden : seed, std::memory_order_relaxed);
  g_streams.store(0, std::memory_order_relaxed);
  g_epoch.fetch_add(1, std::memory_order_seq_cst);
  tell_listeners();
}

uint32_t sample_rng_epoch() noexcept { return g_epoch.load(std::memory_order_relaxed); }

}  // namespace weft::base
