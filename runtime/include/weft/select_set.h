#pragma once
// select_set: a select whose number of cases is known only at run time. Go's reflect.Select.
//
//   weft::select_set set;
//   for (auto& w : workers) set.add(weft::on_recv(w.results));
//   set.add(weft::on_done(ctx));
//   int i = set.select();
//   if (i < n) use(set.take<result>(i));       // nullopt: that channel is closed and drained
#include <weft/error.h>
#include <weft/select.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

namespace weft {

// The cases are those of select(), made by the same functions: on_recv, on_send, on_timeout,
// on_default, on_done. One select() has select()'s semantics: unbiased, atomic over all channels;
// its cost grows with the number of cases. A set is used by one task at a time, any number of
// times.
class select_set {
 public:
  select_set() = default;
  select_set(select_set&&) noexcept = default;
  select_set& operator=(select_set&&) noexcept = default;

  // Adds a case and returns its index: 0, 1, 2, … in the order of the calls. The set keeps the
  // channel alive.
  template <class Clause>
  int add(Clause clause) {
    if constexpr (requires { clause.ref.keep(); }) clause.ref.keep();
    entries_.push_back(std::make_unique<entry_of<Clause>>(std::move(clause)));
    cases_.push_back(entries_.back()->describe());
    return static_cast<int>(cases_.size()) - 1;
  }

  // The case takes no part any more, for instance because its channel is closed. Indices stay. An
  // index out of range throws panic_error.
  void remove(int i);

  // Cases, the removed ones included.
  int size() const noexcept { return static_cast<int>(cases_.size()); }

  // Waits until one case can go on, carries out exactly that one, runs its function and returns its
  // index. A send case that was chosen is removed: its value has gone. Without any case it blocks
  // for ever.
  int select();

  // What the receive case i, made without a function, got when it was last chosen; once. nullopt if
  // the channel was closed. Throws panic_error if case i does not receive T or has a function.
  template <class T>
  std::optional<T> take(int i) {
    void* slot = received(i, typeid(T));
    return std::exchange(*static_cast<std::optional<T>*>(slot), std::nullopt);
  }

 private:
  struct entry {
    virtual ~entry() = default;
    virtual detail::select_case describe() = 0;
    virtual void run(bool success) = 0;
    virtual void* received(const std::type_info&) { return nullptr; }
  };

  template <class Clause>
  struct entry_of final : entry {
    explicit entry_of(Clause c) : clause(std::move(c)) {}
    detail::select_case describe() override { return clause.describe(); }
    void run(bool success) override { clause.run(success); }
    Clause clause;
  };

  template <class T>
  struct entry_of<detail::recv_clause<T, detail::nothing>> final : entry {
    explicit entry_of(detail::recv_clause<T, detail::nothing> c)
        : clause{std::move(c.ref), {value}, {}} {}
    detail::select_case describe() override { return clause.describe(); }
    void run(bool success) override { clause.run(success); }
    void* received(const std::type_info& t) override { return t == typeid(T) ? &value : nullptr; }
    struct keep {
      std::optional<T>& to;
      void operator()(std::optional<T> v) const { to = std::move(v); }
    };
    std::optional<T> value;
    detail::recv_clause<T, keep> clause;
  };

  void* received(int i, const std::type_info& type);

  std::vector<std::unique_ptr<entry>> entries_;
  std::vector<detail::select_case> cases_;
};

}  // namespace weft
