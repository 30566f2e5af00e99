#pragma once
// The process's options, read from the environment once. options.def is the table.
#include <cstdint>
#include <string_view>

namespace weft::base {

enum class option {
#define WEFT_OPTION(name, default_value, sentence) name,
#include "base/options.def"
#undef WEFT_OPTION
};

// The option's value: the environment's at the first call of any accessor, else the table's
// default.
std::string_view option_value(option o) noexcept;

// The switch `name` of WEFT_DEBUG=name=value,…: its value, "1" when given without one, "" when
// absent.
std::string_view debug_switch(std::string_view name) noexcept;

// The switch's value as a number of at least `least`, or `absent` when it is not given. Any other
// value ends the process with a message that names the switch.
int64_t debug_number(std::string_view name, int64_t least, int64_t absent);

// Ends the process with a message if WEFT_DEBUG names a switch that debug_switches.def does not
// have; the message names the known one that is nearest.
void check_debug_switches();

// Prints the tables to stdout, for WEFT_DEBUG=help.
void print_options();

// How much a dying process tells: WEFT_TRACEBACK, Go's GOTRACEBACK.
enum class traceback : uint8_t { none, single, all, system, crash };
traceback traceback_level() noexcept;

}  // namespace weft::base
