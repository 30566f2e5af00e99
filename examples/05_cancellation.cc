// Cancellation: servers are asked all at once, until one has answered, one fails, or time is up.
#include <weft/weft.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

struct server {
  std::string name;
  std::chrono::nanoseconds delay;
  bool exists = true;
};

// Stands for a request over the network. What may wait takes a context, hands it on to what it
// waits in, and returns the context's error if that ended the wait.
weft::result<std::string> ask(const weft::context& ctx, const server& s) {
  if (!weft::this_task::sleep_for(ctx, s.delay)) return ctx.err();
  if (!s.exists) return weft::make_error_code(weft::errc::no_such_host);
  return s.name + " says hello";
}

std::string message_of(const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& error) {
    return error.what();
  }
}

// The first answer. Throws what failed first, or that `limit` has passed.
std::string first_answer(const std::vector<server>& servers, std::chrono::nanoseconds limit) {
  // Contexts form a tree: this one is cancelled when the caller's is, and when time is up.
  auto [in_time, cancel] =
      weft::with_timeout_cause(weft::this_task::context(), limit,
                               std::make_exception_ptr(std::runtime_error("it is too late")));
  weft::cancel_guard on_return(cancel);

  // The group's own is below it. It is also cancelled when a task of the group throws.
  weft::chan<std::string> answers(servers.size());
  weft::task_group group(in_time);
  for (const server& s : servers) {
    group.go([&](const weft::context& ctx) {
      weft::result<std::string> answer = ask(ctx, s);
      if (answer) {
        answers.send(*std::move(answer));
      } else if (ctx.err()) {
        // err() says whether it was cancelled or late, the cause why.
        std::printf("%s gives up: %s (%s)\n", s.name.c_str(), ctx.err().message().c_str(),
                    message_of(ctx.cause()).c_str());
      } else {
        throw std::runtime_error(s.name + ": " + answer.error().message());
      }
    });
  }
  weft::result<std::string> first = answers.recv(group.ctx());
  group.cancel();  // nobody needs the others
  group.wait();    // they have ended, whatever happened; rethrows a failure
  if (!first) std::rethrow_exception(in_time.cause());
  return *first;
}

void try_with(const std::vector<server>& servers, std::chrono::nanoseconds limit) {
  try {
    std::printf("%s\n", first_answer(servers, limit).c_str());
  } catch (const std::exception& error) {
    std::printf("no answer: %s\n", error.what());
  }
}

}  // namespace

int main() {
  return weft::run([] {
    try_with({{"near", 1ms}, {"far", 1h}}, 1min);
    try_with({{"lost", 1ms, false}, {"far", 1h}}, 1min);
    try_with({{"far", 1h}, {"farther", 2h}}, 10ms);
  });
}
