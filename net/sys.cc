#include "net/sys.h"

#include <fcntl.h>

#include <cerrno>

namespace weft::net::sys {

WEFT_OPAQUE ssize_t recv(int fd, void* into, std::size_t size, int flags) noexcept {
  ssize_t n;
  do {
    n = ::recv(fd, into, size, flags);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

WEFT_OPAQUE ssize_t send(int fd, const iovec* parts, std::size_t count, int flags) noexcept {
  ssize_t n;
  do {
    if (count == 1) {
      n = ::send(fd, parts->iov_base, parts->iov_len, flags | MSG_NOSIGNAL);
    } else {
      msghdr m{};
      m.msg_iov = const_cast<iovec*>(parts);
      m.msg_iovlen = count;
      n = ::sendmsg(fd, &m, flags | MSG_NOSIGNAL);
    }
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

WEFT_OPAQUE int accept(int fd, sockaddr_storage* peer, socklen_t* size) noexcept {
  int r;
  do {
    *size = sizeof *peer;
    r = ::accept4(fd, reinterpret_cast<sockaddr*>(peer), size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  } while (r < 0 && (errno == EINTR || errno == ECONNABORTED));
  return r < 0 ? -errno : r;
}

WEFT_OPAQUE int connect(int fd, const sockaddr* to, socklen_t size) noexcept {
  return ::connect(fd, to, size) < 0 ? -errno : 0;
}

WEFT_OPAQUE int socket(int family, int type, int protocol) noexcept {
  int r = ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  return r < 0 ? -errno : r;
}

WEFT_OPAQUE int dup(int fd) noexcept {
  int r = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return r < 0 ? -errno : r;
}

WEFT_OPAQUE int pending_error(int fd) noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

}  // namespace weft::net::sys
