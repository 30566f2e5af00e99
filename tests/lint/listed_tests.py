"""Every tests/**/*_test.cc is named in the CMakeLists.txt of its folder or of one above it. A test
that nobody builds looks like coverage and is none."""

import pathlib
import re

import common


def check(root):
    root = pathlib.Path(root)
    findings = []
    for name in common.files(root):
        path = pathlib.PurePath(name)
        if path.parts[0] != "tests" or not path.name.endswith("_test.cc"):
            continue
        for folder in path.parents:
            lists = root / folder / "CMakeLists.txt"
            if not lists.is_file():
                continue
            text = re.sub(r"#.*", "", lists.read_text())
            if re.search(r"(?<![\w./-])" + re.escape(str(path.relative_to(folder))) + r"(?![\w.])", text):
                break
        else:
            findings.append(f"{name}:1: no CMakeLists.txt names this test, so it is never built")
    return findings


if __name__ == "__main__":
    common.main("listed_tests", check)
