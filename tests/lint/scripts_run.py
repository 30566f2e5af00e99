"""Every file in scripts/ and .ci/ has the run bit, an interpreter line, and a syntax that its
interpreter accepts."""

import os
import pathlib
import subprocess

import common


def check(root):
    root = pathlib.Path(root)
    findings = []
    for name in common.files(root):
        folder = name.split("/")[0]
        if folder not in ("scripts", ".ci") or name.count("/") > 1 or name.endswith(".md"):
            continue
        path = root / name
        if not os.access(path, os.X_OK):
            findings.append(f"{name}:1: not executable: chmod +x {name}")
        first = common.read(root, name).split("\n", 1)[0]
        if not first.startswith("#!"):
            findings.append(f"{name}:1: no #! line")
        elif "bash" in first or first.endswith("/sh"):
            parsed = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
            if parsed.returncode != 0:
                findings.append(f"{name}:1: bash -n: {parsed.stderr.strip()}")
        elif "python3" in first:
            try:
                compile(common.read(root, name), name, "exec")
            except SyntaxError as error:
                findings.append(f"{name}:{error.lineno}: python: {error.msg}")
        else:
            findings.append(f"{name}:1: interpreter is neither bash, sh nor python3: {first}")
    return findings


if __name__ == "__main__":
    common.main("scripts_run", check)
