"""Sources are as clang-format 14 with the repository's .clang-format writes them.

Repair with: git ls-files -co --exclude-standard '*.h' '*.cc' | xargs clang-format-14 -i
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess

import common

TOOL = "clang-format-14"  # the exact version: others break lines differently
FORMATTED = {".h", ".cc"}
FINDING = re.compile(r"^(.*?:\d+):\d+: error: (.*?)(?: \[-Wclang-format-violations\])?$", re.MULTILINE)


def check(root):
    if not shutil.which(TOOL):
        return [f"{TOOL}:0: not installed: run scripts/setup"]
    names = [name for name in common.files(root) if pathlib.PurePath(name).suffix in FORMATTED]
    groups = [names[i:i + 16] for i in range(0, len(names), 16)]

    def run(group):
        done = subprocess.run([TOOL, "--dry-run", "-Werror", "--style=file", *group], cwd=root,
                              stderr=subprocess.PIPE, text=True)
        found = {f"{match.group(1)}: {match.group(2)}" for match in FINDING.finditer(done.stderr)}
        if done.returncode != 0 and not found:
            found = {f"{group[0]}:0: {TOOL} failed: {done.stderr.strip()}"}
        return found

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return sorted(set().union(*pool.map(run, groups)))


if __name__ == "__main__":
    common.main("format", check)
