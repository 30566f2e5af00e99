#pragma once
// Name/value pairs of a query string or a urlencoded form, in the order they were sent.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft::http {

class params {
 public:
  // Decodes "a=b&c=d": '+' is a space, %XX a byte, a malformed triplet stays as it is, a pair
  // without '=' has an empty value, empty pairs are skipped. At most `max_pairs` pairs are kept.
  static params parse(std::string_view encoded, std::size_t max_pairs = 10000);

  // First value under this name, "" if there is none; has() tells the two apart.
  std::string_view get(std::string_view name) const noexcept;
  bool has(std::string_view name) const noexcept;
  std::vector<std::string_view> all(std::string_view name) const;

  const std::vector<std::pair<std::string, std::string>>& pairs() const noexcept { return pairs_; }
  void append(const params& other);

 private:
  std::vector<std::pair<std::string, std::string>> pairs_;
};

// Decodes %XX; with plus_is_space also '+'. Malformed triplets are kept as they are.
std::string percent_decode(std::string_view text, bool plus_is_space = false);

}  // namespace weft::http
