#include <weft/select_set.h>

namespace weft {

using kind = detail::select_case::kind;

void select_set::remove(int i) {
  if (i < 0 || i >= size()) throw panic_error("select_set: no such case");
  cases_[static_cast<size_t>(i)].what = kind::unused;
}

int select_set::select() {
  const int chosen = detail::select_cases(cases_.data(), size());
  const auto at = static_cast<size_t>(chosen);
  if (cases_[at].what == kind::send) cases_[at].what = kind::unused;
  entries_[at]->run(cases_[at].success);
  return chosen;
}

void* select_set::received(int i, const std::type_info& type) {
  void* slot = i >= 0 && i < size() ? entries_[static_cast<size_t>(i)]->received(type) : nullptr;
  if (slot == nullptr)
    throw panic_error("select_set: the case does not receive that type, or has a function");
  return slot;
}

}  // namespace weft
