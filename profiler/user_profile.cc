// Profiles of the program's own making, as Go's runtime/pprof.NewProfile.
//
// Memory is that of the live entries: a stack at its exact length, and a reference to the label set
// of the task that added it. One mutex per profile; nothing parks under it.
#include "profiler/user_profile.h"

#include <weft/error.h>
#include <weft/labels.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "profiler/goroutine_profile.h"
#include "profiler/stack_here.h"
#include "profiler/text_format.h"
#include "profiler/unwind.h"

namespace weft::prof {
namespace {

// What /debug/pprof/ answers itself, and what is or will be a profile of weft's own whether this
// build has it or not: a program that takes such a name today must not break tomorrow.
constexpr std::string_view reserved[] = {
    "allocs", "block", "cmdline",    "goroutine",    "heap",  "mutex", "profile", "stack",
    "symbol", "task",  "taskcreate", "threadcreate", "trace", "wait",  "wall",
};

class user_profile final : public profile_source {
 public:
  explicit user_profile(std::string_view name) : name_(name) {}

  std::string_view name() const noexcept override { return name_; }
  std::string_view description() const noexcept override { return ""; }
  // As in Go, which offers it for its own profiles only: tools rely on the error.
  bool supports_delta() const noexcept override { return false; }

  int64_t count() const noexcept override {
    std::lock_guard hold(lock_);
    return static_cast<int64_t>(entries_.size());
  }

  [[gnu::noinline]] void add(const void* value, int skip) override {
    entry made;
    made.labels = this_task::labels();
    std::array<uintptr_t, probe_depth> pcs;
    unwind_refresh();
    const captured_stack here = stack_here(pcs);
    // The first frame is in here; the caller's is the next.
    size_t from = std::min(here.depth, size_t{1} + static_cast<size_t>(std::max(skip, 0)));
    made.pcs.assign(pcs.begin() + static_cast<std::ptrdiff_t>(from),
                    pcs.begin() + static_cast<std::ptrdiff_t>(here.depth));
    made.truncated = here.truncated;
    bool added;
    {
      std::lock_guard hold(lock_);
      added = entries_.try_emplace(value, std::move(made)).second;
    }
    if (!added) throw panic_error("pprof: Profile.Add of duplicate value");
  }

  void remove(const void* value) noexcept override {
    decltype(entries_)::node_type gone;  // freed after the lock
    std::lock_guard hold(lock_);
    gone = entries_.extract(value);
  }

  profile_data collect(const collect_options&) const override {
    return count_profile(name_, samples(), wall_clock_nanos());
  }

  bool write_text(const text_sink& sink, int, const collect_options&) const override {
    return write_count_text(sink, name_, samples());
  }

 private:
  struct entry {
    std::vector<uintptr_t> pcs;
    bool truncated = false;
    weft::labels labels;
  };

  std::vector<sample> samples() const {
    sample_set set(1);
    std::lock_guard hold(lock_);
    for (const auto& [value, e] : entries_) {
      sample_key key{{e.pcs, false, e.truncated}, &e.labels.pairs(), {}, {}};
      if (e.pcs.empty()) key.pseudo_frame = "[no stack]";  // skip left none
      set.add(key, 1);
    }
    return set.take();
  }

  const std::string name_;
  mutable std::mutex lock_;
  std::unordered_map<const void*, entry> entries_;
};

struct all_user_profiles {
  std::mutex lock;
  std::vector<std::unique_ptr<user_profile>> list;
};
all_user_profiles& all() {
  static auto* const a = new all_user_profiles;
  return *a;
}

}  // namespace

profile_source* find_user_profile(std::string_view name) {
  std::lock_guard hold(all().lock);
  for (const auto& p : all().list) {
    if (p->name() == name) return p.get();
  }
  return nullptr;
}

void append_user_profiles(std::vector<profile_source*>& to) {
  std::lock_guard hold(all().lock);
  for (const auto& p : all().list) to.push_back(p.get());
}

}  // namespace weft::prof

namespace weft {

pprof::profile& pprof::profile::create(std::string_view name) {
  if (name.empty()) throw panic_error("pprof: NewProfile with empty name");
  auto made = std::make_unique<prof::user_profile>(name);
  std::lock_guard hold(prof::all().lock);
  bool taken = std::ranges::find(prof::reserved, name) != std::end(prof::reserved) ||
               std::ranges::any_of(prof::all().list, [&](auto& p) { return p->name() == name; });
  if (taken) throw panic_error("pprof: NewProfile name already in use: " + std::string(name));
  prof::all().list.push_back(std::move(made));
  return *prof::all().list.back();
}

}  // namespace weft
