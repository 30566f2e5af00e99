#pragma once
// Command-line flags of the example programs: "--name value" or "--name=value".
//
//   example::flags f("shortlink", "A link shortener.");
//   f.add("--listen", "HOST:PORT", "address to serve on", [&](std::string_view v) { listen = v; });
//   f.parse(argc, argv);                       // prints help and exits on --help
#include <charconv>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace example {

// A command line that cannot be obeyed; what() says which part and why.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class flags {
 public:
  flags(std::string program, std::string purpose);

  // A flag with a value. `set` throws usage_error if it cannot use it; the flag's name is put in
  // front.
  void add(std::string name, std::string value_name, std::string help,
           std::function<void(std::string_view)> set);
  // A flag without a value.
  void add_switch(std::string name, std::string help, bool& on);

  // Throws usage_error naming the argument. --help prints the list and exits with status 0.
  void parse(int argc, char** argv) const;
  std::string help() const;

 private:
  struct flag {
    std::string name, value_name, help;
    std::function<void(std::string_view)> set;
  };
  const flag& find(std::string_view name) const;

  std::string program_, purpose_;
  std::vector<flag> flags_;
};

// A whole number from `low` to `high`, otherwise usage_error.
template <class Number>
Number parse_number(std::string_view text, Number low, Number high) {
  Number n{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n < low || n > high) {
    throw usage_error("'" + std::string(text) + "' is not a number from " + std::to_string(low) +
                      " to " + std::to_string(high));
  }
  return n;
}

// "250ms", "10s", "2m", or seconds without a unit.
std::chrono::milliseconds parse_duration(std::string_view text);

}  // namespace example
