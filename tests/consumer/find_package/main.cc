// A program that uses weft::weft: the core, and a piece of the network layer on top of it.
#include <weft/http/params.h>
#include <weft/weft.h>

#include <string>

int main() {
  return weft::run([] {
    weft::chan<std::string> answers(1);
    weft::go([answers] {
      answers.send(std::string(weft::http::params::parse("a=1&answer=4%32").get("answer")));
    });
    return answers.recv() == "42" ? 0 : 1;
  });
}
