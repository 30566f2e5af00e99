"""Documents that name files stay true: README.md's header guide lists exactly the public headers,
docs/decisions/README.md links every decision, and relative links lead somewhere."""

import os
import pathlib
import posixpath
import re

import common
import layers

HEADER = re.compile(r"<(weft/[\w/.]+\.h)>")
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def lines_with(pattern, text):
    for number, line in enumerate(text.splitlines(), 1):
        for match in pattern.finditer(line):
            yield number, match.group(1)


def check(root):
    order = [name for name, _ in layers.read_layers((pathlib.Path(__file__).parent / "layers.txt").read_text())]
    names = common.files(root)
    public = {}
    for name in names:
        layer, _, rest = name.partition("/include/")
        if layer in order and rest.endswith(".h") and "/detail/" not in rest:
            public[rest] = name

    findings = []
    mentioned = dict(reversed([(header, number) for number, header in lines_with(HEADER, common.read(root, "README.md"))]))
    for header, number in mentioned.items():
        if header not in public and "/detail/" not in header:
            findings.append(f"README.md:{number}: <{header}> does not exist")
    for header, name in public.items():
        if header not in mentioned:
            findings.append(f"{name}:1: not in the header guide of README.md")

    for name in names:
        if not name.endswith(".md"):
            continue
        for number, target in lines_with(LINK, common.read(root, name)):
            if "://" not in target and not target.startswith("mailto:"):
                path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
                if not os.path.exists(pathlib.Path(root) / path):
                    findings.append(f"{name}:{number}: link to {target}, which does not exist")

    index = "docs/decisions/README.md"
    linked = {target for _, target in lines_with(LINK, common.read(root, index))} if index in names else set()
    for name in names:
        if re.fullmatch(r"docs/decisions/\d{3}-.*\.md", name) and posixpath.basename(name) not in linked:
            findings.append(f"{name}:1: not in the index {index}")
    return findings


if __name__ == "__main__":
    common.main("docs", check)
