#pragma once
// An immutable string on the collected heap.
//
//   struct user { weft::gc::string name; };
//   u->name = weft::gc::string("alice");
//   std::cout << u->name.substr(0, 2);   // shares the characters
#include <weft/gc/fields.h>
#include <weft/gc/gc.h>

#include <algorithm>
#include <compare>
#include <cstddef>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>

namespace weft::gc {

// Two words: where the characters are, and how many. Copies and parts share them; they live as long
// as one of these or a pointer on a stack refers to them, so a std::string_view of it is good on a
// stack, not as a member. Nothing of it changes after construction but by assignment of the whole,
// which other tasks must not watch. Construction from characters throws std::bad_alloc.
class string {
  WEFT_GC_FIELDS(data_)

 public:
  using value_type = char;
  using const_iterator = const char*;
  using iterator = const_iterator;
  static constexpr size_t npos = std::string_view::npos;

  string() noexcept = default;
  string(std::string_view text) {
    if (text.empty()) return;
    char* made = make_array<char>(text.size() + 1);  // the last is the 0 of c_str()
    std::copy(text.begin(), text.end(), made);
    data_ = made;
    size_ = text.size();
  }
  string(const char* text) : string(std::string_view(text)) {}
  string(const std::string& text) : string(std::string_view(text)) {}

  // The parts one after the other; one allocation.
  static string concat(std::initializer_list<std::string_view> parts) {
    size_t n = 0;
    for (std::string_view part : parts) n += part.size();
    string made;
    if (n == 0) return made;
    char* to = make_array<char>(n + 1);
    made.data_ = to;
    made.size_ = n;
    for (std::string_view part : parts) to = std::copy(part.begin(), part.end(), to);
    return made;
  }

  const char* data() const noexcept { return data_.get(); }
  size_t size() const noexcept { return size_; }
  size_t length() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const char* begin() const noexcept { return data(); }
  const char* end() const noexcept { return data() + size_; }
  char operator[](size_t i) const noexcept { return data()[i]; }
  std::string_view view() const noexcept { return {data(), size_}; }
  operator std::string_view() const noexcept { return view(); }
  std::string str() const { return std::string(view()); }

  // Ends in a 0. A part that ends before the whole does is copied for it: throws std::bad_alloc.
  const char* c_str() const {
    if (size_ == 0) return "";
    if (data()[size_] == 0) return data();
    return string(view()).data();
  }

  // As std::string's, but without a copy. Throws std::out_of_range if pos > size().
  string substr(size_t pos, size_t n = npos) const {
    std::string_view part = view().substr(pos, n);
    string s;
    if (part.empty()) return s;
    s.data_ = part.data();
    s.size_ = part.size();
    return s;
  }
  size_t find(std::string_view text, size_t from = 0) const noexcept {
    return view().find(text, from);
  }
  bool starts_with(std::string_view text) const noexcept { return view().starts_with(text); }
  bool ends_with(std::string_view text) const noexcept { return view().ends_with(text); }

  friend bool operator==(const string& a, const string& b) noexcept { return a.view() == b.view(); }
  friend bool operator==(const string& a, std::string_view b) noexcept { return a.view() == b; }
  friend bool operator==(const string& a, const char* b) noexcept { return a.view() == b; }
  friend bool operator==(const string& a, const std::string& b) noexcept { return a.view() == b; }
  friend std::strong_ordering operator<=>(const string& a, const string& b) noexcept {
    return a.view() <=> b.view();
  }
  friend string operator+(const string& a, std::string_view b) { return concat({a.view(), b}); }
  friend std::ostream& operator<<(std::ostream& out, const string& s) { return out << s.view(); }

 private:
  ref<const char> data_;
  size_t size_ = 0;
};

// For maps that are asked with a std::string_view, without making a string for it:
//   weft::gc::map<weft::gc::string, V, weft::gc::string_hash, std::equal_to<>>
struct string_hash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

}  // namespace weft::gc

template <>
struct std::hash<weft::gc::string> {
  size_t operator()(const weft::gc::string& s) const noexcept {
    return std::hash<std::string_view>{}(s.view());
  }
};
