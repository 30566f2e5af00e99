#pragma once
// Labels: key-value pairs that a task carries into profiles and dumps.
//
//   weft::with_labels({{"user", name}, {"route", "/users"}}, [&] { handle(request); });
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace weft {

namespace detail {
struct label_node;
label_node* retain_labels(const label_node* n) noexcept;
void drop_labels(const label_node* n) noexcept;
}  // namespace detail

// An immutable set of labels, sorted by key, one value per key (the last given wins). Cheap to
// copy.
class labels {
 public:
  using pair = std::pair<std::string, std::string>;

  labels() noexcept = default;
  labels(std::initializer_list<pair> pairs);
  explicit labels(std::vector<pair> pairs);
  labels(const labels& o) noexcept : node_(detail::retain_labels(o.node_)) {}
  labels(labels&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
  labels& operator=(labels o) noexcept {
    std::swap(node_, o.node_);
    return *this;
  }
  ~labels() { detail::drop_labels(node_); }

  const std::vector<pair>& pairs() const noexcept;
  bool empty() const noexcept { return node_ == nullptr; }

  // These labels with `more` added; on equal keys `more` wins.
  labels with(const labels& more) const;

  // For the runtime and its observers.
  static labels from_node(const detail::label_node* n) noexcept;
  const detail::label_node* node() const noexcept { return node_; }

 private:
  detail::label_node* node_ = nullptr;
};

namespace this_task {
// The calling task's labels; a task inherits its creator's.
weft::labels labels();
}  // namespace this_task

namespace detail {
class label_scope {
 public:
  explicit label_scope(const labels& merged);
  ~label_scope();
  label_scope(const label_scope&) = delete;

 private:
  labels previous_;
};
}  // namespace detail

// Runs f() with `l` added to the calling task's labels and restores them afterwards, also when f
// throws. Tasks started in f inherit them. From a thread that is no task it labels the thread's own
// samples.
template <class F>
auto with_labels(const labels& l, F&& f) -> std::invoke_result_t<F> {
  detail::label_scope scope(this_task::labels().with(l));
  return std::invoke(std::forward<F>(f));
}

}  // namespace weft
