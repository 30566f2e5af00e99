"""The rows of the benchmark: what is run, with which figure judged, against which bar.

A bar compares weft's figure with `factor` times a peer's figure of the same round, or with an
absolute limit. Lower is better for every figure. The bars are the project's targets.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    peer: str  # "go", "raw", "nginx", …, "self", or "limit" for an absolute value
    factor: float

    def __str__(self):
        if self.peer == "limit":
            return f"≤ {self.factor:g}"
        return f"≤ {self.factor:.3g} × {self.peer}"


def go(factor):
    return Bar("go", factor)


def raw(factor):
    return Bar("raw", factor)


def nginx(factor):
    return Bar("nginx", factor)


def limit(value):
    return Bar("limit", value)


@dataclass(frozen=True)
class SchedRow:
    """One process per run: `weft_bench ROW`, `gobench ROW`, and so on for each peer.

    The side `self` is weft again, with `self_n` or `self_workers` in place of n or workers.
    """

    label: str
    row: str
    workers: int
    figure: str
    unit: str
    n: int
    bars: tuple = ()
    quick_n: int = 0  # 0: n, because the bar only means something at full size
    stack: str = "default"
    sides: tuple = ("weft", "go", "boost", "tokio", "crystal")
    peer_n: int = 0  # n of the peers but Go, where some take 100 µs per operation; 0: n
    memory: int = 0  # bytes that must be available; with less the row is left out
    is_time: bool = True  # counts for --require, which is about speed
    timeout: int = 60
    self_n: int = 0
    self_workers: int = 0


@dataclass(frozen=True)
class NetRow:
    """One server process per side and run, driven by bench_load for a fixed time."""

    label: str
    server: str  # echo_server or http_server
    load: tuple  # arguments of bench_load
    figure: str
    unit: str
    bars: tuple = ()
    sides: tuple = ("weft", "go", "raw", "nginx")
    is_time: bool = True
    timeout: int = 60


@dataclass(frozen=True)
class FreezeRow:
    """Per side and run two HTTP servers, one of which holds all its processors; the figure is what
    that adds to a latency."""

    label: str
    workers: int
    figure: str
    unit: str
    bars: tuple = ()
    sides: tuple = ("weft", "go", "boost_fiber")
    is_time: bool = False
    timeout: int = 30


@dataclass(frozen=True)
class ObsRow:
    """What looking at a process costs it: one process per run, `weft_bench_obs ARGS` and `gobench
    ARGS`. Rows with equal args are different figures of the same runs."""

    label: str
    args: tuple
    figure: str
    unit: str
    bars: tuple = ()
    load: tuple = ()  # not empty: the program is a server, and these are arguments of bench_load
    sides: tuple = ("weft", "go")
    memory: int = 0  # bytes that must be available; with less the row is left out
    is_time: bool = False
    timeout: int = 120
    # Each run prints one figure per group of windows; judged by all of them (paired.py).
    paired: bool = False


def _sched():
    def row(name, workers, n, *bars, quick=4, **more):
        quick_n = n // 10 if name == "skynet" else n // quick
        return SchedRow(f"{name} w{workers}", name, workers, "ns_per_op", "ns", n, bars, quick_n,
                        **more)

    yield row("switch", 1, 5_000_000, go(0.25))
    yield row("pingpong", 1, 1_000_000, go(0.35))
    yield row("pingpong", 2, 1_000_000, go(1.0), peer_n=100_000)
    yield row("spawn", 1, 1_000_000, go(0.35))
    yield row("spawn_all", 1, 1_000_000, go(0.2))
    yield row("skynet", 1, 1_000_000, go(0.6))
    yield row("skynet", 2, 1_000_000, go(0.6))
    yield row("chan_buffered", 1, 4_000_000, go(0.6))
    yield row("chan_buffered", 2, 4_000_000, go(0.8))
    yield row("select4", 1, 1_000_000, go(0.5))
    yield row("select4", 2, 1_000_000, go(0.5))
    yield row("mutex_uncontended", 1, 20_000_000, go(0.8))
    yield row("rwmutex_read", 1, 20_000_000, go(0.8), sides=("weft", "go"))
    yield row("mutex8", 2, 4_000_000, go(0.8))
    for stack, bytes_per_task in (("compact", 4400), ("default", 8600)):
        yield SchedRow(f"idle {stack}", "idle", 1, "bytes_per_task", "B", 100_000,
                       (limit(bytes_per_task),), stack=stack, is_time=False)
        yield SchedRow(f"idle 1M {stack}", "idle", 1, "bytes_per_task", "B", 1_000_000,
                       (limit(bytes_per_task),), stack=stack, sides=("weft", "go"), is_time=False,
                       memory=1_200_000 * bytes_per_task, timeout=120)
    for workers in (1, 2):
        yield SchedRow(f"sleepers p99 w{workers}", "sleepers", workers, "late_p99_ms", "ms",
                       100_000, (limit(5),))
    for workers in (1, 2):
        yield SchedRow(f"sleep_all w{workers}", "sleep_all", workers, "ms_total", "ms",
                       1_000_000, (limit(1500),))
    yield SchedRow("idle_cpu w2", "idle_cpu", 2, "cpu_percent", "%", 3_000, (limit(0.1),),
                   is_time=False)
    yield SchedRow("wake p50 w2", "wake", 2, "wake_p50_us", "µs", 10_000, (go(1.0),))


def _gc():
    """The bars B1 to B15 of the collected heap; the label names the bar."""
    def boehm(factor):
        return Bar("boehm", factor)

    def mine(factor):
        return Bar("self", factor)

    every = ("weft", "go", "boehm", "malloc", "mimalloc")

    def row(label, name, n, figure, unit, *bars, workers=1, quick=4, **more):
        more.setdefault("sides", ("weft", "go"))
        more.setdefault("timeout", 180)
        return SchedRow(label, name, workers, figure, unit, n, bars, n // quick if quick else 0,
                        **more)

    cpu = ("cpu_ns_per_op", "ns")
    yield row("B1 trees 16", "gc_trees", 16, *cpu, boehm(0.70), go(0.60), quick=0, sides=every)
    yield row("B1 trees 18", "gc_trees", 18, *cpu, boehm(0.70), go(0.60), quick=0, sides=every)
    yield row("GCBench", "gc_gcbench", 18, *cpu, quick=0, sides=every)
    yield row("B2 alloc 16", "gc_alloc16", 20_000_000, *cpu, boehm(0.8), sides=every)
    yield row("B2 alloc 64", "gc_alloc64", 20_000_000, *cpu, boehm(0.8), sides=every)
    yield row("alloc 64 no-scan", "gc_noscan64", 20_000_000, *cpu, sides=every)
    yield row("B3 make 16", "gc_make16", 8_000_000, *cpu, limit(5))
    yield row("B4 ref store", "gc_store", 100_000_000, "store_over_plain_ns", "ns", limit(0.3),
              sides=("weft",))
    yield row("B5 1 GB, 100k p50", "gc_live", 1_000, "stw_p50_us", "µs", limit(30), workers=2,
              quick=0, memory=6 << 30)
    yield row("B5 1 GB, 100k p99", "gc_live", 1_000, "stw_p99_us", "µs", limit(250), workers=2,
              quick=0, memory=6 << 30)
    yield row("B6 stop, 100k : 100", "gc_parked", 100_000, "stw_p50_us", "µs", mine(1.5),
              workers=2, quick=0, sides=("weft", "go", "self"), self_n=100)
    yield row("B7 scan 100k", "gc_parked", 100_000, "cycle_cpu_ms", "ms", limit(150), workers=2,
              quick=0)
    yield row("stall, 100k", "gc_parked", 100_000, "stall_max_us", "µs", workers=2, quick=0)
    yield row("stall, 1 GB own", "gc_live", 1_000, "stall_own_us", "µs", limit(1000), workers=2,
              quick=0, memory=6 << 30)
    yield row("stall, 100k own", "gc_parked", 100_000, "stall_own_us", "µs", limit(1000),
              workers=2, quick=0)
    yield row("B8 switch", "gc_switch", 5_000_000, "added_ns", "ns", limit(1), sides=("weft",))
    yield row("B9 LRU p99.99", "gc_lru", 1_000_000, "p9999_us", "µs", go(0.5), quick=0, workers=2,
              sides=every)
    yield row("B9 LRU max", "gc_lru", 1_000_000, "max_us", "µs", go(1.0), quick=0, workers=2,
              sides=every)
    yield row("B10 LRU gc share", "gc_lru", 1_000_000, "gc_cpu", "", go(1.0), quick=0, workers=2,
              is_time=False)
    # 200 000 messages and the map.
    yield row("B12 LRU peak", "gc_lru", 1_000_000, "peak_mb", "MiB", limit(round(2.3 * 206)),
              quick=0, workers=2, is_time=False)
    yield row("B12 metadata", "gc_lru", 1_000_000, "metadata_percent", "%", limit(4), quick=0,
              workers=2, sides=("weft",), is_time=False)
    yield row("B11 two : one", "gc_two", 40_000_000, "ms_total", "ms", mine(0.6), workers=2,
              sides=("weft", "go", "self"), self_workers=1)
    yield row("B13 shrink", "gc_shrink", 1_000, "rss_over_goal", "", limit(1.2), quick=10,
              is_time=False)
    yield row("B14 reclaim", "gc_reclaim", 1_000_000, "left_percent", "%", limit(0.1), quick=0,
              is_time=False)
    yield ObsRow("B15 heap profile", ("gc_inuse", "--workers=1", "--n=100"), "error_percent", "%",
                 (limit(10),), timeout=180)


def _net():
    cpu, us = "server_cpu_us", "µs"
    yield NetRow("echo 64", "echo_server", ("--connections=64",), cpu, us,
                 (raw(1 / 0.9), go(1 / 1.3)), ("weft", "go", "raw"))
    yield NetRow("echo 1024", "echo_server", ("--connections=1024",), cpu, us,
                 (raw(1 / 0.9), go(1 / 1.3)), ("weft", "go", "raw"))
    yield NetRow("http 64", "http_server", ("--connections=64",), cpu, us,
                 (go(0.6), raw(1.12), nginx(0.95)))
    yield NetRow("http 1 p50", "http_server", ("--connections=1",), "p50_us", us, (raw(1.05),))
    yield NetRow("http 1024 p99", "http_server", ("--connections=1024",), "p99_us", us,
                 (raw(1.3),))
    yield NetRow("http pipelined 16", "http_server", ("--connections=64", "--pipeline=16"), cpu,
                 us, (raw(1.25), nginx(0.5)))
    yield NetRow("http short", "http_server", ("--connections=16", "--short"), cpu, us,
                 (nginx(1 / 0.9), go(1 / 1.3)))
    yield NetRow("http idle 10k", "http_server", ("--connections=10000", "--hold"),
                 "server_bytes_per_conn", "B", (limit(1024),), is_time=False)


def _obs():
    # Switched on and off in slices under one load: bars are percent of CPU per request.
    # Go cannot switch its heap profile while a program runs, and has neither wait nor taskcreate.
    both = ("weft", "go")
    for label, profile, sides, *bars in (
            ("http nothing", "none", both),  # how far off the figures below can be
            ("http cpu 100 Hz", "cpu", both, limit(0.5)),
            ("http heap 512 KiB", "heap", ("weft",)),
            ("http block 1 ns", "block1", both),
            ("http mutex 1/100", "mutex", both),
            ("http wait 10 ms", "wait", ("weft",)),
            ("http wait 1 ns", "wait1", ("weft",)),
            ("http all at default rates", "all", both, limit(2)),
    ):
        yield ObsRow(label, ("http_profiled", "--workers=1", f"--profile={profile}"),
                     "overhead_percent", "%", tuple(bars), ("--connections=64",), sides=sides,
                     paired=True)
    for label, row, profile in (("spawn taskcreate 1/100", "spawn", "taskcreate100"),
                                ("spawn taskcreate all", "spawn", "taskcreate1"),
                                ("handoff block 1 ns", "handoff", "block1"),
                                ("handoff wait 10 ms", "handoff", "wait"),
                                ("handoff wait 1 ns", "handoff", "wait1"),
                                ("nap wait 10 ms", "nap", "wait"),
                                ("nap wait 1 ns", "nap", "wait1")):
        yield ObsRow(label, (f"{row}_profiled", "--workers=1", f"--profile={profile}"),
                     "overhead_percent", "%", sides=("weft",), paired=True)
    # The same counted: what one sample costs, a hundred times a second.
    yield ObsRow("cpu sample counted", ("cpu_sample", "--workers=1"), "percent_at_100hz", "%",
                 (limit(0.5),), sides=("weft",))
    for debug, n, size, most_ms in ((0, 10_000, "10k", None), (0, 100_000, "100k", 100),
                                    (0, 1_000_000, "1M", 1000), (1, 10_000, "10k", None),
                                    (1, 100_000, "100k", None), (1, 1_000_000, "1M", None),
                                    (2, 10_000, "10k", None), (2, 100_000, "100k", 400),
                                    (2, 1_000_000, "1M", None)):
        args = ("goroutine", "--workers=2", f"--n={n}", f"--debug={debug}")
        memory = n * 6000 if n >= 1_000_000 else 0
        yield ObsRow(f"goroutine={debug} {size}", args, "ms", "ms",
                     (limit(most_ms),) if most_ms else (), memory=memory, is_time=True)
        yield ObsRow(f"goroutine={debug} {size} stall", args, "stall_ms", "ms", (limit(1),),
                     memory=memory)


SCHED = tuple(_sched())
GC = tuple(_gc())
NET = tuple(_net())
OBS = tuple(_obs())
FREEZE = (FreezeRow("freeze p99 added", 2, "added_p99_ms", "ms", (limit(15),)),)
# Run with --syscalls only: a count under strace, whose times mean nothing.
SYSCALLS = NetRow("http 64 syscalls/req", "http_server", ("--connections=64",),
                  "syscalls_per_request", "", (limit(2.2),), is_time=False)
