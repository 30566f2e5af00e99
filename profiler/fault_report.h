#pragma once
// The text of fault reports.
namespace weft::prof {

// Makes reports of hardware faults and stack overflows show the task's stack. Once, at start-up.
void install_fault_reports();

}  // namespace weft::prof
