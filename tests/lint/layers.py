"""Checks every #include of a layer against the order in layers.txt.

`"gc/heap.h"` belongs to the layer gc. `<weft/chan.h>` belongs to the layer that has
`include/weft/chan.h`; exactly one must. Other angle includes (std, system, third party) are free.
"""

import pathlib
import re

import common

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
GENERATED = ".pb.h"  # protoc's output lives in the build tree


def read_layers(text):
    """[(name, public_only)], lowest first."""
    layers = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words:
            layers.append((words[0], "public-only" in words[1:]))
    return layers


def check(root):
    layers = read_layers((pathlib.Path(__file__).parent / "layers.txt").read_text())
    rank = {name: index for index, (name, _) in enumerate(layers)}
    public_only = {name for name, flag in layers if flag}
    sources = common.cxx_files(root)
    known = set(sources)

    owners = {}  # "weft/chan.h" -> [layer]
    for name in sources:
        parts = pathlib.PurePath(name).parts
        if parts[0] in rank and parts[1] == "include":
            owners.setdefault("/".join(parts[2:]), []).append(parts[0])
    for layer in owners.values():
        layer.sort(key=rank.get)

    findings = []
    for header, layer in sorted(owners.items()):
        if len(layer) > 1:
            findings.append(f"{layer[1]}/include/{header}:1: <{header}> also exists in {layer[0]}/")

    for name in sources:
        parts = pathlib.PurePath(name).parts
        layer = parts[0]
        if layer not in rank:
            continue
        text = common.read(root, name)
        for match in INCLUDE.finditer(text):
            quoted, target = match.group(1) == '"', match.group(2)
            line = text.count("\n", 0, match.start(1)) + 1
            where = f"{name}:{line}: {match.group().strip()}"
            folder = target.split("/")[0]
            if quoted:
                if target.endswith(GENERATED):
                    continue
                if parts[1] == "include":
                    findings.append(f"{where}: a public header may include only std, third-party and <weft/...> headers")
                elif folder not in rank:
                    findings.append(f'{where}: private headers are included from the root, as "{layer}/..."')
                elif layer in public_only and folder != layer:
                    findings.append(f"{where}: {layer}/ may include public <weft/...> headers only")
                elif rank[folder] > rank[layer]:
                    findings.append(f"{where}: {layer}/ may not include {folder}/, which is above it")
            elif folder == "weft":
                if target not in owners:
                    findings.append(f"{where}: no layer has include/{target}")
                elif layer in public_only and target.startswith("weft/detail/"):
                    findings.append(f"{where}: {layer}/ may not use weft/detail, which is promised to nobody")
                elif rank[owners[target][0]] > rank[layer]:
                    findings.append(f"{where}: {layer}/ may not include a header of {owners[target][0]}/, which is above it")
            elif target in known:  # not by folder: <net/if.h> is the system's
                findings.append(f'{where}: a header of this project, include it as "{target}"')
    return findings


if __name__ == "__main__":
    common.main("layers", check)
