#pragma once
// The interface behind every named profile: what pprof::lookup() finds, /debug/pprof/NAME serves
// and WEFT_...PROFILE writes at exit. None of these knows a profile by name; pprof.cc has the
// table.
//
// A built-in profile is one file: a class derived from profile_source and a function that returns
// its one object, which pprof.cc lists.
#include <weft/pprof.h>

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "profiler/profile_kinds.h"
#include "profiler/text_sink.h"

namespace weft::prof {

// How a profile is to be taken.
struct collect_options {
  bool gc = false;  // the parameter gc=1: a full collection first, where the profile depends on one
  // Asked now and then by profiles that take long: true means that nobody waits for the result any
  // more. What collect() then returns is thrown away. Null: somebody always does.
  std::function<bool()> abandoned = {};
};

// One object for the process's life; all functions are thread-safe and may be called on tasks and
// on plain threads. They symbolize, so they may take locks, allocate and read files.
class profile_source : public pprof::profile {
 public:
  // The profile as it is now, ready for encode(). Exceptions mean that it could not be collected.
  virtual profile_data collect(const collect_options& options) const = 0;

  // The text forms: debug 1, and 2 where that differs; any larger value is the same as 2. False if
  // the sink refused a piece; what follows is not written then.
  virtual bool write_text(const text_sink& sink, int debug,
                          const collect_options& options) const = 0;

  // True: ?seconds=N gives what happened in N seconds.
  virtual bool supports_delta() const noexcept { return true; }

  // For profiles that record a part of what happens: how much, in the unit of the profile's own
  // setting (bytes, nanoseconds, one in N); 1 is everything. Does nothing where there is no choice.
  virtual void set_rate(int64_t) const {}

  // What happened while `pause` ran: it returns after the interval, or false when nobody wants the
  // result any more, which gives nullopt. As it stands the difference of two collect()s.
  virtual std::optional<profile_data> collect_over(const std::function<bool()>& pause,
                                                   const collect_options& options) const;

  // pprof::profile: debug 0 or less is gzip'ed profile.proto.
  void write_to(std::ostream& out, int debug) const final;
  // As Go's on a built-in profile: add throws panic_error.
  void add(const void* value, int skip) override;
  void remove(const void*) noexcept override {}
};

// The profile of that name or alias, or null.
profile_source* find_profile(std::string_view name);
// All of them sorted by name, aliases left out; those of the program too.
std::vector<profile_source*> all_profiles();

// A sink that writes to a stream and refuses once the stream has failed.
text_sink into_stream(std::ostream& out);

}  // namespace weft::prof
