"""The word "profiler" may not appear below the layer profiler/: what a lower layer offers to it is a
port or an event, named for what it is and not for who uses it today."""

import pathlib
import re

import common
import layers

WORD = re.compile("profiler(?!ate)", re.IGNORECASE)  # "memprofilerate" is a rate


def check(root):
    order = [name for name, _ in layers.read_layers((pathlib.Path(__file__).parent / "layers.txt").read_text())]
    below = set(order[:order.index("profiler")])
    findings = []
    for name in common.files(root):
        if name.split("/")[0] not in below:
            continue
        for number, line in enumerate(common.read(root, name).splitlines(), 1):
            if WORD.search(line):
                findings.append(f"{name}:{number}: the word 'profiler' below profiler/: {line.strip()}")
    return findings


if __name__ == "__main__":
    common.main("upper_words", check)
