#pragma once
// The full text dump of tasks: goroutine?debug=2, SIGQUIT, fatal errors. task_dump.cc has the form.
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/stack_resolver.h"
#include "profiler/task_snapshot.h"
#include "profiler/text_sink.h"

namespace weft::prof {

// Streams one task after the other in the order of add(): put the calling task first and the others
// in order of creation, as Go does. Holds one chunk of text plus one rendered line per distinct
// address, however many tasks there are. Symbolizes: normal threads only. Not thread-safe.
class task_dump_writer {
 public:
  explicit task_dump_writer(text_sink sink, const symbol_source& symbols = process_symbols(),
                            leaf_frames leaves = leaf_frames::hide_runtime);

  // Appends one task; a blank line separates it from the one before. False once the sink refused.
  bool add(const task_snapshot& task);

  // Hands over what is pending. Must be called at the end; false if the sink refused anything.
  bool finish();

  // Tasks added so far.
  size_t tasks() const { return tasks_; }

 private:
  void append_header(const task_snapshot& task);
  void append_frames(const task_snapshot& task);
  void append_created_by(const task_snapshot& task);
  const std::string& rendered(const resolved_frame& f);
  bool drain(size_t threshold);

  text_sink sink_;
  stack_resolver resolver_;
  leaf_frames leaves_;
  std::vector<std::string> rendered_;  // by resolved_frame::id
  std::string out_;
  size_t tasks_ = 0;
  bool ok_ = true;
};

}  // namespace weft::prof
