#pragma once
// The process's options, read from the environment once. options.def is the table.
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

// Prints the table to stdout, for WEFT_DEBUG=help.
void print_options();

}  // namespace weft::base
