#pragma once
// Reports of a dying or questioned process: the scheduler's report port, and SIGQUIT.
namespace weft::prof {

// Connects the report port and, unless WEFT_SIGQUIT=off or the program has a handler of its own,
// makes SIGQUIT print every task's stack to stderr: and exit with status 2 (WEFT_SIGQUIT=exit, the
// default) or go on (dump). Once, at start-up.
void install_reports();

}  // namespace weft::prof
