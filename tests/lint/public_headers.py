"""Every public header compiles alone, twice in a row, without warnings, with gcc and with clang.

Headers are found on the file system, so a new one cannot be forgotten. A header that passed is not
compiled again until it, or anything it includes, changes: the cache (folder named by
WEFT_LINT_CACHE) keeps size and time of every file the compiler read.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import common
import layers

COMPILERS = ["g++", "clang++-14"]
FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wold-style-cast",
         "-Wnon-virtual-dtor", "-Wcast-qual", "-Wundef", "-Werror"]


def public_headers(root):
    """[(path, name in an #include)] and the include folders, lowest layer first."""
    order = [name for name, _ in layers.read_layers((pathlib.Path(__file__).parent / "layers.txt").read_text())]
    headers, folders = [], []
    for layer in order:
        prefix = f"{layer}/include/"
        inside = [name for name in common.files(root) if name.startswith(prefix) and name.endswith(".h")]
        headers += [(name, name[len(prefix):]) for name in inside]
        if inside:
            folders.append(str(pathlib.Path(root).resolve() / layer / "include"))
    return headers, folders


def stamp(path):
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def unchanged(record):
    try:
        return all(stamp(path) == seen for path, seen in json.loads(record.read_text()).items())
    except (OSError, ValueError):
        return False


def compile_alone(compiler, name, include, folders, cache):
    command = [compiler, *FLAGS, *(f"-I{folder}" for folder in folders)]
    key = hashlib.sha256("\0".join([*command, include]).encode()).hexdigest()[:24]
    record = cache / f"{key}.json" if cache else None
    if record and unchanged(record):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        depfile = pathlib.Path(scratch) / "deps"
        source = f"#include <{include}>\n#include <{include}>\nint weft_header_alone;\n"
        done = subprocess.run([*command, "-MD", "-MF", depfile, "-MT", "x", "-x", "c++", "-"], input=source,
                              stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        if done.returncode != 0:
            errors = re.findall(r"^.*error.*$", done.stderr, re.MULTILINE) or [done.stderr.strip()]
            return f"{name}:1: does not compile alone with {compiler}: {errors[0]}"
        if record:
            # -fsyntax-only of gcc writes the depfile too; escaped spaces do not occur in our paths.
            deps = depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split()
            record.write_text(json.dumps({path: stamp(path) for path in deps if path != "-"}))
    return None


def check(root):
    headers, folders = public_headers(root)
    findings = [f"{name}:1: no #pragma once" for name, _ in headers if "#pragma once" not in common.read(root, name)]
    findings += [f"{compiler}:0: not installed: run scripts/setup" for compiler in COMPILERS
                 if not shutil.which(compiler)]
    cache = pathlib.Path(os.environ["WEFT_LINT_CACHE"]) if "WEFT_LINT_CACHE" in os.environ else None
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    jobs = [(compiler, name, include) for compiler in COMPILERS if shutil.which(compiler)
            for name, include in headers]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda job: compile_alone(job[0], job[1], job[2], folders, cache), jobs)
        return findings + [result for result in results if result]


if __name__ == "__main__":
    common.main("public_headers", check)
