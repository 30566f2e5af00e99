#include <weft/result.h>

#include <string>

namespace weft {
namespace {

// The base class has a protected lifetime by design (no virtual destructor); instances are static.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"
class category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "weft"; }
  std::string message(int ev) const override {
    switch (static_cast<errc>(ev)) {
      case errc::eof:
        return "EOF";
      case errc::closed:
        return "use of closed network connection";
      case errc::deadline_exceeded:
        return "i/o timeout";
      case errc::canceled:
        return "context canceled";
      case errc::no_such_host:
        return "no such host";
      case errc::line_too_long:
        return "protocol element too long";
      case errc::context_deadline_exceeded:
        return "context deadline exceeded";
      case errc::timed_out:
        return "timed out";
      case errc::channel_closed:
        return "channel closed";
    }
    return "unknown weft error " + std::to_string(ev);
  }
  boost::system::error_condition default_error_condition(int ev) const noexcept override {
    switch (static_cast<errc>(ev)) {
      case errc::canceled:
        return boost::system::errc::make_error_condition(boost::system::errc::operation_canceled);
      case errc::deadline_exceeded:
      case errc::context_deadline_exceeded:
      case errc::timed_out:
        return boost::system::errc::make_error_condition(boost::system::errc::timed_out);
      default:
        return {ev, *this};
    }
  }
};
#pragma GCC diagnostic pop

}  // namespace

const boost::system::error_category& weft_category() noexcept {
  static const category instance;
  return instance;
}

bool is_timeout(const error_code& e) noexcept { return e == boost::system::errc::timed_out; }

}  // namespace weft
