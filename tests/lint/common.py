"""What the lints share: the list of source files, reading them, and reporting.

A lint is a script `NAME.py [ROOT]` with a function `check(root) -> list of findings`, where a finding
starts with `path:line: `. It prints them and exits 1, or prints one line and exits 0. selftest.py
feeds each check a bad tree and expects the finding.
"""

import os
import pathlib
import re
import subprocess
import sys

CXX_SUFFIXES = {".h", ".cc", ".c", ".S", ".def", ".inc"}
OUTSIDE = {"build", ".git", ".cache", "__pycache__"}


def files(root):
    """Every file git tracks or would track, as sorted paths relative to root.

    Without git (a release tarball, a test's temporary tree) everything but build output counts.
    """
    root = pathlib.Path(root)
    if (root / ".git").exists():
        listing = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if listing.returncode == 0:
            names = set(listing.stdout.decode().split("\0")) - {""}
            return sorted(name for name in names if (root / name).is_file())
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in OUTSIDE]
        found += [str((pathlib.Path(folder) / name).relative_to(root)) for name in names]
    return sorted(found)


def cxx_files(root):
    return [name for name in files(root) if pathlib.PurePath(name).suffix in CXX_SUFFIXES]


def read(root, name):
    return (pathlib.Path(root) / name).read_text(encoding="utf-8", errors="replace")


_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^()\s\\]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
    re.DOTALL)


def without_comments_and_strings(text):
    """The code alone; line breaks stay, so that line numbers do."""

    def blank(match):
        # 1'000'000 is a number, not a character: leave a quote that follows a digit where it is.
        if match.group().startswith("'") and match.start() and text[match.start() - 1].isalnum():
            return match.group()
        return "\n" * match.group().count("\n") or " "

    return _TOKEN.sub(blank, text)


def main(name, check):
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    findings = check(root)
    for finding in findings:
        print(finding)
    print(f"{name}: {len(findings)} finding(s)" if findings else f"{name}: clean")
    sys.exit(1 if findings else 0)
