#include "gc/stress.h"

#include <weft/gc/detail/heap.h>

#include <charconv>
#include <string_view>

#include "base/check.h"
#include "base/options.h"
#include "gc/places.h"
#include "scheduler/affinity.h"

namespace weft::gc {

gc_options g_options;
stress_hooks g_stress_hooks;

namespace {

[[noreturn]] void refuse(const char* variable, std::string_view item, const char* known) noexcept {
  base::fatalf("%s: \"%.*s\" is not known; it takes %s", variable, static_cast<int>(item.size()),
               item.data(), known);
}

bool number(std::string_view text, int64_t& out) noexcept {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

template <class F>
void each_item(std::string_view rest, char separator, F f) noexcept {
  while (!rest.empty()) {
    const size_t comma = rest.find(separator);
    std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    const size_t equals = item.find_first_of("=:");
    if (!item.empty())
      f(item, item.substr(0, equals),
        equals == std::string_view::npos ? std::string_view{} : item.substr(equals + 1));
  }
}

constexpr const char* known_gc =
    "a percentage from 1 to 1000000, off, percent=N, gctrace=1, verify=1, clobber=1, stw=1, "
    "places=1 (or 0), paranoid=1, separated by commas";
constexpr const char* known_stress =
    "alloc:N, stw, concurrent-always, park, store, migrate, yield-mark, tiny-spans, and, wrong on "
    "purpose, noscan-resume, norescan, check-first, separated by commas";

void read_gc(std::string_view item, std::string_view name, std::string_view value) noexcept {
  int64_t n = 0;
  const bool on = value.empty() || value == "1";
  if (item == "off") {
    g_options.percent = -1;
  } else if (number(item, n) || (name == "percent" && number(value, n))) {
    if (n < 1 || n > 1'000'000) refuse("WEFT_GC", item, known_gc);
    g_options.percent = static_cast<int>(n);
  } else if (name == "gctrace" && (value.empty() || number(value, n))) {
    g_options.trace = value.empty() ? 1 : static_cast<int>(n);
  } else if (name == "verify" && on) {
    g_options.verify = true;
  } else if (name == "clobber" && on) {
    g_options.clobber = true;
  } else if (name == "places" && (on || value == "0")) {
    g_options.places = on;
  } else if (name == "paranoid" && on) {
    g_options.paranoid = true;
  } else if (name == "stw" && on) {
    g_options.stop_the_world = true;
  } else {
    refuse("WEFT_GC", item, known_gc);
  }
}

void read_stress(std::string_view item, std::string_view name, std::string_view value) noexcept {
  int64_t n = 0;
  if (name == "alloc" && number(value, n) && n >= 1 && n <= 1'000'000'000) {
    g_options.alloc_every = static_cast<uint32_t>(n);
    g_options.tiny_runs = true;
  } else if (item == "stw") {
    g_options.stop_the_world = true;
  } else if (item == "concurrent-always") {
    g_options.always = true;
  } else if (item == "noscan-resume") {
    g_options.skip_scan_on_run = true;
  } else if (item == "park") {
    g_options.park = true;
  } else if (item == "store" || item == "check-first") {
#ifdef NDEBUG
    base::fatalf("WEFT_GC_STRESS: \"%.*s\" needs a debug build", static_cast<int>(item.size()),
                 item.data());
#endif
    g_options.slow_stores = true;
    g_options.check_first |= item == "check-first";
  } else if (item == "migrate") {
    g_options.wander = true;
  } else if (item == "norescan") {
    g_options.skip_rescan = true;
  } else if (item == "yield-mark") {
    g_options.yield_mark = true;
  } else if (item == "tiny-spans") {
    g_options.tiny_runs = true;
  } else {
    refuse("WEFT_GC_STRESS", item, known_stress);
  }
  g_options.verify = g_options.clobber = true;
}

// Bytes with Go's suffixes: 512MiB, 2GiB; off.
void read_limit(std::string_view text) noexcept {
  if (text.empty() || text == "off") return;
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  int64_t n = 0;
  const std::string_view unit = text.substr(digits);
  int shift = unit.empty() || unit == "B" ? 0
              : unit == "KiB"             ? 10
              : unit == "MiB"             ? 20
              : unit == "GiB"             ? 30
              : unit == "TiB"             ? 40
                                          : -1;
  if (digits == 0 || !number(text.substr(0, digits), n) || shift < 0 || n > (INT64_MAX >> shift))
    refuse("WEFT_MEMLIMIT", text, "off, or a number of bytes with one of B, KiB, MiB, GiB, TiB");
  g_options.memory_limit = n << shift;
}

}  // namespace

void read_options() noexcept {
  using base::option;
#ifndef NDEBUG
  g_options.clobber = g_options.places = true;
#endif
  each_item(base::option_value(option::WEFT_GC), ',', read_gc);
  each_item(base::option_value(option::WEFT_GC_STRESS), ',', read_stress);
  read_limit(base::option_value(option::WEFT_MEMLIMIT));
  watch_places(g_options.places);
  detail::stores_are_stressed.store(g_options.slow_stores, std::memory_order_relaxed);
  if (g_options.wander) sched::let_tasks_wander();
}

}  // namespace weft::gc
