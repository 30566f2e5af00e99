#pragma once
// A hash map on the collected heap.
//
//   struct table { weft::gc::map<weft::gc::string, weft::gc::ref<entry>> entries; };
//
// Open addressing after Abseil's "Swiss tables": a byte per place says free, removed or seven bits
// of the hash, and sixteen of them are compared at once. The bytes and the elements are two arrays
// of the heap; only the second is scanned.
#include <weft/gc/detail/forget.h>
#include <weft/gc/fields.h>
#include <weft/gc/gc.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace weft::gc {

namespace detail {

template <class Hash, class Equal>
concept transparent = requires {
  typename Hash::is_transparent;
  typename Equal::is_transparent;
};

inline constexpr uint8_t place_free = 0x80;
inline constexpr uint8_t place_removed = 0xfe;

// Sixteen places, as sets of bits.
struct place_group {
  static constexpr size_t width = 16;
#if defined(__SSE2__)
  explicit place_group(const uint8_t* at) noexcept
      : bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))) {}
  uint32_t equal_to(uint8_t tag) const noexcept {
    return static_cast<uint32_t>(
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(static_cast<char>(tag)))));
  }
  uint32_t without_element() const noexcept {  // the highest bit is set
    return static_cast<uint32_t>(_mm_movemask_epi8(bytes));
  }
  __m128i bytes;
#else
  explicit place_group(const uint8_t* at) noexcept : bytes(at) {}
  uint32_t equal_to(uint8_t tag) const noexcept {
    uint32_t set = 0;
    for (size_t i = 0; i < width; ++i) set |= uint32_t{bytes[i] == tag} << i;
    return set;
  }
  uint32_t without_element() const noexcept {
    uint32_t set = 0;
    for (size_t i = 0; i < width; ++i) set |= uint32_t{bytes[i] >= 0x80} << i;
    return set;
  }
  const uint8_t* bytes;
#endif
};

}  // namespace detail

// The interface of std::unordered_map as far as it is here. Elements move when the map grows, so
// pointers to them and iterators are good until then (an element that moved stays readable, but is
// no longer the map's). Keys and values follow the rules of gc::vector's elements. Equal keys as
// Equal says; Hash may be of any quality. Functions that insert throw std::bad_alloc. Not
// thread-safe.
template <class K, class V, class Hash = std::hash<K>, class Equal = std::equal_to<K>>
class map {
  WEFT_GC_FIELDS(tags_, elements_)

 public:
  using key_type = K;
  using mapped_type = V;
  using value_type = std::pair<const K, V>;
  using size_type = size_t;

 private:
  template <class Element>
  class position {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = map::value_type;
    using difference_type = ptrdiff_t;
    using reference = Element&;
    using pointer = Element*;

    position() noexcept = default;
    operator position<const value_type>() const noexcept { return {tag_, end_, element_}; }
    reference operator*() const noexcept { return *element_; }
    pointer operator->() const noexcept { return element_; }
    position& operator++() noexcept {
      ++tag_;
      ++element_;
      skip();
      return *this;
    }
    position operator++(int) noexcept {
      position before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const position& a, const position& b) noexcept {
      return a.tag_ == b.tag_;
    }

   private:
    friend class map;
    template <class>
    friend class position;
    position(const uint8_t* tag, const uint8_t* end, Element* element) noexcept
        : tag_(tag), end_(end), element_(element) {}
    void skip() noexcept {
      while (tag_ != end_ && *tag_ >= 0x80) {
        ++tag_;
        ++element_;
      }
    }
    const uint8_t* tag_ = nullptr;
    const uint8_t* end_ = nullptr;
    Element* element_ = nullptr;
  };

 public:
  using iterator = position<value_type>;
  using const_iterator = position<const value_type>;

  map() noexcept = default;
  map(std::initializer_list<value_type> elements) {
    for (const value_type& e : elements) insert(e);
  }
  map(const map& other) {
    reserve(other.size());
    for (const value_type& e : other) insert(e);
  }
  map(map&& other) noexcept { take(other); }
  ~map() = default;
  map& operator=(const map& other) {
    if (this != &other) {
      map copy(other);
      take(copy);
    }
    return *this;
  }
  map& operator=(map&& other) noexcept {
    if (this != &other) take(other);
    return *this;
  }

  bool empty() const noexcept { return size_ == 0; }
  size_t size() const noexcept { return size_; }

  iterator begin() noexcept { return first<value_type>(); }
  iterator end() noexcept { return at_place<value_type>(places_); }
  const_iterator begin() const noexcept { return first<const value_type>(); }
  const_iterator end() const noexcept { return at_place<const value_type>(places_); }

  iterator find(const K& key) { return at_place<value_type>(place_of(key)); }
  const_iterator find(const K& key) const { return at_place<const value_type>(place_of(key)); }
  bool contains(const K& key) const { return place_of(key) != places_; }
  size_t count(const K& key) const { return contains(key) ? 1 : 0; }
  // With a key of another type, where Hash and Equal are transparent (string_hash,
  // std::equal_to<>).
  template <class Key>
  requires detail::transparent<Hash, Equal> iterator find(const Key& key) {
    return at_place<value_type>(place_of(key));
  }
  template <class Key>
  requires detail::transparent<Hash, Equal> const_iterator find(const Key& key)
  const { return at_place<const value_type>(place_of(key)); }
  template <class Key>
  requires detail::transparent<Hash, Equal>
  bool contains(const Key& key) const { return place_of(key) != places_; }
  // Throws std::out_of_range.
  V& at(const K& key) { return element_at(key).second; }
  const V& at(const K& key) const { return element_at(key).second; }
  V& operator[](const K& key) { return try_emplace(key).first->second; }

  template <class... Args>
  std::pair<iterator, bool> try_emplace(const K& key, Args&&... args) {
    const size_t hash = hash_of(key);
    if (size_t i = place_of(key, hash); i != places_) return {at_place<value_type>(i), false};
    const value_type made(std::piecewise_construct, std::forward_as_tuple(key),
                          std::forward_as_tuple(std::forward<Args>(args)...));
    return {at_place<value_type>(add(made, hash)), true};
  }
  template <class... Args>
  std::pair<iterator, bool> emplace(const K& key, Args&&... args) {
    return try_emplace(key, std::forward<Args>(args)...);
  }
  std::pair<iterator, bool> insert(const value_type& e) { return try_emplace(e.first, e.second); }
  template <class U>
  std::pair<iterator, bool> insert_or_assign(const K& key, U&& value) {
    auto result = try_emplace(key, value);
    if (!result.second) result.first->second = std::forward<U>(value);
    return result;
  }

  // Returns how many were removed, 0 or 1.
  size_t erase(const K& key) {
    const size_t i = place_of(key);
    if (i == places_) return 0;
    remove(i);
    return 1;
  }
  // The element after it. Removing does not move the others.
  iterator erase(iterator where) {
    iterator next = where;
    ++next;
    remove(static_cast<size_t>(where.element_ - elements_.get()));
    return next;
  }
  iterator erase(const_iterator where) {
    const auto i = static_cast<size_t>(where.element_ - elements_.get());
    return erase(at_place<value_type>(i));
  }

  // Room for n elements without another allocation.
  void reserve(size_t n) {
    if (n > size_ + room_) rehash(places_for(n));
  }
  // Gives the storage up.
  void clear() noexcept {
    tags_ = nullptr;
    elements_ = nullptr;
    places_ = size_ = room_ = 0;
  }
  void swap(map& other) noexcept {
    map kept(std::move(other));
    other.take(*this);
    take(kept);
  }

 private:
  // Places are a power of two, 7/8 of which may be taken (elements and removed ones). The first
  // group of tags is repeated after the last, so that a group can begin at any place.
  static size_t places_for(size_t n) {
    size_t places = detail::place_group::width;
    while (places - places / 8 < n) places *= 2;
    return places;
  }
  // std::hash of integers and pointers is the identity: all bits must count for the place and the
  // tag.
  template <class Key>
  static size_t hash_of(const Key& key) {
    const uint64_t h = static_cast<uint64_t>(Hash{}(key)) * 0x9e3779b97f4a7c15u;
    return static_cast<size_t>(h ^ (h >> 32));
  }
  static uint8_t tag_of(size_t hash) noexcept { return static_cast<uint8_t>(hash & 0x7f); }

  // Calls f(place of a group, group) from the hash's place on, in triangular steps, which visit
  // every group, until f returns true.
  template <class F>
  void probe(size_t hash, F f) const {
    size_t at = (hash >> 7) & (places_ - 1);
    for (size_t step = detail::place_group::width;; step += detail::place_group::width) {
      if (f(at, detail::place_group(tags_.get() + at))) return;
      at = (at + step) & (places_ - 1);
    }
  }

  template <class Key>
  size_t place_of(const Key& key) const {
    return size_ == 0 ? places_ : place_of(key, hash_of(key));
  }
  template <class Key>
  size_t place_of(const Key& key, size_t hash) const {
    size_t found = places_;
    if (places_ == 0) return found;
    probe(hash, [&](size_t at, const detail::place_group& group) {
      for (uint32_t set = group.equal_to(tag_of(hash)); set != 0; set &= set - 1) {
        const size_t i = (at + static_cast<size_t>(std::countr_zero(set))) & (places_ - 1);
        if (Equal{}(elements_.get()[i].first, key)) {
          found = i;
          return true;
        }
      }
      return group.equal_to(detail::place_free) != 0;
    });
    return found;
  }

  size_t add(const value_type& made, size_t hash) {
    if (room_ == 0) rehash(places_for(size_ + size_ / 2 + 1));
    size_t i = 0;
    probe(hash, [&](size_t at, const detail::place_group& group) {
      const uint32_t set = group.without_element();
      if (set == 0) return false;
      i = (at + static_cast<size_t>(std::countr_zero(set))) & (places_ - 1);
      return true;
    });
    ::new (static_cast<void*>(elements_.get() + i)) value_type(made);
    if (tags_.get()[i] == detail::place_free) --room_;
    set_tag(i, tag_of(hash));
    ++size_;
    return i;
  }

  void remove(size_t i) noexcept {
    value_type* e = elements_.get() + i;
    detail::forget_elements(e, e + 1);
    // Free again if no search can have passed here: every group of sixteen that holds this place
    // has always had another free one.
    const uint32_t after = detail::place_group(tags_.get() + i).equal_to(detail::place_free);
    const uint32_t before =
        detail::place_group(tags_.get() + ((i - detail::place_group::width) & (places_ - 1)))
            .equal_to(detail::place_free);
    const bool passed = after == 0 || before == 0 ||
                        std::countr_zero(after) + std::countl_zero(static_cast<uint16_t>(before)) >=
                            static_cast<int>(detail::place_group::width);
    set_tag(i, passed ? detail::place_removed : detail::place_free);
    if (!passed) ++room_;
    --size_;
  }

  void set_tag(size_t i, uint8_t tag) noexcept {
    tags_.get()[i] = tag;
    if (i < detail::place_group::width) tags_.get()[places_ + i] = tag;
  }

  void rehash(size_t places) {
    detail::require_storable<K>();
    detail::require_storable<V>();
    static_assert(std::is_trivially_destructible_v<K> && std::is_trivially_destructible_v<V>,
                  "weft::gc: elements of collected containers must be trivially destructible. Use "
                  "weft::gc::string for strings, or weft::gc::ref to an object that holds it");
    map fresh;
    uint8_t* tags = make_array<uint8_t>(places + detail::place_group::width);
    std::fill_n(tags, places + detail::place_group::width, detail::place_free);
    fresh.tags_ = tags;
    fresh.elements_ =
        static_cast<value_type*>(detail::allocate_array(detail::type_of<value_type>(), places));
    fresh.places_ = places;
    fresh.room_ = places - places / 8;
    for (const value_type& e : *this) fresh.add(e, hash_of(e.first));
    take(fresh);
  }

  void take(map& other) noexcept {
    tags_ = other.tags_;
    elements_ = other.elements_;
    places_ = other.places_;
    size_ = other.size_;
    room_ = other.room_;
    other.clear();
  }

  template <class Element>
  position<Element> at_place(size_t i) const noexcept {
    return {tags_.get() + i, tags_.get() + places_, elements_.get() + i};
  }
  template <class Element>
  position<Element> first() const noexcept {
    position<Element> p = at_place<Element>(0);
    p.skip();
    return p;
  }

  value_type& element_at(const K& key) const {
    const size_t i = place_of(key);
    if (i == places_) throw std::out_of_range("weft::gc::map::at: no such key");
    return elements_.get()[i];
  }

  ref<uint8_t> tags_;
  ref<value_type> elements_;
  size_t places_ = 0;
  size_t size_ = 0;
  size_t room_ = 0;  // free places that may still be taken
};

template <class K, class V, class H, class E, class Predicate>
size_t erase_if(map<K, V, H, E>& m, Predicate predicate) {
  const size_t before = m.size();
  for (auto it = m.begin(); it != m.end();) {
    if (predicate(*it))
      it = m.erase(it);
    else
      ++it;
  }
  return before - m.size();
}

}  // namespace weft::gc

template <class T>
struct std::hash<weft::gc::ref<T>> {
  size_t operator()(const weft::gc::ref<T>& r) const noexcept { return std::hash<T*>{}(r.get()); }
};
