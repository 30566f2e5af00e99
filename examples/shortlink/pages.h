#pragma once
// The HTML that people see.
#include <string>
#include <string_view>

namespace shortlink {

std::string_view home_page();
// Arguments are escaped here.
std::string created_page(std::string_view short_url, std::string_view url, std::string_view code);

}  // namespace shortlink
