// The strict HTTP/1.1 head parser.
//
// Words      line = bytes up to CRLF; field = one header line; head = request line, fields, empty
// line. Shape      parse_head() cuts lines out of the bytes and hands each to parse_request_line()
//            or add_field(); the empty line leads to finish(), which judges what only the whole
//            head shows (Host present, framing consistent). State between calls lives in `head`.
// Strictness is the reason this file exists: two parsers that disagree about where a request ends
//            are a smuggling hole, and every packaged parser accepts some form that others read
//            differently. Where RFC 9112 leaves a choice we refuse: bare CR or LF, obs-fold, space
//            before the colon, repeated Content-Length (even equal), any transfer coding but one
//            "chunked", Transfer-Encoding beside Content-Length or on HTTP/1.0.
// Invariants [H1] The verdict depends on the bytes alone, never on how they were cut into reads: a
//                 line is judged when its CRLF is there, a forbidden byte as soon as it is in reach
//                 of the limit, a limit when it is passed. connection_test cuts everything
//                 everywhere.
//            [H2] No byte is scanned twice for the end of its line, however slowly it arrives.
//            [H3] Offsets fit 16 bits because no head above max_head_capacity is looked at.
// Not done   A byte-per-step state machine (llhttp): larger, slower and harder to check against the
//            grammar than "cut a line, judge the line". Lower-casing names in place: handlers and
//            logs want the case that was sent, and the block stays read-only.
#include "net/http/parse_head.h"

#include <algorithm>

#include "net/http/ascii.h"
#include "net/http/scan.h"

namespace weft::http::detail {
namespace {

constexpr std::size_t max_method_length = 32;

parse_result complete() { return {parse_state::complete}; }
parse_result need_more() { return {parse_state::need_more}; }
parse_result fail(int status, const char* reason) {
  return {parse_state::error, static_cast<std::uint16_t>(status), reason};
}
parse_result bad(const char* reason) { return fail(400, reason); }

span16 span_of(const char* base, std::string_view piece) {
  return {static_cast<std::uint16_t>(piece.data() - base),
          static_cast<std::uint16_t>(piece.size())};
}

method_id find_method(std::string_view m) {
  switch (m.size()) {
    case 3:
      return m == "GET" ? method_id::get : m == "PUT" ? method_id::put : method_id::other;
    case 4:
      return m == "HEAD" ? method_id::head : m == "POST" ? method_id::post : method_id::other;
    case 5:
      return m == "PATCH" ? method_id::patch : m == "TRACE" ? method_id::trace : method_id::other;
    case 6:
      return m == "DELETE" ? method_id::del : method_id::other;
    case 7:
      return m == "OPTIONS" ? method_id::options : method_id::other;
    default:
      return method_id::other;
  }
}

// Name and value of a line whose bytes are known to be value bytes.
const char* split_field_line(std::string_view line, std::string_view& name,
                             std::string_view& value) {
  std::size_t n = 0;
  while (n < line.size() && is_class(line[n], class_token)) ++n;
  if (n == 0) {
    bool folded = !line.empty() && (line.front() == ' ' || line.front() == '\t');
    return folded ? "folded header line" : "header field without a name";
  }
  if (n == line.size()) return "header field without a colon";
  if (line[n] != ':') return "forbidden byte in or after a header name";
  name = line.substr(0, n);
  value = trim_ows(line.substr(n + 1));
  return nullptr;
}

// Percent signs of a path must start a triplet, and none may hide a NUL from C code behind us.
const char* check_percent(std::string_view path) {
  for (std::size_t i = path.find('%'); i != std::string_view::npos; i = path.find('%', i + 1)) {
    if (path.size() - i < 3 || !is_class(path[i + 1], class_hex) ||
        !is_class(path[i + 2], class_hex)) {
      return "malformed percent-encoding in the path";
    }
    if (path[i + 1] == '0' && path[i + 2] == '0') return "percent-encoded NUL in the path";
  }
  return nullptr;
}

// Sets form, host, path and query from the target; returns the reason if it is malformed. Only a
// `marked` target holds one of '#', '?', '%'.
const char* split_target(std::string_view target, bool marked, const char* base, head& out) {
  if (target == "*") {
    if (out.method_known != method_id::options) return "target '*' is for OPTIONS only";
    out.form = target_form::asterisk;
    out.path = span_of(base, target.substr(1));
    return nullptr;
  }
  out.form = target_form::origin;
  if (target.front() != '/') {
    out.form = target_form::absolute;
    std::size_t authority = 0;
    if (target.size() > 7 && equals_nocase(target.substr(0, 7), "http://")) authority = 7;
    if (target.size() > 8 && equals_nocase(target.substr(0, 8), "https://")) authority = 8;
    if (authority == 0) return "target is neither a path nor an http URL";
    target.remove_prefix(authority);
    std::size_t end = std::min(target.find_first_of("/?#"), target.size());
    std::string_view host = target.substr(0, end);
    if (!valid_host(host)) return "malformed authority in an absolute target";
    out.host = span_of(base, host);
    target.remove_prefix(end);
  }
  std::string_view path = target;
  if (marked) {
    if (target.find('#') != std::string_view::npos) return "fragment in the target";
    std::size_t question = target.find('?');
    path = target.substr(0, question);
    if (question != std::string_view::npos) {
      out.has_query = true;
      out.query = span_of(base, target.substr(question + 1));
    }
    if (path.find('%') != std::string_view::npos) {
      out.path_has_percent = true;
      if (const char* reason = check_percent(path)) return reason;
    }
  }
  out.path = span_of(base, path);
  return nullptr;
}

parse_result parse_request_line(std::string_view line, const char* base, head& out,
                                const head_limits& limits) {
  if (line.empty()) return bad("more than one empty line before the request line");
  std::size_t at = 0;
  while (at < line.size() && is_class(line[at], class_token)) ++at;
  if (at == 0 || (at < line.size() && line[at] != ' ')) return bad("the method is not a token");
  if (at == line.size()) return bad("request line without a target");
  const std::string_view method = line.substr(0, at);
  if (method.size() > max_method_length) return fail(501, "method longer than 32 bytes");

  const std::size_t target_at = ++at;
  bool marked = false, high = false;
  for (; at < line.size() &&
         (char_classes[static_cast<unsigned char>(line[at])] & (class_target | class_mark)) != 0;
       ++at) {
    if (is_class(line[at], class_mark)) {
      marked = true;
      high |= static_cast<unsigned char>(line[at]) >= 0x80;
    }
  }
  const std::string_view target = line.substr(target_at, at - target_at);
  std::string_view rest = line.substr(at);
  if (target.empty()) return bad("empty target, or more than one space before it");
  if (rest.empty()) return bad("request line without a version");
  if (rest.front() != ' ') return bad("forbidden byte in the target");
  rest.remove_prefix(1);

  if (rest != "HTTP/1.1" && rest != "HTTP/1.0") {
    bool shaped = rest.size() == 8 && rest.substr(0, 5) == "HTTP/" &&
                  is_class(rest[5], class_digit) && rest[6] == '.' &&
                  is_class(rest[7], class_digit);
    if (shaped) return fail(505, "HTTP version other than 1.0 and 1.1");
    return bad("malformed version, or extra space in the request line");
  }
  out.minor_version = rest.back() == '1' ? 1 : 0;

  if (high && !limits.allow_high_target) return bad("byte above 0x7e in the target");
  out.method = span_of(base, method);
  out.method_known = find_method(method);
  out.target = span_of(base, target);
  if (method == "CONNECT") return fail(501, "CONNECT is not served here");
  if (const char* reason = split_target(target, marked, base, out)) return bad(reason);
  return complete();
}

void note_connection(std::string_view value, head& out) {
  for_each_list_element(value, [&out](std::string_view option) {
    if (equals_nocase(option, "close")) out.connection_close = true;
    if (equals_nocase(option, "keep-alive")) out.connection_keep_alive = true;
    if (equals_nocase(option, "upgrade")) out.upgrade = true;
    return true;
  });
}

parse_result add_field(std::string_view line, const char* base, head& out,
                       const head_limits& limits) {
  if (out.field_count >= std::min<std::uint32_t>(limits.fields, max_field_capacity)) {
    return fail(431, "too many header fields");
  }
  std::string_view name, value;
  if (const char* reason = split_field_line(line, name, value)) return bad(reason);
  field_view& field = out.fields[out.field_count++];
  field.name = span_of(base, name);
  field.value = span_of(base, value);
  field.id = find_known_header(name);
  auto index = static_cast<std::uint8_t>(out.field_count);
  switch (field.id) {
    case known_header::host:
      if (out.host_index != 0) return bad("more than one Host field");
      if (!valid_host(value)) return bad("malformed Host");
      out.host_index = index;
      break;
    case known_header::content_length: {
      if (out.length_index != 0) return bad("more than one Content-Length field");
      if (value.empty() || value.size() > 18) {
        return bad("Content-Length is not a number of 1 to 18 digits");
      }
      std::uint64_t length = 0;
      for (char c : value) {
        if (!is_class(c, class_digit))
          return bad("Content-Length holds something else than digits");
        length = length * 10 + static_cast<std::uint64_t>(c - '0');
      }
      out.content_length = length;
      out.length_index = index;
      break;
    }
    case known_header::transfer_encoding:
      if (out.coding_index != 0) return bad("more than one Transfer-Encoding field");
      out.coding_index = index;
      break;
    case known_header::connection:
      note_connection(value, out);
      break;
    case known_header::expect:
      if (out.expect_index != 0) return bad("more than one Expect field");
      out.expect_index = index;
      break;
    default:
      break;
  }
  return complete();
}

parse_result judge_coding(std::string_view value) {
  if (equals_nocase(value, "chunked")) return complete();
  bool saw_chunked = false, saw_other = false;
  bool well_formed = for_each_list_element(value, [&](std::string_view coding) {
    (equals_nocase(coding, "chunked") ? saw_chunked : saw_other) = true;
    return is_token(coding);
  });
  if (!well_formed) return bad("malformed Transfer-Encoding");
  if (!saw_other) return bad("transfer coding chunked applied twice");
  if (saw_chunked) return bad("Transfer-Encoding other than exactly 'chunked'");
  return fail(501, "unknown transfer coding");
}

parse_result finish(const char* base, head& out) {
  if (out.host_index == 0 && out.minor_version == 1) return bad("HTTP/1.1 without a Host field");
  if (out.host_index != 0 && out.form != target_form::absolute) {
    out.host = out.fields[out.host_index - 1].value;
  }
  out.framing = body_framing::none;
  if (out.coding_index != 0) {
    if (out.length_index != 0) return bad("both Transfer-Encoding and Content-Length");
    if (out.minor_version == 0) return bad("Transfer-Encoding on HTTP/1.0");
    parse_result coding = judge_coding(out.fields[out.coding_index - 1].value.of(base));
    if (coding.state != parse_state::complete) return coding;
    out.framing = body_framing::chunked;
  } else if (out.length_index != 0 && out.content_length > 0) {
    out.framing = body_framing::length;
  }
  out.keep_alive = !out.connection_close && (out.minor_version == 1 || out.connection_keep_alive);
  if (out.expect_index != 0 && out.minor_version == 1) {
    if (!equals_nocase(out.fields[out.expect_index - 1].value.of(base), "100-continue")) {
      return fail(417, "Expect asks for something else than 100-continue");
    }
    out.expect_continue = out.framing != body_framing::none;
  }
  return complete();
}

}  // namespace

void head::reset() {
  method = target = path = query = host = span16{};
  method_known = method_id::other;
  form = target_form::origin;
  minor_version = 0;
  has_query = path_has_percent = false;
  framing = body_framing::none;
  keep_alive = expect_continue = upgrade = false;
  content_length = 0;
  size = 0;
  field_count = 0;
  request_line_done = false;
  host_index = length_index = coding_index = expect_index = 0;
  connection_close = connection_keep_alive = false;
  line_start = scanned = 0;
}

parse_result parse_head(std::string_view bytes, head& out, const head_limits& limits) {
  const char* base = bytes.data();
  const std::size_t head_limit = std::min(limits.head, max_head_capacity);
  const bool head_limit_in_reach = bytes.size() >= head_limit;
  if (head_limit_in_reach) bytes = bytes.substr(0, head_limit);
  for (;;) {
    // The window ends one byte past the line limit: what lies behind it cannot change the verdict.
    const std::size_t line_limit = out.request_line_done ? limits.field : limits.request_line;
    const char* line = base + out.line_start;
    const char* end = base + bytes.size();
    const bool line_limit_in_reach = static_cast<std::size_t>(end - line) > line_limit;
    const char* window = line_limit_in_reach ? line + line_limit + 1 : end;
    const char* p = skip_value_bytes(base + std::max(out.scanned, out.line_start), window);
    out.scanned = static_cast<std::uint32_t>(p - base);
    if (p == window) {
      if (line_limit_in_reach) {
        return out.request_line_done ? fail(431, "header field over the limit")
                                     : fail(414, "request line over the limit");
      }
      if (head_limit_in_reach) return fail(431, "request head over the limit");
      return need_more();
    }
    if (*p == '\n') return bad("line ended by a bare LF");
    if (*p != '\r') return bad("control character in the request head");
    if (p + 1 == end) {
      if (head_limit_in_reach) return fail(431, "request head over the limit");
      return need_more();
    }
    if (p[1] != '\n') return bad("CR that is not followed by LF");

    const std::string_view text(line, static_cast<std::size_t>(p - line));
    const std::uint32_t next = out.scanned + 2;
    parse_result verdict{parse_state::complete};
    if (out.request_line_done) {
      if (text.empty()) {
        out.size = next;
        return finish(base, out);
      }
      verdict = add_field(text, base, out, limits);
    } else if (!(text.empty() && out.line_start == 0)) {
      verdict = parse_request_line(text, base, out, limits);
      out.request_line_done = true;
    }
    if (verdict.state == parse_state::error) return verdict;
    out.line_start = next;
  }
}

const char* parse_field_line(std::string_view line, std::string_view& name,
                             std::string_view& value) {
  if (const char* reason = split_field_line(line, name, value)) return reason;
  if (skip_value_bytes(value.data(), value.data() + value.size()) != value.data() + value.size()) {
    return "control character in a header value";
  }
  return nullptr;
}

bool valid_host(std::string_view host) {
  if (host.empty()) return false;
  std::size_t i = 0;
  if (host.front() == '[') {
    std::size_t close = host.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    for (std::size_t k = 1; k < close; ++k) {
      if (!is_class(host[k], class_hex) && host[k] != ':' && host[k] != '.') return false;
    }
    i = close + 1;
  } else {
    for (; i < host.size() && host[i] != ':'; ++i) {
      if (is_class(host[i], class_host)) continue;
      if (host[i] != '%' || host.size() - i < 3 || !is_class(host[i + 1], class_hex) ||
          !is_class(host[i + 2], class_hex)) {
        return false;
      }
      i += 2;
    }
    if (i == 0) return false;
  }
  if (i == host.size()) return true;
  if (host[i] != ':') return false;
  std::string_view port = host.substr(i + 1);
  if (port.size() > 5) return false;
  unsigned number = 0;
  for (char c : port) {
    if (!is_class(c, class_digit)) return false;
    number = number * 10 + static_cast<unsigned>(c - '0');
  }
  return number <= 65535;
}

}  // namespace weft::http::detail
