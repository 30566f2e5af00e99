#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <weft/blocking.h>
#include <weft/net/address.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace weft::net {
namespace {

error_code invalid() noexcept { return make_error_code(boost::system::errc::invalid_argument); }

bool parse_number(std::string_view text, std::uint32_t max, std::uint32_t& value) noexcept {
  if (text.empty() || text[0] < '0' || text[0] > '9') return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value <= max;
}

// "fe80::1%eth0"; the part behind '%' is an interface's name or number.
bool parse_v6(std::string_view host, sockaddr_in6& out) noexcept {
  std::string_view zone;
  if (std::size_t percent = host.find('%'); percent != std::string_view::npos) {
    zone = host.substr(percent + 1);
    host = host.substr(0, percent);
    if (zone.empty()) return false;
  }
  char text[INET6_ADDRSTRLEN];
  if (host.size() >= sizeof text) return false;
  *std::copy(host.begin(), host.end(), text) = '\0';
  if (::inet_pton(AF_INET6, text, &out.sin6_addr) != 1) return false;
  if (zone.empty()) return true;
  std::uint32_t index = 0;
  if (!parse_number(zone, UINT32_MAX, index)) {
    char name[IF_NAMESIZE];
    if (zone.size() >= sizeof name) return false;
    *std::copy(zone.begin(), zone.end(), name) = '\0';
    index = ::if_nametoindex(name);
    if (index == 0) return false;
  }
  out.sin6_scope_id = index;
  return true;
}

// The host as a number, or no address.
address numeric(std::string_view host, std::uint16_t port) noexcept {
  if (host.find(':') != std::string_view::npos || host.empty()) {
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    if (host.empty() || parse_v6(host, six))
      return address::from_native(reinterpret_cast<const sockaddr*>(&six));
    return {};
  }
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = htons(port);
  char text[INET_ADDRSTRLEN];
  if (host.size() >= sizeof text) return {};
  *std::copy(host.begin(), host.end(), text) = '\0';
  if (::inet_pton(AF_INET, text, &four.sin_addr) != 1) return {};
  return address::from_native(reinterpret_cast<const sockaddr*>(&four));
}

error_code resolver_error(int code, int system_error) noexcept {
  switch (code) {
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_SERVICE:
      return errc::no_such_host;
    case EAI_AGAIN:
      return make_error_code(boost::system::errc::resource_unavailable_try_again);
    case EAI_MEMORY:
      return make_error_code(boost::system::errc::not_enough_memory);
    case EAI_SYSTEM:
      return {system_error, boost::system::system_category()};
    default:
      return make_error_code(boost::system::errc::host_unreachable);
  }
}

}  // namespace

result<host_port> split_host_port(std::string_view text) noexcept {
  host_port hp;
  if (!text.empty() && text[0] == '[') {
    std::size_t close = text.find(']');
    if (close == std::string_view::npos || close + 1 >= text.size() || text[close + 1] != ':')
      return invalid();
    hp = {text.substr(1, close - 1), text.substr(close + 2)};
    if (hp.host.find(':') == std::string_view::npos) return invalid();
  } else {
    std::size_t colon = text.find(':');
    if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos)
      return invalid();
    hp = {text.substr(0, colon), text.substr(colon + 1)};
  }
  if (hp.port.empty() || hp.host.find('\0') != std::string_view::npos ||
      hp.port.find('\0') != std::string_view::npos)
    return invalid();
  return hp;
}

result<address> address::try_parse(std::string_view text) {
  result<host_port> hp = split_host_port(text);
  if (!hp) return hp.error();
  std::uint32_t port = 0;
  if (!parse_number(hp->port, 65535, port)) return invalid();
  address a = numeric(hp->host, static_cast<std::uint16_t>(port));
  if (a.empty()) return invalid();
  return a;
}

address address::parse(std::string_view text) {
  result<address> a = try_parse(text);
  if (a) return *a;
  throw std::invalid_argument("address \"" + std::string(text) +
                              "\" is not of the form 192.0.2.1:80, [2001:db8::1]:80 or :80 with a "
                              "port from 0 to 65535");
}

address address::from_native(const sockaddr* sa) noexcept {
  address a;
  if (sa->sa_family == AF_INET) {
    std::memcpy(a.bytes_, sa, sizeof(sockaddr_in));
    a.family_ = AF_INET;
  } else if (sa->sa_family == AF_INET6) {
    sockaddr_in6 six;
    std::memcpy(&six, sa, sizeof six);
    if (IN6_IS_ADDR_V4MAPPED(&six.sin6_addr)) {
      sockaddr_in four{};
      four.sin_family = AF_INET;
      four.sin_port = six.sin6_port;
      std::memcpy(&four.sin_addr, six.sin6_addr.s6_addr + 12, 4);
      std::memcpy(a.bytes_, &four, sizeof four);
      a.family_ = AF_INET;
    } else {
      std::memcpy(a.bytes_, &six, sizeof six);
      a.family_ = AF_INET6;
    }
  }
  return a;
}

std::string address::ip() const {
  char text[INET6_ADDRSTRLEN + 16];
  if (family_ == AF_INET) {
    ::inet_ntop(AF_INET, bytes_ + offsetof(sockaddr_in, sin_addr), text, sizeof text);
    return text;
  }
  if (family_ != AF_INET6) return {};
  sockaddr_in6 six;
  std::memcpy(&six, bytes_, sizeof six);
  ::inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text);
  std::string s = text;
  if (six.sin6_scope_id != 0) s += "%" + std::to_string(six.sin6_scope_id);
  return s;
}

std::string address::to_string() const {
  if (empty()) return {};
  std::string s = is_v6() ? "[" + ip() + "]" : ip();
  return s + ":" + std::to_string(port());
}

std::uint16_t address::port() const noexcept {
  std::uint16_t raw;  // at the same place in both forms
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  std::memcpy(&raw, bytes_ + offsetof(sockaddr_in, sin_port), sizeof raw);
  return ntohs(raw);
}

bool address::is_v6() const noexcept { return family_ == AF_INET6; }

bool address::is_loopback() const noexcept {
  if (family_ == AF_INET) return bytes_[offsetof(sockaddr_in, sin_addr)] == 127;
  if (family_ != AF_INET6) return false;
  return std::memcmp(bytes_ + offsetof(sockaddr_in6, sin6_addr), &in6addr_loopback,
                     sizeof in6addr_loopback) == 0;
}

bool address::is_unspecified() const noexcept {
  static constexpr unsigned char zeros[16] = {};
  if (family_ == AF_INET)
    return std::memcmp(bytes_ + offsetof(sockaddr_in, sin_addr), zeros, 4) == 0;
  return std::memcmp(bytes_ + offsetof(sockaddr_in6, sin6_addr), zeros, 16) == 0;
}

address address::with_port(std::uint16_t port) const noexcept {
  address a = *this;
  const std::uint16_t raw = htons(port);
  std::memcpy(a.bytes_ + offsetof(sockaddr_in, sin_port), &raw, sizeof raw);
  return a;
}

const sockaddr* address::native() const noexcept {
  return reinterpret_cast<const sockaddr*>(bytes_);
}

std::uint32_t address::native_size() const noexcept {
  return family_ == AF_INET6 ? sizeof(sockaddr_in6) : family_ == AF_INET ? sizeof(sockaddr_in) : 0;
}

bool operator==(const address& a, const address& b) noexcept {
  return a.family_ == b.family_ && std::memcmp(a.bytes_, b.bytes_, sizeof a.bytes_) == 0;
}

result<std::vector<address>> resolve(std::string_view host_and_port) {
  result<host_port> hp = split_host_port(host_and_port);
  if (!hp) return hp.error();
  std::uint32_t port = 0;
  if (parse_number(hp->port, 65535, port)) {
    if (address a = numeric(hp->host, static_cast<std::uint16_t>(port)); !a.empty())
      return std::vector<address>{a};
  } else if (hp->port.find_first_not_of("0123456789") == std::string_view::npos &&
             !hp->port.empty()) {
    return resolver_error(EAI_SERVICE, 0);  // getaddrinfo(3) would take it modulo 65536
  }
  const std::string host(hp->host), service(hp->port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | (host.empty() ? AI_PASSIVE : 0);
  addrinfo* list = nullptr;
  int system_error = 0;
  const int code = blocking([&] {
    int c = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &list);
    if (c != 0 && host == "localhost") {
      // A machine with nothing but a loopback interface has no configured address.
      hints.ai_flags &= ~AI_ADDRCONFIG;
      c = ::getaddrinfo(host.c_str(), service.c_str(), &hints, &list);
    }
    system_error = errno;
    return c;
  });
  if (code != 0) return resolver_error(code, system_error);
  std::vector<address> found;
  for (const addrinfo* i = list; i != nullptr; i = i->ai_next) {
    address a = address::from_native(i->ai_addr);
    if (!a.empty() && std::find(found.begin(), found.end(), a) == found.end()) found.push_back(a);
  }
  ::freeaddrinfo(list);
  if (found.empty()) return errc::no_such_host;
  return found;
}

}  // namespace weft::net
