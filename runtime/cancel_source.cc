#include "runtime/cancel_source.h"

namespace weft::detail {

void cancel_source::fire_listeners() noexcept {
  constexpr int batch = 64;
  for (bool more = true; more;) {
    lock_.lock();
    for (int i = 0; i < batch && first_ != nullptr; ++i) {
      cancel_listener* l = first_;
      erase(*l);
      l->fire(l);  // the last touch: its frame may be gone
    }
    more = first_ != nullptr;
    lock_.unlock();
  }
}

}  // namespace weft::detail
