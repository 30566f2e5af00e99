"""Runs rows. Every row is run A B A B …: first each side once, then again, `pairs` times, so that a
slow minute of the machine meets all sides alike; ratios are taken within a round."""

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field, replace

import peers
from proc import NotExpressed, RunFailed, run, server


@dataclass
class Result:
    row: object
    sides: tuple
    runs: dict = field(default_factory=dict)  # side -> figures of each round, None where it failed
    failures: dict = field(default_factory=dict)  # side -> why, of the last failed run
    lacks: dict = field(default_factory=dict)  # side -> what it has not, so that it cannot run the row
    notes: list = field(default_factory=list)


@dataclass
class Setup:
    bin: str
    pairs: int
    quick: bool
    go: bool
    server_core: int | None = None
    load_core: int | None = None
    measure_ms: int = 2000
    nginx: tuple | None = None  # (command, port)
    raw: bool = True
    peers: tuple = ()  # names in peers.PEERS that take part in the scheduler rows
    obs_runs: dict = field(default_factory=dict)  # by ObsRow.args


def _rounds(row, sides, pairs, one_run, progress):
    result = Result(row, sides, {side: [] for side in sides})
    for round_number in range(pairs):
        for side in sides:
            # Two failures mean that the side cannot do it; do not spend the timeout again.
            if side in result.lacks or result.runs[side][-2:] == [None, None]:
                result.runs[side].append(None)
                continue
            progress(f"{row.label}: round {round_number + 1}/{pairs} {side}")
            try:
                result.runs[side].append(one_run(side))
            except NotExpressed as lack:
                result.runs[side].append(None)
                result.lacks[side] = str(lack)
            except RunFailed as failed:
                result.runs[side].append(None)
                result.failures[side] = str(failed)
    return result


def memory_available():
    with open("/proc/meminfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def sched(row, setup, progress):
    n = row.quick_n if setup.quick and row.quick_n else row.n

    programs = {"weft": "weft_bench", "go": "gobench",
                **{name: peers.PEERS[name].program for name in setup.peers}, "self": "weft_bench"}

    def one_run(side):
        program = os.path.join(setup.bin, programs[side])
        count = row.peer_n if row.peer_n and side in setup.peers else n
        workers = row.workers
        if side == "self":
            count, workers = row.self_n or n, row.self_workers or workers
        figures = run([program, row.row, f"--workers={workers}", f"--n={count}",
                       f"--stack={row.stack}"], row.timeout)
        if row.figure not in figures:
            raise RunFailed(f"printed no {row.figure}")
        return figures

    sides = tuple(side for side in programs if side in row.sides and (side != "go" or setup.go))
    if row.memory > (available := memory_available()):
        return Result(row, sides, {side: [] for side in sides}, notes=[
            f"left out: needs {row.memory / 1e9:.1f} GB, {available / 1e9:.1f} GB are available"])
    return _rounds(row, sides, setup.pairs, one_run, progress)


def _serve(side, row, setup):
    if side == "nginx":
        command, port = setup.nginx
        return server(command, setup.server_core, port)
    program = {"weft": "weft_bench_net", "go": "gobench", "raw": "bench_raw"}[side]
    return server([os.path.join(setup.bin, program), row.server, "--workers=1"], setup.server_core)


def _load(row, setup, pid, port, *more):
    mode = "http" if row.server == "http_server" else "echo"
    return run([os.path.join(setup.bin, "bench_load"), mode, f"--port={port}",
                f"--server-pid={pid}", *row.load, *more], row.timeout, setup.load_core)


def _net_sides(row, setup):
    there = {"weft": True, "raw": setup.raw, "go": setup.go, "nginx": setup.nginx is not None}
    return tuple(side for side in row.sides if there[side])


def net(row, setup, progress):
    def one_run(side):
        with _serve(side, row, setup) as (pid, port):
            figures = _load(row, setup, pid, port, "--warmup-ms=400", f"--ms={setup.measure_ms}")
        if figures["errors"] != 0:
            kinds = ("connect", "closed", "status", "mismatch", "timeout")
            raise RunFailed("load errors: " + ", ".join(
                f"{figures[kind]:.0f} {kind}" for kind in kinds if figures[kind]))
        if row.figure not in figures:
            raise RunFailed(f"printed no {row.figure}")
        return figures

    result = _rounds(row, _net_sides(row, setup), setup.pairs, one_run, progress)
    sizes = {side: int(good[-1]["response_bytes"]) for side, runs in result.runs.items()
             if (good := [r for r in runs if r])}
    if len(set(sizes.values())) > 1:
        result.notes.append("answers differ in size: " + ", ".join(
            f"{side} {size} B" for side, size in sizes.items()))
    return result


def obs(row, setup, progress):
    programs = {"weft": "weft_bench_obs", "go": "gobench"}
    sides = tuple(side for side in row.sides if side != "go" or setup.go)
    if row.memory > (available := memory_available()):
        return Result(row, sides, {side: [] for side in sides}, notes=[
            f"left out: needs {row.memory / 1e9:.1f} GB, {available / 1e9:.1f} GB are available"])
    if row.args in setup.obs_runs:
        return replace(setup.obs_runs[row.args], row=row)

    def one_run(side):
        command = [os.path.join(setup.bin, programs[side]), *row.args]
        if not row.load:
            figures = run(command, row.timeout)
        else:
            figures = {}
            with server(command, setup.server_core, last_figures=figures) as (pid, port):
                load = run([os.path.join(setup.bin, "bench_load"), "http", f"--port={port}",
                            f"--server-pid={pid}", *row.load, "--warmup-ms=400",
                            f"--ms={4 * setup.measure_ms}"], row.timeout, setup.load_core)
            if load["errors"] != 0:
                raise RunFailed(f"{load['errors']:.0f} load errors")
        if row.figure not in figures:
            raise RunFailed(f"printed no {row.figure}")
        if figures[row.figure] == "":
            raise RunFailed("no whole group of windows under load")
        return figures

    setup.obs_runs[row.args] = _rounds(row, sides, setup.pairs, one_run, progress)
    return setup.obs_runs[row.args]


def freeze(row, setup, progress):
    """Latency of an HTTP server beside tasks that hold all its processors, minus that without."""
    programs = {"weft": "weft_bench_net", "go": "gobench", "boost_fiber": "bench_boost_fiber"}
    sides = tuple(side for side in row.sides
                  if os.access(os.path.join(setup.bin, programs[side]), os.X_OK)
                  and (side != "go" or setup.go))
    frozen = set()

    def load(port, *more):
        # The path and the stall limit decide what counts as frozen: no answer for 5 s.
        return run([os.path.join(setup.bin, "bench_load"), "http", f"--port={port}",
                    "--connections=4", "--stall-ms=5000", *more], row.timeout)

    def one_run(side):
        if side in frozen:
            return None
        p99 = []
        for hogs in (0, 1):
            with server([os.path.join(setup.bin, programs[side]), "freeze_server",
                         f"--workers={row.workers}", f"--hogs={hogs}"], None) as (_, port):
                figures = load(port, "--warmup-ms=400", f"--ms={setup.measure_ms}")
            if figures["errors"] != 0:
                if hogs and figures["timeout"] != 0:
                    frozen.add(side)
                    return None
                raise RunFailed(f"{figures['errors']:.0f} load errors")
            p99.append(figures["p99_us"] / 1e3)
        return {row.figure: p99[1] - p99[0], "p99_ms": p99[1], "quiet_p99_ms": p99[0]}

    result = _rounds(row, sides, setup.pairs, one_run, progress)
    for side in sorted(frozen):
        result.notes.append(f"{side} is frozen: no answer for 5 s once its workers are held")
    return result


def syscalls(row, setup, progress, requests=20_000):
    """System calls of the server per request, counted by strace (the times mean nothing then).

    Opening the connections is counted too: about 1 % at 64 connections.
    """
    strace = shutil.which("strace")

    def one_run(side):
        if strace is None:
            raise RunFailed("strace is not installed")
        report = os.path.join(setup.bin, f"strace-{side}.txt")
        with _serve(side, row, setup) as (pid, port):
            with subprocess.Popen([strace, "-c", "-f", "-q", "-o", report, "-p", str(pid)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tracer:
                try:
                    _wait_traced(pid)
                    _load(row, setup, pid, port, "--warmup-ms=0", f"--requests={requests}",
                          "--stall-ms=20000")
                finally:
                    tracer.send_signal(signal.SIGINT)
                    tracer.wait(timeout=10)
        with open(report, encoding="utf-8") as text:
            total = re.search(r"^\s*100\.00\s+\S+\s+\S+\s+(\d+).*total$", text.read(), re.M)
        if total is None:
            raise RunFailed("strace printed no total")
        return {"syscalls_per_request": int(total.group(1)) / requests}

    return _rounds(row, _net_sides(row, setup), 1, one_run, progress)


def _wait_traced(pid):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            if "TracerPid:\t0" not in status.read():
                return
        time.sleep(0.02)
    raise RunFailed("strace could not attach (ptrace is forbidden?)")
