// A TCP server in the plain style, one task per connection, and a client that talks to it.
//
//   03_echo_server              serves on a free port, sends itself a few lines, ends
//   03_echo_server HOST:PORT    serves there until it is killed
#include <weft/net/tcp.h>
#include <weft/weft.h>

#include <cstdio>
#include <string>
#include <utility>

namespace {

void echo(weft::net::tcp_conn conn) {
  char buffer[4096];
  // Reading parks the task until bytes arrive; no thread waits.
  while (auto n = conn.try_read(buffer)) {
    if (!conn.try_write({buffer, *n})) return;
  }
}

void accept_all(weft::net::tcp_listener& listener) {
  while (auto conn = listener.try_accept()) {
    weft::go([c = std::move(*conn)]() mutable { echo(std::move(c)); });
  }
}

void talk_to(const std::string& address) {
  weft::net::tcp_conn conn = weft::net::dial(address);
  for (std::string line : {"hello", "echo", "goodbye"}) {
    conn.write(line);
    std::string answer(line.size(), ' ');
    conn.read_full(answer);
    std::printf("sent %s, got %s\n", line.c_str(), answer.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  return weft::run([&] {
    auto listener = weft::net::listen("tcp", argc > 1 ? argv[1] : "127.0.0.1:0");
    std::string address = listener.local_address().to_string();
    if (argc > 1) {
      std::printf("listening on %s\n", address.c_str());
      accept_all(listener);
      return;
    }
    auto accepting = weft::spawn([&] { accept_all(listener); });
    talk_to(address);
    listener.close();
    accepting.join();
  });
}
