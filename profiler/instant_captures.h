#pragma once
// The captures of all tasks as they were at one instant. instant_captures.cc has the design.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "profiler/raw_capture.h"

namespace weft::prof {

// Memory of one instant's captures, and what the runtime's threads have captured meanwhile.
class instant_captures {
 public:
  // Makes the instant. At most `depth` frames are kept of each stack.
  explicit instant_captures(size_t depth);
  ~instant_captures();
  instant_captures(const instant_captures&) = delete;

  // False: there was no instant to be had. A thread does not stop when it is asked to (it blocks
  // the signal, or the machine is overloaded), or memory is short.
  explicit operator bool() const noexcept { return open_; }
  int64_t at_ns() const noexcept { return at_ns_; }

  // Room for one more capture; keep() says that there is one now.
  raw_capture& next();
  void keep(raw_capture& raw) noexcept;

  // What somebody else has captured of the record's task; null: nothing. `lost`: there was one, but
  // no room for it.
  static raw_capture* found(const sched::instant_note& note, bool& lost) noexcept;

  // Lets the tasks go on as usual. What was captured stays.
  void close() noexcept;

 private:
  bool open_ = false;
  int64_t at_ns_ = 0;
  sched::capture_room mine_{};
  std::vector<void*> more_;  // beyond what was reserved
};

}  // namespace weft::prof
