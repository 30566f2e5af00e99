#include "profiler/symbol_source.h"

#include <limits.h>
#include <unistd.h>

namespace weft::prof {
namespace {

class live_process final : public symbol_source {
 public:
  const std::vector<frame>& frames(uintptr_t pc) const override { return symbolize(pc); }

  std::vector<mapping> mappings() const override { return current_mappings(); }

  std::string main_binary() const override {
    char path[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length <= 0) return "";
    std::string result(path, static_cast<size_t>(length));
    // The kernel marks a replaced executable; mapping::filename is without the mark.
    constexpr std::string_view deleted = " (deleted)";
    if (result.ends_with(deleted)) result.resize(result.size() - deleted.size());
    return result;
  }
};

}  // namespace

const symbol_source& process_symbols() {
  static const live_process source;
  return source;
}

}  // namespace weft::prof
