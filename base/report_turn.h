#pragma once
// Whose turn it is to write a report to stderr: one thread at a time, whatever the report is about
// (a fatal error, an uncaught exception, a hardware fault, SIGQUIT). All async-signal-safe.

namespace weft::base {

enum class report_turn {
  mine,        // from now on
  mine_still,  // it was before: the report itself has failed
  others,      // another thread reports; the process will probably end
};
report_turn try_begin_report() noexcept;

// After a report that the process survives.
void give_report_turn_back() noexcept;

}  // namespace weft::base
