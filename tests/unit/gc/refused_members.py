"""Types that the collector cannot trace do not compile, and the compiler's message names the member and
what to use instead; neither do references in places that it does not look at. Each case is a program of its own; arguments: the compiler and its flags."""

import concurrent.futures
import os
import subprocess
import sys
import unittest

COMPILER = sys.argv[1:]

PRELUDE = """
#include <weft/gc/fields.h>
#include <weft/gc/ref.h>
#include <any>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <variant>
#include <vector>
using weft::gc::ref;
struct leaf { ref<leaf> next; };
"""

# Definition of `subject`, and what the message must say: where, and what to do.
REFUSED = {
    "raw pointer": ("struct subject { int n; leaf* p; };", ["element<subject, 1", "leaf*", "ref<T>", "untraced<T*>"]),
    "raw pointer in a listed field": (
        "class subject { WEFT_GC_FIELDS(first_, second_) ref<leaf> first_; leaf* second_; };",
        ['"second_"', "leaf*", "ref<T>"]),
    "raw pointer, nested": ("struct inner { leaf* p; }; struct subject { int n; std::array<inner, 2> inners; };",
                            ["element<inner, 0", "leaf*"]),
    "reference": ("class subject { WEFT_GC_FIELDS(r_) leaf& r_; subject(); };", ['"r_"', "reference member", "ref<T>"]),
    "std::function": ("struct subject { std::function<void()> f; };", ["element<subject, 0", "func<...>"]),
    "std::any": ("struct subject { int n; std::any a; };", ["element<subject, 1", "std::any", "ref<T>"]),
    "std::variant": ("struct subject { std::variant<int, ref<leaf>> v; };", ["element<subject, 0", "weft::gc::variant<...>"]),
    "std::string_view": ("struct subject { std::string_view s; };", ["element<subject, 0", "weft::gc::string"]),
    "std::span": ("struct subject { std::span<int> s; };", ["element<subject, 0", "weft::gc::vector"]),
    "std::vector": ("struct subject { std::vector<ref<leaf>> v; };", ["element<subject, 0", "weft::gc::vector"]),
    "std::vector of structs": ("struct subject { std::vector<leaf> v; };", ["element<subject, 0", "weft::gc::vector"]),
    "std::map": ("struct subject { std::map<int, ref<leaf>> m; };", ["element<subject, 0", "weft::gc::map"]),
    "std::unique_ptr": ("struct subject { std::unique_ptr<leaf> p; };", ["element<subject, 0", "smart pointer", "root<T>"]),
    "std::shared_ptr": ("struct subject { std::shared_ptr<leaf> p; };", ["element<subject, 0", "smart pointer"]),
    "std::atomic": ("struct subject { std::atomic<leaf*> p; };", ["element<subject, 0", "atomic_ref<T>"]),
    "std::atomic after a number": ("struct subject { int n; std::atomic<leaf*> p; };", ["element<subject, 1", "atomic_ref<T>"]),
    "union": ("union u { int i; long l; }; struct subject { u v; };", ["element<subject, 0", "weft::gc::variant<...>", "opaque<T>"]),
    "C array": ("struct subject { int n[3]; ref<leaf> r; };", ["subject", "C array", "std::array<T, N>"]),
    "C array of references": ("struct subject { ref<leaf> r[3]; };", ["subject", "C array", "WEFT_GC_FIELDS"]),
    "base": ("struct subject : leaf { ref<leaf> r; };", ["subject", "base class", "WEFT_GC_BASES"]),
    "inherited list": (
        "class parent { WEFT_GC_FIELDS(r_) ref<leaf> r_; }; class subject : public parent { ref<leaf> mine_; };",
        ["subject", "WEFT_GC_BASES(base)"]),
    "class": ("class subject { ref<leaf> r_; public: subject(); };", ["subject", "WEFT_GC_FIELDS(...)", "trace()"]),
    "class as a member": ("class c { int i_; public: c(int); }; struct subject { int n; c m; };",
                          ["element<subject, 1", "opaque<T>"]),
    "pair": ("struct subject { std::pair<int, leaf*> p; };", ["leaf*", "ref<T>"]),
    "optional": ("struct subject { std::optional<leaf*> p; };", ["element<subject, 0", "ref<T>"]),
}

# The same compiler and flags take these, so the cases above fail for the right reason.
ACCEPTED = {
    "aggregate": "struct subject { int n; leaf l; std::string s; std::optional<ref<leaf>> o; std::vector<int> v; };",
    "listed": "class subject { WEFT_GC_FIELDS(a_, b_) ref<leaf> a_; ref<leaf> b_[3]; int bits_ : 3; public: subject(); };",
    "bases": "struct subject : leaf { WEFT_GC_BASES(leaf) WEFT_GC_FIELDS(r) ref<leaf> r; };",
    "trace": "struct subject { subject(); ref<leaf> a; template <class V> void trace(V& v) { v(a); } };",
    "opaque": "class subject { int i_; public: subject(int); };\n"
              "template <> inline constexpr bool weft::gc::opaque<subject> = true;",
    "untraced": "struct subject { weft::gc::untraced<leaf*> p; weft::gc::untraced<std::string_view> s; };",
}


# References where the collector does not look: a statement, and what the message must say.
MISPLACED_PRELUDE = PRELUDE + """
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/task.h>
#include <weft/task_local.h>
#include <deque>
#include <list>
struct request { int n; ref<leaf> l; };
class listed { WEFT_GC_FIELDS(r_) ref<leaf> r_; };
"""
MISPLACED = {
    "chan of a std::map": ("weft::chan<std::map<int, ref<leaf>>> c(1);", ["weft::chan<T>", "weft::gc::map"]),
    "chan of a vector of structs": ("weft::chan<std::vector<request>> c(1);", ["weft::chan<T>", "weft::gc::vector"]),
    "result of a vector of structs": (
        "weft::spawn([] { return std::vector<request>(); }).join();", ["spawn()", "weft::gc::vector"]),
    "chan of an owner": ("weft::chan<std::unique_ptr<leaf>> c(1);", ["weft::chan<T>", "weft::gc::ref<T>"]),
    "task-local reference": ("weft::task_local<ref<leaf>> t;", ["weft::task_local<T>", "weft::gc::root"]),
    "task-local struct": ("weft::task_local<request> t;", ["weft::task_local<T>", "weft::gc::root"]),
    "task-local listed class": ("weft::task_local<std::optional<listed>> t;", ["weft::task_local<T>", "weft::gc::root"]),
    "context value": ("weft::context_key<ref<leaf>> k; auto c = weft::with_value(weft::background(), k, ref<leaf>());",
                      ["weft::with_value", "weft::gc::root"]),
    "context value, nested": (
        "weft::context_key<std::variant<int, request>> k; auto c = weft::with_value(weft::background(), k, 1);",
        ["weft::with_value", "weft::gc::root"]),
}
PLACED = {
    "chan": "weft::chan<ref<leaf>> a(1); weft::chan<request> b(1); weft::chan<listed> c(1); weft::chan<leaf*> d(1); "
            "static_assert(weft::gc::buffered_refs<request> && weft::gc::buffered_refs<listed> && "
            "!weft::gc::buffered_refs<leaf*> && !weft::gc::buffered_refs<std::vector<int>>);",
    "vector of references": "std::vector<ref<leaf>> v(3); v.push_back(nullptr); std::deque<ref<leaf>> d(v.begin(), v.end()); "
                            "weft::chan<std::vector<ref<leaf>>> c(1);",
    "ordinary values": "weft::task_local<std::map<int, std::string>> t; weft::task_local<std::function<void()>> f; "
                       "weft::context_key<std::unique_ptr<int>> k; "
                       "auto c = weft::with_value(weft::background(), k, nullptr);",
    "roots": "struct r { weft::gc::root<leaf> l; }; weft::task_local<r> t;",
}


def compile_it(definition):
    source = f"{PRELUDE}\n{definition}\nint main() {{ weft::gc::detail::require_storable<subject>(); }}\n"
    return compile_source(source)


def compile_statement(statement):
    return compile_source(f"{MISPLACED_PRELUDE}\n#include <weft/gc/root.h>\nvoid f() {{ {statement} }}\n")


def compile_source(source):
    done = subprocess.run([*COMPILER, "-fsyntax-only", "-x", "c++", "-"], input=source, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    return done.returncode, done.stdout.replace(" *", "*").replace(" &", "&")


class RefusedMembers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        definitions = [text for text, _ in REFUSED.values()] + list(ACCEPTED.values())
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            cls.outcome = dict(zip(definitions, pool.map(compile_it, definitions)))
            statements = [text for text, _ in MISPLACED.values()] + list(PLACED.values())
            cls.outcome.update(zip(statements, pool.map(compile_statement, statements)))

    def test_refused(self):
        for name, (definition, says) in REFUSED.items():
            with self.subTest(name):
                status, text = self.outcome[definition]
                self.assertNotEqual(status, 0, "it compiles")
                for part in ("weft::gc: ", *says):
                    # clang 14 prints the name of a listed field as a list of character codes.
                    if not (part.startswith('"') and "clang" in COMPILER[0]):
                        self.assertIn(part, text)

    def test_misplaced(self):
        for name, (statement, says) in MISPLACED.items():
            with self.subTest(name):
                status, text = self.outcome[statement]
                self.assertNotEqual(status, 0, "it compiles")
                for part in says:
                    self.assertIn(part, text)

    def test_placed(self):
        for name, statement in PLACED.items():
            with self.subTest(name):
                status, text = self.outcome[statement]
                self.assertEqual(status, 0, text)

    def test_accepted(self):
        for name, definition in ACCEPTED.items():
            with self.subTest(name):
                status, text = self.outcome[definition]
                self.assertEqual(status, 0, text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
