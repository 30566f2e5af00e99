"""scripts/bench without its programs: scripted ones stand in for weft and every peer, so that what the
table says about figures, missing sides, crashes and hangs can be compared with what they did."""

import json
import math
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = ROOT / "bench" / "driver"
sys.path.insert(0, str(DRIVER))

import measure  # noqa: E402  (found through the line above)
import paired  # noqa: E402
import peers  # noqa: E402
import proc  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402


class DriverTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bin = pathlib.Path(folder.name)

    def program(self, name, script):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def prints(self, name, figures):
        self.program(name, f"echo row=$1 {figures}")

    def bench(self, *arguments):
        done = subprocess.run([sys.executable, "-B", DRIVER, "sched", "--bin", self.bin, "--out",
                               self.bin / "out", "--pairs", "2", *arguments],
                              capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_every_side_has_its_line_and_its_ratio(self):
        self.prints("weft_bench", "ns_per_op=20")
        self.prints("gobench", "ns_per_op=100")
        self.prints("bench_boost", "ns_per_op=40")
        self.prints("bench_tokio", "ns_per_op=80")
        self.prints("bench_crystal", "ns_per_op=10")
        code, out = self.bench("--rows", "switch")
        self.assertEqual(code, 0, out)
        self.assertRegex(out, r"switch w1 +ns +20\.00 +100\.0 +0\.20 +0\.20\.\.0\.20 +≤ 0\.25 × go +met")
        self.assertRegex(out, r"against boost +40\.00 +0\.50")
        self.assertRegex(out, r"against tokio +80\.00 +0\.25")
        self.assertRegex(out, r"against crystal +10\.00 +2\.00")
        self.assertRegex(out, r"ahead of weft \(weft/peer\):\n  switch w1: crystal \(2\.00\)\n")
        (saved,) = (self.bin / "out").iterdir()
        (row,) = json.loads(saved.read_text())["rows"]
        self.assertEqual(row["median"], {"weft": 20, "go": 100, "boost": 40, "tokio": 80, "crystal": 10})

    def test_a_peer_that_crashes_or_lacks_something_does_not_stop_the_run(self):
        self.prints("weft_bench", "ns_per_op=20")
        self.prints("gobench", "ns_per_op=100")
        self.program("bench_boost", "echo Boost.Fiber has no select >&2; exit 4")
        self.program("bench_tokio", "echo it broke >&2; kill -SEGV $$")
        code, out = self.bench("--rows", "select4 w1,mutex8")
        self.assertEqual(code, 0, out)
        self.assertEqual(len(re.findall(r"against boost +–: Boost\.Fiber has no select\n", out)), 2, out)
        self.assertEqual(
            len(re.findall(r"tokio FAILED 2 of 2 runs: killed by SIGSEGV: it broke", out)), 2, out)
        self.assertIn("Crystal is not installed", out)
        self.assertNotIn("against crystal", out)
        self.assertIn("2 bars met", out)

    def test_weft_or_go_failing_is_a_failure(self):
        for broken, sound in (("weft_bench", "gobench"), ("gobench", "weft_bench")):
            self.prints(sound, "ns_per_op=20")
            for script in ("exit 1", "exit 4", "echo no figures", "echo row=switch other=1"):
                self.program(broken, script)
                code, out = self.bench("--rows", "switch", "--peers", "go")
                self.assertEqual(code, 1, out)
                self.assertIn("failed: switch w1", out)

    def test_peers_are_selected(self):
        self.prints("weft_bench", "ns_per_op=20")
        for name in ("gobench", "bench_boost", "bench_tokio", "bench_crystal"):
            self.program(name, f"touch {self.bin}/ran-{name}; echo row=$1 ns_per_op=100")
        code, out = self.bench("--rows", "switch", "--peers", "tokio")
        self.assertEqual(code, 0, out)
        self.assertEqual([p.name for p in self.bin.glob("ran-*")], ["ran-bench_tokio"])
        self.assertIn("1 not judged", out)
        code, out = self.bench("--rows", "switch", "--peers", "none")
        self.assertEqual(code, 0, out)
        self.assertNotIn("against", out)
        code, out = self.bench("--peers", "go,erlang")
        self.assertEqual(code, 2, out)
        self.assertIn("erlang is none of go, boost", out)

    def test_a_row_that_needs_more_memory_than_there_is_is_left_out(self):
        self.program("weft_bench", "exit 1")
        row = rows.SchedRow("idle", "idle", 1, "bytes_per_task", "B", 10, (rows.limit(1),), memory=1 << 60)
        setup = measure.Setup(bin=str(self.bin), pairs=1, quick=False, go=False)
        result = measure.sched(row, setup, lambda text: None)
        self.assertEqual(result.failures, {})
        self.assertRegex(result.notes[0], r"left out: needs .* GB")
        self.assertEqual(report.judge(result, row.bars[0]), (None, "-"))

    def test_a_hang_is_ended_with_all_that_it_started(self):
        child = self.bin / "child"
        self.program("bench_boost", f"sleep 1000 & echo $! > {child}.new; mv {child}.new {child}; wait")
        # On a busy machine the program may not have got to its hang in time: then once more.
        for timeout in (1, 5, 25, 100):
            with self.assertRaisesRegex(proc.RunFailed, f"no result after {timeout} s"):
                proc.run([str(self.bin / "bench_boost"), "switch"], timeout)
            if child.exists():
                break
        # The signal has been sent; the test ends when it has been obeyed.
        stat = pathlib.Path("/proc", child.read_text().strip(), "stat")
        while True:
            try:
                if stat.read_text().rsplit(") ", 1)[1][0] == "Z":
                    break
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(0.01)

    def test_two_failures_are_enough(self):
        runs = []

        def one_run(side):
            runs.append(side)
            if side == "boost":
                raise proc.RunFailed("no result after 60 s")
            if side == "tokio":
                raise proc.NotExpressed("no such thing")
            return {"ns_per_op": 1.0}

        result = measure._rounds(rows.SCHED[0], ("weft", "boost", "tokio"), 4, one_run, lambda text: None)
        self.assertEqual(runs, ["weft", "boost", "tokio", "weft", "boost", "weft", "weft"])
        self.assertEqual(result.runs["boost"], [None] * 4)
        self.assertEqual(result.lacks, {"tokio": "no such thing"})


class PairedTest(unittest.TestCase):
    """Small overheads, judged by many windows with and without."""

    def samples(self, overhead, noise, count, outliers=0):
        random.seed(count)
        values = [random.gauss(overhead, noise) for _ in range(count)]
        for i in range(outliers):  # a slow moment of the machine
            values[i * count // max(outliers, 1)] += 100
        return values

    def test_the_interval_holds_the_truth_as_often_as_it_says(self):
        random.seed(1)
        inside = 0
        for _ in range(200):
            _, low, high = paired.estimate([random.gauss(0.3, 2) for _ in range(40)])
            inside += low <= 0.3 <= high
        self.assertGreaterEqual(inside, 180)  # 190 expected
        self.assertLess(inside, 200)

    def test_it_gets_narrower_and_bad_windows_do_not_move_it(self):
        few, many = (paired.estimate(self.samples(0.3, 2, n)) for n in (50, 800))
        self.assertLess(many[2] - many[1], (few[2] - few[1]) / 2)
        middle, low, high = paired.estimate(self.samples(0.3, 2, 800, outliers=40))
        self.assertLess(abs(middle - 0.3), 0.4)
        self.assertLess(high - low, 1)

    def test_windows_that_scatter_evenly_show_no_overhead(self):
        random.seed(2)
        percents = [100 * math.expm1(random.gauss(0, 0.2)) for _ in range(300)]
        self.assertGreater(statistics.mean(percents), 1)  # what a ratio's mean is off by
        middle, low, high = paired.estimate(percents)
        self.assertLess(abs(middle), 1.5)
        self.assertTrue(low < 0 < high, (low, high))

    def test_a_few_windows_prove_nothing(self):
        self.assertEqual(paired.estimate([0.1] * 5)[1:], (-100, math.inf))
        self.assertEqual(paired.verdict(*paired.estimate([0.1] * 5)[1:], 0.5), "undecided")
        self.assertEqual(paired.estimate([])[0], None)

    def result(self, values, limit):
        row = rows.ObsRow("http x", ("http_profiled",), "overhead_percent", "%", (rows.limit(limit),), paired=True)
        return measure.Result(row, ("weft",), {"weft": [{"overhead_percent": values}, None, {"overhead_percent": 0.1}]})

    def test_verdicts(self):
        for overhead, expected in ((0.1, "met"), (1.5, "missed"), (0.5, "undecided")):
            result = self.result(self.samples(overhead, 1, 400), 0.5)
            value, verdict = report.judge(result, result.row.bars[0])
            self.assertEqual(verdict, expected)
            self.assertLess(abs(value - overhead), 0.3)
            self.assertEqual(report.ratios(result, "overhead_percent", "go"), [])

    def test_a_run_of_the_driver(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder, "weft_bench_obs")
            program.write_text("#!/bin/sh\necho row=$1 off_ns=1 overhead_percent=" + ",".join(
                f"{v:.4f}" for v in self.samples(3, 0.1, 30)) + "\n")
            program.chmod(0o755)
            done = subprocess.run([sys.executable, "-B", DRIVER, "obs", "--rows", "spawn taskcreate all", "--bin",
                                   folder, "--out", folder + "/out", "--pairs", "2", "--peers", "none"],
                                  capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertRegex(done.stdout, r"spawn taskcreate all +% +[23]\.\d+ +– +– +\+2\.\d+\.\.\+3\.\d+")
            (saved,) = pathlib.Path(folder, "out").iterdir()
            (row,) = json.loads(saved.read_text())["rows"]
            self.assertEqual(len(row["runs"]["weft"][0]["overhead_percent"]), 30)
            self.assertLess(row["intervals"]["weft"][0], 3)
            # Without a whole group of windows there is nothing to judge.
            program.write_text("#!/bin/sh\necho row=$1 overhead_percent=\n")
            done = subprocess.run(done.args, capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("no whole group of windows", done.stdout)


class SourcesTest(unittest.TestCase):
    """The sides do the same number of the same operations."""

    # Each entry of a program's table: name, then default n.
    TABLES = {
        "bench/weft_bench.cc": r'\{"(\w+)",\s*([\d\']+),',
        "bench/weft_bench_obs.cc": r'\{"(\w+)",\s*([\d\']+),',
        "bench/peers/go/main.go": r'"(\w+)":\s*\{([\d_]+),',
        "bench/peers/go/gc.go": r'"(gc_\w+)":\s*\{([\d_]+),',
        "bench/peers/heap/main.cc": r'\{"(\w+)",\s*([\d\']+),',
        "bench/peers/boost_fiber/main.cc": r'\{"(\w+)",\s*([\d\']+),',
        "bench/peers/tokio/src/main.rs": r'"(\w+)" => Config \{ n: n\(([\d_]+)\)',
        "bench/peers/crystal/main.cr": r'when "(\w+)"\s+then \{([\d_]+),',
    }

    def table(self, path):
        found = re.findall(self.TABLES[path], (ROOT / path).read_text(encoding="utf-8"))
        return {name: int(re.sub(r"\D", "", n)) for name, n in found}

    def test_rows_have_the_same_default_everywhere(self):
        weft = self.table("bench/weft_bench.cc")
        self.assertGreaterEqual(len(weft), 12)
        weft |= self.table("bench/weft_bench_obs.cc")
        for path in self.TABLES:
            table = self.table(path)
            for row, n in table.items():
                if n:  # 0: a server, which counts nothing
                    self.assertEqual(n, weft.get(row), f"{row} in {path}")
            least = 3 if path.endswith("_obs.cc") else 6 if "/heap/" in path else 12
            self.assertGreaterEqual(len(table), least, path)

    def test_the_driver_runs_what_exists(self):
        weft = self.table("bench/weft_bench.cc")
        go = self.table("bench/peers/go/main.go") | self.table("bench/peers/go/gc.go")
        for row in rows.SCHED + rows.GC:
            if isinstance(row, rows.ObsRow):
                continue
            self.assertIn(row.row, weft)
            if "go" in row.sides:
                self.assertIn(row.row, go)
            self.assertLessEqual(set(row.sides), {"weft", "go", "self"} | set(peers.PEERS))
            self.assertEqual("self" in row.sides, bool(row.self_n or row.self_workers))
            for bar in row.bars:
                self.assertIn(bar.peer, {"limit", *row.sides})
        obs = self.table("bench/weft_bench_obs.cc")
        for row in [*rows.OBS, *(r for r in rows.GC if isinstance(r, rows.ObsRow))]:
            for side, table in (("weft", obs), ("go", go)):
                if side in row.sides:
                    self.assertIn(row.args[0], table)


if __name__ == "__main__":
    unittest.main()
