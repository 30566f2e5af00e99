#pragma once
// What belongs to objects that it does not keep alive: weak keys, and values that live as long as
// their keys do, even if they refer to them (ephemerons).
//
//   weft::gc::weak_map<connection, session_data> sessions;   // beside connection, which knows none
//   sessions.set(c, weft::gc::make<session_data>(c));
//   if (session_data* d = sessions.get(c)) …
#include <weft/gc/detail/slot.h>
#include <weft/gc/gc.h>

#include <cstddef>
#include <type_traits>

namespace weft::gc {

namespace detail {

// What a map is to the collector: its death ends the entries.
struct weak_map_identity {
  size_t unused;
};
// Entries of all maps lie in one table. set() throws std::bad_alloc and std::invalid_argument.
void set_ephemeron(const weak_map_identity* map, const void* key, void* value);
void* get_ephemeron(const weak_map_identity* map, const void* key) noexcept;
bool erase_ephemeron(const weak_map_identity* map, const void* key) noexcept;
size_t count_ephemerons(const weak_map_identity* map) noexcept;

}  // namespace detail

// One word: a member of a collected object, a local variable, or in a root. Copies share the
// entries. An entry lives as long as the map and its key; it does not keep its key alive, and
// neither does its value. Keys are compared by address. Thread-safe; all maps of a process share
// one lock, held for tens of nanoseconds. The pause at the end of a cycle grows with the number of
// entries, by about a millisecond for a hundred thousand.
template <class K, class V>
class weak_map {
 public:
  using weft_gc_slot = detail::strong_slot;

  // Throws std::bad_alloc.
  weak_map() : identity_(make<detail::weak_map_identity>()) {}

  // Replaces what was there; null removes it. Throws std::bad_alloc, and std::invalid_argument if
  // `key` or `value` is not in the collected heap.
  void set(const K* key, V* value) {
    if (value == nullptr)
      erase(key);
    else
      detail::set_ephemeron(identity_, key, const_cast<std::remove_cv_t<V>*>(value));
  }
  // Null if there is none.
  V* get(const K* key) const noexcept {
    return static_cast<V*>(detail::get_ephemeron(identity_, key));
  }
  // True if there was one.
  bool erase(const K* key) noexcept { return detail::erase_ephemeron(identity_, key); }
  // Entries whose keys have not been found dead. Takes as long as a look at all maps' entries.
  size_t size() const noexcept { return detail::count_ephemerons(identity_); }

 private:
  ref<detail::weak_map_identity> identity_;
};

}  // namespace weft::gc
