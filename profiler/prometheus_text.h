#pragma once
// The process in Prometheus' text format: the names that dashboards for Go programs ask for
// (client_golang's Go and process collectors), and a few of weft's own, which begin with weft_.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft::prof {

inline constexpr std::string_view prometheus_content_type =
    "text/plain; version=0.0.4; charset=utf-8";

// Builds the text, one family after another: HELP, TYPE, values.
class prometheus_writer {
 public:
  using labels = std::vector<std::pair<std::string_view, std::string_view>>;

  // Begins a family. `type` is "counter", "gauge" or "summary".
  void family(std::string_view name, std::string_view type, std::string_view help);
  // A value of the family just begun; `suffix` is "" or, for summaries, "_sum" or "_count".
  // Integers are written without an exponent, other values in the shortest form that reads back.
  void value(double v, const labels& of = {}, std::string_view suffix = {});

  // Family and its only value.
  void gauge(std::string_view name, std::string_view help, double v);
  void counter(std::string_view name, std::string_view help, double v);

  std::string take() { return std::move(text_); }

 private:
  std::string text_, family_;
};

// Everything that is known below the network. Reads a few files of /proc/self; a value that cannot
// be read is left out. Thread-safe, from any thread.
void write_process_metrics(prometheus_writer& out);

}  // namespace weft::prof
