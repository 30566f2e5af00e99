"""The peers beside Go in the rows of the scheduler and the collected heap: what each needs, how it is built, how it is started.

All are optional. What is not installed is left out with a word about it; what is installed and does
not build stays in the table, so that its rows say so.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import tools
from tools import _attempt as attempt

CRATES = "/usr/share/cargo/registry"


@dataclass(frozen=True)
class Peer:
    title: str
    program: str
    installed: Callable[[], bool]
    build: Callable[[str], bool]  # takes the path of the program to make


def _source(name):
    return os.path.join(tools.ROOT, "bench", "peers", name)


def _cmake_peer(title, target):
    """A peer in C++: CMake makes its target only if it finds the library."""
    def installed():  # the project is configured by now
        listing = subprocess.run(["cmake", "--build", tools.BUILD, "--target", "help"],
                                 capture_output=True, text=True, check=False)
        return f"{target}:" in listing.stdout

    return Peer(title, target, installed,
                lambda _out: attempt(["cmake", "--build", tools.BUILD, "--target", target]))


def _debian_tool(name):
    """Debian's own rather than one from PATH: the crates fit the compiler of the same release."""
    path = os.path.join("/usr/bin", name)
    return path if os.access(path, os.X_OK) else None


def _has_tokio():
    crates = os.listdir(CRATES) if os.path.isdir(CRATES) else []
    return (_debian_tool("cargo") is not None and _debian_tool("rustc") is not None
            and all(any(c.startswith(need) for c in crates) for need in ("tokio-1", "async-channel-")))


def _build_tokio(out):
    """As Debian's own packages are built: offline, every crate from a package."""
    directory = os.path.join(tools.BUILD, "tokio")
    home = os.path.join(directory, "home")
    # A copy, because cargo writes Cargo.lock next to Cargo.toml.
    shutil.copytree(_source("tokio"), directory, dirs_exist_ok=True)
    os.makedirs(home, exist_ok=True)
    with open(os.path.join(home, "config.toml"), "w", encoding="utf-8") as config:
        config.write(f'[source.crates-io]\nreplace-with = "debian"\n'
                     f'[source.debian]\ndirectory = "{CRATES}"\n')
    environment = dict(os.environ, CARGO_HOME=home, RUSTC=_debian_tool("rustc"))
    environment.pop("RUSTFLAGS", None)
    environment.pop("CARGO_TARGET_DIR", None)
    if not attempt([_debian_tool("cargo"), "build", "--release", "--offline", "--quiet"],
                         env=environment, cwd=directory):
        return False
    shutil.copy2(os.path.join(directory, "target", "release", "bench_tokio"), out)
    return True


def _build_crystal(out):
    source = _source("crystal")
    newest = max(os.path.getmtime(os.path.join(source, name)) for name in os.listdir(source))
    if os.path.exists(out) and os.path.getmtime(out) > newest:
        return True  # its compiler starts from scratch each time, about 20 s
    environment = dict(os.environ, CRYSTAL_CACHE_DIR=os.path.join(tools.BUILD, "crystal"))
    return attempt(["crystal", "build", "--release", "-o", out, "main.cr"],
                         env=environment, cwd=source)


PEERS = {
    "boost": _cmake_peer("Boost.Fiber", "bench_boost"),
    "tokio": Peer("tokio", "bench_tokio", _has_tokio, _build_tokio),
    "crystal": Peer("Crystal", "bench_crystal", lambda: shutil.which("crystal") is not None,
                    _build_crystal),
    "boehm": _cmake_peer("Boehm's collector", "bench_boehm"),
    "malloc": _cmake_peer("malloc", "bench_malloc"),
    "mimalloc": _cmake_peer("mimalloc", "bench_mimalloc"),
}

# What --peers chooses from; raw and nginx are sides of the net rows.
SIDES = ("go", *PEERS, "raw", "nginx")


def prepare(wanted, bin_directory, build):
    """Builds the wanted peers that are installed; returns the names of those that take part."""
    taking_part = []
    for name, peer in PEERS.items():
        out = os.path.join(bin_directory, peer.program)
        if name not in wanted:
            continue
        if build:
            there = peer.installed()
            if there:
                print(f"building {peer.program}", flush=True)
            # A binary of an older source must not be measured in its place.
            if (not there or not peer.build(out)) and os.path.exists(out):
                os.remove(out)
        else:
            there = os.access(out, os.X_OK)
        if there:
            taking_part.append(name)
        else:
            print(f"{peer.title} is not installed: no figures of {name}"
                  + (" (scripts/setup --bench installs it)" if build else f" ({out})"))
    return tuple(taking_part)
