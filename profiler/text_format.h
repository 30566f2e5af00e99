#pragma once
// Go's text profiles (debug=1): goroutine and threadcreate counts, contention, heap.
//
// Every record is a header line with the stack's return addresses ("2 @ 0x43b2f6 0x46b2e1"),
// perhaps a
// "# labels:" line, one "#\tPC\tFUNC+OFF\tFILE:LINE" line per source-level frame, and a blank line.
// `go tool pprof` reads the header lines and skips those that begin with '#', which is where weft
// may say more than Go does: a stack whose root was cut ends in "# stack truncated", and a sample
// with a pseudo frame ends in "# [its name]".
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "profiler/sample_set.h"
#include "profiler/stack_resolver.h"
#include "profiler/tab_writer.h"
#include "profiler/text_sink.h"

namespace weft::prof {

// {"k":"v", "k2":"v2"}: Go's %q quoting, entries sorted as text.
std::string label_text(const label_list& labels);

// "@ 0x1 0x2", the form in which text profiles list a stack. An exact leaf is listed plus one,
// because readers subtract one from every address. An empty stack is "@ 0x1", address 0 to a
// reader: a bare "@" makes `go tool pprof` refuse the whole file.
std::string stack_text(const stack_view& stack);

// The frame lines of one stack and the blank line that ends the record.
void append_stack_record(std::string& out, const sample& s, stack_resolver& resolver,
                         leaf_frames leaf);

// "NAME profile: total N" and one record per sample, whose values[0] is the count; highest count
// first, equal counts by the text of the stack and labels. Stacks are those of distinct samples
// (sample_set). Leading runtime frames are hidden. The write_ functions return false when
// the sink refused.
bool write_count_text(const text_sink& sink, std::string_view name, std::span<const sample> samples,
                      const symbol_source& symbols = process_symbols());

struct contention_text_options {
  std::string_view name;  // "contention" (the block profile) or "mutex"
  int64_t cycles_per_second = 1'000'000'000;
  int64_t sampling_period = 0;  // printed when not 0: the mutex profile's fraction
};

// Samples' values are {count, cycles}; most cycles first. Go shows every frame here, because its
// recorded stacks start at the blocked call; weft's start inside the runtime, so the runtime's own
// frames are hidden to the same effect.
bool write_contention_text(const text_sink& sink, const contention_text_options& options,
                           std::span<const sample> samples,
                           const symbol_source& symbols = process_symbols());

struct heap_text_options {
  int64_t rate = 512 * 1024;  // mean bytes between two samples; printed twice as large, as Go does
  std::string_view trailer;   // "\n# runtime.MemStats\n# Alloc = ..." or ""
};

// Samples' values are the raw sampled {allocated objects, bytes, in-use objects, bytes}, not scaled
// by the sampling rate: the reader does that. Most in-use bytes first.
bool write_heap_text(const text_sink& sink, const heap_text_options& options,
                     std::span<const sample> samples,
                     const symbol_source& symbols = process_symbols());

}  // namespace weft::prof
