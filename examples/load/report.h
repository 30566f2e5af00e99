#pragma once
// What the user sees: a line per second meanwhile, a summary at the end.
#include <weft/context.h>

#include <string>

#include "examples/load/options.h"
#include "examples/load/results.h"
#include "examples/load/workers.h"

namespace load {

// Writes a line per second to stderr until `ctx` is cancelled; on a terminal always the same line.
void show_progress(const weft::context& ctx, const options& o, const results& r);

std::string text_summary(const options& o, const totals& t, const run_summary& run);
std::string json_summary(const options& o, const totals& t, const run_summary& run);

}  // namespace load
