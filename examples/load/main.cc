// load: puts the example service shortlink under load.
//
// Exit status: 0 if every request was answered with 2xx or 3xx, 1 if one was not or the service
// cannot be reached, 2 for a command line that cannot be obeyed.
#include <weft/weft.h>

#include <cstdio>

#include "examples/common/flags.h"
#include "examples/common/stop_signal.h"
#include "examples/load/options.h"
#include "examples/load/report.h"
#include "examples/load/results.h"
#include "examples/load/workers.h"

namespace {

int put_under_load(const load::options& o, const weft::context& stop) {
  std::vector<std::string> codes;
  try {
    codes = load::prepare_links(o);
  } catch (const load::preparation_error& error) {
    std::fprintf(stderr, "load: %s\n", error.what());
    return 1;
  }

  auto results = std::make_unique<load::results>();
  weft::task_group progress;
  progress.go([&](const weft::context& ctx) { show_progress(ctx, o, *results); });
  load::run_summary run = run_workers(o, codes, stop, *results);
  progress.cancel();
  progress.wait();

  load::totals t = results->sum();
  std::fputs((o.json ? json_summary(o, t, run) : text_summary(o, t, run)).c_str(), stdout);
  if (t.errors() > 0)
    std::fprintf(stderr, "load: first error: %s\n", results->first_error().c_str());
  if (t.answered() == 0) std::fprintf(stderr, "load: no request was answered\n");
  return t.errors() == 0 && t.answered() > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    load::options o = load::parse_options(argc, argv);
    example::stop_signal stop;
    return weft::run([&] { return put_under_load(o, stop.context()); });
  } catch (const example::usage_error& error) {
    std::fprintf(stderr, "load: %s\n", error.what());
    return 2;
  }
}
