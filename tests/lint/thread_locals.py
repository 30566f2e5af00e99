"""Thread-locals are dangerous under tasks: after any call that may park, a task may be on another
thread while the compiler still holds the old thread's address in a register. So the keyword may
appear only in the files listed in thread_locals.txt, each with its reason."""

import pathlib
import re

import common

KEYWORD = re.compile(r"\b(thread_local|__thread)\b")
FREE = {"tests", "bench"}  # may, because they test or measure exactly this
LIST = "tests/lint/thread_locals.txt"


def read_allowed(root):
    """{path: (line number, reason)}"""
    path = pathlib.Path(root) / LIST
    allowed = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(" ")
            allowed[name] = (number, reason.strip())
    return allowed


def check(root):
    allowed = read_allowed(root)
    findings, used = [], set()
    for name in common.cxx_files(root):
        if name.split("/")[0] in FREE:
            continue
        code = common.without_comments_and_strings(common.read(root, name))
        for number, line in enumerate(code.splitlines(), 1):
            match = KEYWORD.search(line)
            if match:
                used.add(name)
                if name not in allowed:
                    findings.append(f"{name}:{number}: {match.group()} in a file that {LIST} does not list")
    for name, (number, reason) in allowed.items():
        if name not in used:
            findings.append(f"{LIST}:{number}: {name} has no thread-local: remove the entry")
        elif not reason:
            findings.append(f"{LIST}:{number}: {name} is listed without a reason")
    return findings


if __name__ == "__main__":
    common.main("thread_locals", check)
