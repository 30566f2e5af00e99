"""Feeds each lint a tree that is bad in known places and expects exactly those findings; a lint that
has silently stopped looking fails here. Usage: selftest.py LINT"""

import importlib
import pathlib
import stat
import sys
import tempfile

# lint -> (files of a bad tree, findings expected as "path:line: part of the message")
CASES = {
    "layers": ({
        "base/include/weft/result.h": "#pragma once\n#include <system_error>\n",
        "scheduler/include/weft/task.h": '#pragma once\n#include <weft/result.h>\n#include "base/check.h"\n',
        "scheduler/worker.cc": '#include "scheduler/worker.h"\n#include "base/check.h"\n// fine so far\n  #  include "runtime/chan.h"\n',
        "scheduler/idle.cc": "#include <weft/chan.h>\n#include <weft/nowhere.h>\n",
        "gc/heap.cc": '#include "heap.h"\n#include <gc/span.h>\n#include "profile.pb.h"\n#include <net/if.h>\n',
        "gc/span.h": "#pragma once\n",
        "runtime/include/weft/chan.h": "#pragma once\n#include <weft/task.h>\n",
        "runtime/include/weft/detail/slot.h": "#pragma once\n",
        "net/include/weft/chan.h": "#pragma once\n",
        "examples/hello/main.cc": '#include <weft/chan.h>\n#include "examples/hello/page.h"\n#include "base/check.h"\n#include <weft/detail/slot.h>\n',
        "tests/unit/free_test.cc": '#include "runtime/chan.h"\n',
    }, [
        "net/include/weft/chan.h:1: <weft/chan.h> also exists in runtime/",
        "scheduler/include/weft/task.h:3: a public header may include only",
        "scheduler/worker.cc:4: scheduler/ may not include runtime/",
        "scheduler/idle.cc:1: scheduler/ may not include a header of",
        "scheduler/idle.cc:2: no layer has include/weft/nowhere.h",
        'gc/heap.cc:1: private headers are included from the root, as "gc/..."',
        "gc/heap.cc:2: a header of this project",
        "examples/hello/main.cc:3: examples/ may include public <weft/...> headers only",
        "examples/hello/main.cc:4: examples/ may not use weft/detail",
    ]),
    "upper_words": ({
        "runtime/chan.cc": "// fine\n// told to the Profiler\n",
        "base/CMakeLists.txt": "# for the profiler\n",
        "profiler/cpu.cc": "// the profiler itself\n",
        "net/http.cc": "// above the profiler\n",
    }, ["runtime/chan.cc:2: the word 'profiler'", "base/CMakeLists.txt:1: the word 'profiler'"]),
    "forbidden_words": ({
        "base/a.cc": "int a;\nint b;  // TO" "DO: finish\n",
        "scripts/run": "# FIX" "ME\n",
        "docs/a.md": "see XX" "X\n",
        "base/fine.cc": 'auto name = "weft.XXXXXX";  // hackers and todos\n',
    }, ["base/a.cc:2: TO" "DO", "scripts/run:1: FIX" "ME", "docs/a.md:1: XX" "X"]),
    "thread_locals": ({
        "scheduler/current.cc": "thread_local int listed;\n",
        "net/buffer.cc": "// thread_local in a comment is fine\nconst char* s = \"thread_local\";\nint million = 1'000'000;\nstatic thread_local int b;\nchar c = 'x';\n",
        "net/raw.cc": "/* two\nlines */ __thread int c;\n",
        "tests/unit/a_test.cc": "thread_local int tests_may;\n",
        "gc/none.cc": "int none;\n",
        "gc/silent.cc": "thread_local int silent;\n",
        "tests/lint/thread_locals.txt": "# list\nscheduler/current.cc  noinline accessor\ngc/none.cc  was needed once\ngc/silent.cc\n",
    }, ["net/buffer.cc:4: thread_local in a file", "net/raw.cc:2: __thread in a file",
        "tests/lint/thread_locals.txt:3: gc/none.cc has no thread-local",
        "tests/lint/thread_locals.txt:4: gc/silent.cc is listed without a reason"]),
    "listed_tests": ({
        "tests/CMakeLists.txt": "weft_test(unit/base/clock_test.cc)\n",
        "tests/unit/gc/CMakeLists.txt": "weft_test(heap_test.cc)\n# weft_test(span_test.cc)\nweft_test(far_mark_test.cc)\n",
        "tests/unit/base/clock_test.cc": "", "tests/unit/gc/heap_test.cc": "",
        "tests/unit/gc/far_mark_test.cc": "",
        "tests/unit/gc/span_test.cc": "", "tests/unit/gc/mark_test.cc": "", "tests/unit/base/lost_test.cc": "",
    }, ["tests/unit/gc/span_test.cc:1: no CMakeLists.txt", "tests/unit/gc/mark_test.cc:1: no CMakeLists.txt",
        "tests/unit/base/lost_test.cc:1: no CMakeLists.txt"]),
    "scripts_run": ({
        "scripts/good": "#!/usr/bin/env bash\ntrue\n",
        "scripts/broken": "#!/usr/bin/env bash\nif true; then\n",
        "scripts/not-executable": "#!/usr/bin/env bash\n",
        "scripts/plain": "true\n",
        "scripts/tool": "#!/usr/bin/env python3\nx = 1\ndef f(:\n",
        "scripts/other": "#!/usr/bin/perl\n",
        ".ci/run": "#!/usr/bin/env bash\nfi\n",
    }, ["scripts/broken:1: bash -n", "scripts/not-executable:1: not executable", "scripts/plain:1: no #! line",
        "scripts/tool:3: python", "scripts/other:1: interpreter", ".ci/run:1: bash -n"]),
    "format": ({
        ".clang-format": "BasedOnStyle: Google\n",
        "base/good.cc": "int f(int* p) { return *p; }\n",
        "base/bad.cc": "int a;\nint f( int *p ){return *p;}\n",
    }, ["base/bad.cc:2: code should be clang-formatted"]),
    "docs": ({
        "README.md": "# x\n`<weft/chan.h>`, `<weft/gone.h>`\n[a](docs/a.md) [b](docs/none.md) [c](https://example.org/x)\n",
        "docs/a.md": "[up](../README.md#x)\n[lost](lost.md)\n",
        "docs/decisions/README.md": "[1](001-one.md)\n",
        "docs/decisions/001-one.md": "", "docs/decisions/002-two.md": "",
        "runtime/include/weft/chan.h": "", "runtime/include/weft/detail/slot.h": "", "net/include/weft/net/tcp.h": "",
    }, ["README.md:2: <weft/gone.h> does not exist", "net/include/weft/net/tcp.h:1: not in the header guide",
        "README.md:3: link to docs/none.md", "docs/a.md:2: link to lost.md",
        "docs/decisions/002-two.md:1: not in the index"]),
    "public_headers": ({
        "base/include/weft/good.h": "#pragma once\n#include <string>\ninline std::string f() { return {}; }\n",
        "base/include/weft/lacks.h": "#pragma once\ninline std::string g() { return {}; }\n",
        "base/include/weft/unguarded.h": "struct unguarded {};\n",
        "net/include/weft/net/warns.h": "#pragma once\ninline int h(char* p) { return (int)*p; }\n",
        "net/private.h": "not C++ at all\n",
    }, ["base/include/weft/unguarded.h:1: no #pragma once",
        "base/include/weft/unguarded.h:1: does not compile alone with g++",
        "base/include/weft/unguarded.h:1: does not compile alone with clang++-14",
        "base/include/weft/lacks.h:1: does not compile alone with g++",
        "base/include/weft/lacks.h:1: does not compile alone with clang++-14",
        "net/include/weft/net/warns.h:1: does not compile alone with g++",
        "net/include/weft/net/warns.h:1: does not compile alone with clang++-14"]),
}


def matches(expected, finding):
    place, message = expected.split(": ", 1)
    return finding.startswith(place + ":") and message in finding


def main(lint):
    tree, expected = CASES[lint]
    with tempfile.TemporaryDirectory() as root:
        for name, text in tree.items():
            path = pathlib.Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if name.startswith(("scripts/", ".ci/")) and "not-executable" not in name:
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
        findings = importlib.import_module(lint).check(root)
    missed = [want for want in expected if not any(matches(want, got) for got in findings)]
    extra = [got for got in findings if not any(matches(want, got) for want in expected)]
    for want in missed:
        print(f"{lint}: did not report: {want}")
    for got in extra:
        print(f"{lint}: reported, though nothing is wrong there: {got}")
    print(f"{lint}: {len(expected)} planted faults, {len(missed)} missed, {len(extra)} false")
    return 1 if missed or extra else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(sys.argv[1]))
