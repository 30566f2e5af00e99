// Task dumps in the form of Go's tracebacks, so that what reads those (people, panicparse, editors,
// error trackers) reads these:
//
//   goroutine 7 [chan receive, 3 minutes, locked to thread, name "conn 12"] {role: worker}:
//   weft::chan<int>::recv(...)
//   <tab>/src/chan.h:77 +0x25
//   shortlink::serve(...)                       an inlined function has no offset
//   <tab>/app/main.cc:45
//   created by main in goroutine 1
//   <tab>/app/main.cc:43 +0x89
//
// Header     "goroutine", not "task": every reader looks for that word. The task's name is the last
//            item of the bracket list, as `name "..."`. Readers split that list at ", " and skip
//            items they do not know; panicparse demands that "]:" ends the line, so a name after
//            the bracket would make the whole task invisible to it. ',', '[' and ']' in a name are
//            written \x2c, \x5b and \x5d for the same readers. Labels do follow the bracket, as in
//            Go 1.27, and only where the program set some.
// Waits      "on 0x7f3b5c2d10" is the channel, lock, group, … that the task waits for, whose kind
//            the wait reason tells; "held by goroutine 8" the task that holds that lock. Both
//            stand before the other items that Go does not know, for the same readers.
// Functions  stand without return type and with (...) for the parameter list: Go's readers take the
//            last pair of parentheses for argument values. File and line tell overloads apart.
// Offsets    are return address - entry, as in Go (debug=1 counts from the call instead).
// Depth      more than 100 visible frames: the 50 innermost, "...N frames elided...", the 50
//            outermost. A stack that was captured incompletely ends in "...additional frames
//            elided...", which is how Go 1.19 ended deep stacks.
// Speed      a frame is rendered once per distinct address; a task whose addresses were all seen
//            before costs one hash lookup per frame and a copy.
#include "profiler/task_dump.h"

#include <algorithm>
#include <charconv>

#include "profiler/go_quote.h"

namespace weft::prof {
namespace {

constexpr size_t inner_frames = 50;
constexpr size_t outer_frames = 50;
constexpr size_t chunk_size = 64 * 1024;  // handed to the sink at once
constexpr int64_t minute_nanos = 60'000'000'000;

void append_hex(std::string& out, uintptr_t value) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
  out += "0x";
  out.append(digits, end);
}

void append_function(std::string& out, const frame& f, uintptr_t address) {
  if (f.name.empty()) {
    append_hex(out, address);
  } else {
    out += without_parameters(f.name);
  }
}

// "\tFILE:LINE +0xOFF\n"
void append_place(std::string& out, const frame& f, uintptr_t pc) {
  out += '\t';
  out += f.file.empty() ? "?" : f.file;
  out += ':';
  out += std::to_string(f.line);
  if (!f.inlined && f.entry != 0 && pc > f.entry) {
    out += " +";
    append_hex(out, pc - f.entry);
  }
  out += '\n';
}

void append_frame(std::string& out, const resolved_frame& f, uintptr_t pc) {
  append_function(out, *f.source, f.address);
  out += "(...)\n";
  append_place(out, *f.source, pc);
}

std::string name_item(std::string_view name) {
  std::string item = ", name ";
  for (char c : go_runtime_quote(name)) {
    switch (c) {
      case ',':
        item += "\\x2c";
        break;
      case '[':
        item += "\\x5b";
        break;
      case ']':
        item += "\\x5d";
        break;
      default:
        item += c;
    }
  }
  return item;
}

// Go 1.27 quotes a key or value only if it holds anything but these.
void append_label_part(std::string& out, std::string_view text) {
  const bool plain = !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '/' || c == '_';
  });
  out += plain ? std::string(text) : go_runtime_quote(text);
}

void append_labels(std::string& out, const label_list& labels) {
  if (labels.empty()) return;
  const char* separator = " {";
  for (const auto& [key, value] : labels) {
    out += separator;
    append_label_part(out, key);
    out += ": ";
    append_label_part(out, value);
    separator = ", ";
  }
  out += '}';
}

}  // namespace

task_dump_writer::task_dump_writer(text_sink sink, const symbol_source& symbols, leaf_frames leaves)
    : sink_(std::move(sink)), resolver_(symbols), leaves_(leaves) {}

bool task_dump_writer::add(const task_snapshot& task) {
  if (!ok_) return false;
  if (tasks_++ > 0) out_ += '\n';
  append_header(task);
  append_frames(task);
  append_created_by(task);
  return drain(chunk_size);
}

bool task_dump_writer::finish() { return drain(1); }

void task_dump_writer::append_header(const task_snapshot& task) {
  out_ += "goroutine ";
  out_ += std::to_string(task.id);
  out_ += " [";
  out_ += task.status;
  if (task.wait_ns >= minute_nanos) {
    out_ += ", ";
    out_ += std::to_string(task.wait_ns / minute_nanos);
    out_ += " minutes";
  }
  if (task.waits_on != nullptr) {
    out_ += ", on ";
    append_hex(out_, reinterpret_cast<uintptr_t>(task.waits_on));
  }
  if (task.held_by != 0) {
    out_ += ", held by goroutine ";
    out_ += std::to_string(task.held_by);
  }
  if (task.locked_to_thread) out_ += ", locked to thread";
  if (!task.name.empty()) out_ += name_item(task.name);
  out_ += ']';
  append_labels(out_, task.labels);
  out_ += ":\n";
}

void task_dump_writer::append_frames(const task_snapshot& task) {
  if (task.pcs.empty()) {
    // Go's words for a stack it could not walk; readers know the line.
    out_ += "\tgoroutine running on other thread; stack unavailable\n";
    return;
  }
  const stack_view stack{task.pcs, task.leaf_is_exact, task.truncated};
  const auto frames = resolver_.resolve(stack, leaves_);
  const size_t elided =
      frames.size() > inner_frames + outer_frames ? frames.size() - inner_frames - outer_frames : 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    if (elided > 0 && i == inner_frames) {
      out_ += "...";
      out_ += std::to_string(elided + task.elided_pcs);
      out_ += " frames elided...\n";
      i += elided;
    }
    const resolved_frame& f = frames[i];
    if (f.position == 0 && task.leaf_is_exact) {
      append_frame(out_, f, f.address);
    } else {
      out_ += rendered(f);
    }
  }
  if (task.truncated) out_ += "...additional frames elided...\n";
}

const std::string& task_dump_writer::rendered(const resolved_frame& f) {
  if (f.id >= rendered_.size()) rendered_.resize(f.id + 1);
  std::string& text = rendered_[f.id];
  if (text.empty()) append_frame(text, f, f.address + 1);
  return text;
}

void task_dump_writer::append_created_by(const task_snapshot& task) {
  if (task.created_by == 0) return;
  const auto frames = resolver_.resolve_address(task.created_by - 1);
  // The spawn call itself may be inlined into its caller; it is the caller that is asked for.
  const auto creator = std::ranges::find_if(frames, [](const resolved_frame& f) {
    return f.kind == frame_kind::user && !is_spawn_frame(f.source->name, f.source->file);
  });
  const resolved_frame& f = creator != frames.end() ? *creator : frames.back();
  out_ += "created by ";
  append_function(out_, *f.source, f.address);
  if (task.parent_id != 0) {
    out_ += " in goroutine ";
    out_ += std::to_string(task.parent_id);
  }
  out_ += '\n';
  append_place(out_, *f.source, task.created_by);
}

bool task_dump_writer::drain(size_t threshold) {
  if (ok_ && out_.size() >= threshold) {
    ok_ = sink_(out_);
    out_.clear();
  }
  return ok_;
}

}  // namespace weft::prof
