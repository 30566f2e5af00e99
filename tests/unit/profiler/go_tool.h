#pragma once
// Runs Go's own tools on what weft emits. A test that needs Go fails without it: these formats have
// no other judge.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>

namespace weft::prof::test {

struct tool_result {
  int exit_status = -1;
  std::string out;  // stdout, then whatever came on stderr in between
  bool has(std::string_view text) const { return out.find(text) != std::string::npos; }
};

// A directory of its own for every test: the tools keep their caches and files there.
class go_tool {
 public:
  go_tool() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weft-go-XXXXXX").string();
    if (mkdtemp(pattern.data()) != nullptr) directory_ = pattern;
    go_ = find_go();
    if (go_.empty()) {
      ADD_FAILURE()
          << "the Go toolchain is needed and neither $WEFT_GO nor PATH nor /usr/lib/go*/bin "
             "has it; scripts/setup installs it";
    }
  }
  ~go_tool() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  go_tool(const go_tool&) = delete;
  go_tool& operator=(const go_tool&) = delete;

  std::string write(const std::string& name, std::string_view content) const {
    const std::string path = directory_ + "/" + name;
    std::ofstream file(path, std::ios::binary);
    file << content;
    EXPECT_TRUE(file.flush().good()) << path;
    return path;
  }

  // `go tool pprof OPTIONS... FILE`
  tool_result pprof(std::initializer_list<std::string> options, const std::string& file) const {
    std::string command = quote(go_) + " tool pprof";
    for (const std::string& option : options) command += " " + quote(option);
    return run(command + " " + quote(file));
  }

  // `go run` on a program that reads the file `input`.
  tool_result run_program(const std::string& source, const std::string& input) const {
    return run(quote(go_) + " run " + quote(source) + " <" + quote(input));
  }

 private:
  static std::string find_go() {
    if (const char* go = getenv("WEFT_GO")) return go;
    std::string path = getenv("PATH") != nullptr ? getenv("PATH") : "";
    path += ":/usr/lib/go/bin:/usr/lib/go-1.19/bin:/usr/local/go/bin:";
    for (size_t end = path.find(':'); end != std::string::npos; end = path.find(':')) {
      const std::string candidate = path.substr(0, end) + "/go";
      if (access(candidate.c_str(), X_OK) == 0) return candidate;
      path.erase(0, end + 1);
    }
    return "";
  }

  static std::string quote(std::string_view word) {
    std::string quoted = "'";
    for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
  }

  tool_result run(const std::string& command) const {
    tool_result result;
    if (go_.empty()) return result;
    const std::string environment =
        "HOME=" + quote(directory_) + " PPROF_TMPDIR=" + quote(directory_) +
        " GOCACHE=" + quote(directory_ + "/cache") + " GO111MODULE=off GOFLAGS= GOTOOLCHAIN=local ";
    FILE* pipe = popen((environment + command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) {
      ADD_FAILURE() << "cannot run " << command;
      return result;
    }
    char chunk[4096];
    for (size_t n = fread(chunk, 1, sizeof chunk, pipe); n > 0;
         n = fread(chunk, 1, sizeof chunk, pipe)) {
      result.out.append(chunk, n);
    }
    const int status = pclose(pipe);
    if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
    return result;
  }

  std::string directory_;
  std::string go_;
};

}  // namespace weft::prof::test
