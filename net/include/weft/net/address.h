#pragma once
// Internet addresses with a port.
//
//   auto a = weft::net::address::parse("[::1]:8080");
//   log(a.to_string());
#include <weft/result.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

struct sockaddr;

namespace weft::net {

// An IPv4 or IPv6 address and a port, or nothing. A value type.
class address {
 public:
  // No address: to_string() is "".
  address() noexcept = default;

  // "192.0.2.1:80", "[2001:db8::1]:80", "[fe80::1%2]:80", ":80" (every address of this host).
  // Numeric only; names are the business of dial(), listen() and resolve(). try_parse fails with
  // errc::invalid_argument of the generic category; parse throws std::invalid_argument that names
  // the text and the fault.
  static result<address> try_parse(std::string_view text);
  static address parse(std::string_view text);

  // From the system's form; an IPv4 address mapped into IPv6 becomes plain IPv4.
  static address from_native(const sockaddr* sa) noexcept;

  // The form that parse() reads.
  std::string to_string() const;
  // Without port and brackets.
  std::string ip() const;
  std::uint16_t port() const noexcept;
  bool is_v6() const noexcept;
  bool is_loopback() const noexcept;
  // 0.0.0.0, [::] or no address.
  bool is_unspecified() const noexcept;
  bool empty() const noexcept { return family_ == 0; }
  // The same address with another port.
  address with_port(std::uint16_t port) const noexcept;

  // For system calls; empty() addresses have none.
  const sockaddr* native() const noexcept;
  std::uint32_t native_size() const noexcept;

  friend bool operator==(const address& a, const address& b) noexcept;

 private:
  // A sockaddr_in or sockaddr_in6; family_ repeats their first member.
  alignas(4) unsigned char bytes_[28] = {};
  std::uint16_t family_ = 0;
};

// "host:port" taken apart: "[::1]:80" gives {"::1", "80"}. std::errc::invalid_argument if there is
// no port, or an IPv6 address without brackets.
struct host_port {
  std::string_view host;
  std::string_view port;
};
result<host_port> split_host_port(std::string_view text) noexcept;

// The addresses of "host:port", in the order in which to try them; the port may be a service name.
// Numeric hosts cost nothing; names go to getaddrinfo(3) on a thread of its own, which the task
// waits for and no deadline interrupts. errc::no_such_host for an unknown name.
result<std::vector<address>> resolve(std::string_view host_and_port);

}  // namespace weft::net
