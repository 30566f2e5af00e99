"""weft's gdb commands, on a live program and on core files.

Set by CMake: WEFT_CROWD (the program, crowd.cc) and WEFT_GDB. Starting gdb and reading debug information is what
takes time here, so each class runs gdb once or twice and its methods look at what was printed.
"""

import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import unittest

CROWD = os.environ["WEFT_CROWD"]
GDB = os.environ.get("WEFT_GDB", "")
SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "gdb" / "weft.py"
END = "weft_context_entry"


def gdb(commands, *arguments):
    """{name: what the command printed} for [(name, command)]; one name may stand for several commands."""
    line = [GDB, "-nx", "-batch", "-iex", "set width 0", "-iex", "set pagination off", "-ex", f"source {SCRIPT}"]
    for name, command in commands:
        line += ["-ex", f"echo \\n==== {name}\\n", "-ex", command]
    environment = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"}
    done = subprocess.run([*line, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, timeout=240, env=environment, check=False)
    refusal = re.search(r".*(ptrace: Operation not permitted|Cannot PTRACE).*", done.stdout)
    if refusal is not None:
        raise unittest.SkipTest(f"debugging is not permitted here: {refusal.group()}")
    parts = re.split(r"^==== (.*)\n", done.stdout, flags=re.MULTILINE)
    printed = {}
    for name, text in zip(parts[1::2], parts[2::2]):
        printed[name] = printed.get(name, "") + text
    printed["everything"] = done.stdout
    return printed


def core_of(folder, *arguments):
    """Runs the program until it dies; the core file in the folder."""
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")):
        raise unittest.SkipTest(f"core files go elsewhere: core_pattern is {pattern}")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        raise unittest.SkipTest("core files are forbidden: the hard limit RLIMIT_CORE is 0")
    done = subprocess.run([CROWD, *arguments], cwd=folder, stdout=subprocess.DEVNULL, timeout=240, check=False)
    files = list(pathlib.Path(folder).iterdir())
    if done.returncode >= 0 or len(files) != 1:
        raise AssertionError(f"exit status {done.returncode}, files {files}: no core was written")
    return files[0], -done.returncode


def ids(tasks):
    """{name: id} of a table that weft tasks printed."""
    rows = (line.split() for line in tasks.splitlines())
    found = {}
    for row in rows:
        if row and row[0].isdigit():
            for name in ("receiver", "sender", "chooser", "holder", "wanter", "joiner", "sleeper", "spinner", "dying"):
                if name in row:
                    found[name] = int(row[0])
    return found


def sections(text):
    """{id: text} of what weft bt all printed."""
    parts = re.split(r"^task (\d+)\b", text, flags=re.MULTILINE)
    return {int(number): part for number, part in zip(parts[1::2], parts[2::2])}


class Case(unittest.TestCase):
    def assert_whole(self, backtrace):
        """Ends at the task's entry, with no complaint after it."""
        frames = [line for line in backtrace.splitlines() if line.startswith("#")]
        self.assertTrue(frames, backtrace)
        self.assertIn(END, frames[-1], backtrace)
        self.assertNotRegex(backtrace, r"corrupt|Backtrace stopped|Cannot access|\?\?")
        numbers = [int(re.match(r"#(\d+)", frame).group(1)) for frame in frames]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))

    def assert_deep_receive(self, backtrace, calls):
        """The inlined function and every recursion, with lines."""
        self.assert_whole(backtrace)
        self.assertEqual(len(re.findall(r"deep_receive.* at .*crowd\.cc:\d+", backtrace)), calls, backtrace)
        self.assertRegex(backtrace, r"inlined_receive.* at .*crowd\.cc:\d+")
        self.assertRegex(backtrace, r"recv.* at .*runtime/chan\.cc:\d+")


class LiveTest(Case):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.core = pathlib.Path(folder.name, "saved")
        # The ids are not known before the program runs, so the script looks them up.
        why = 'python [gdb.execute(f"weft why {t.id}") for t in Runtime().users_tasks() if t.name == "%s"]'
        cls.printed = gdb([
            ("run", "break crowd_is_ready"), ("run", "run"), ("before", "bt 1"),
            ("tasks", "weft tasks"), ("filtered", "weft tasks chan receive"), ("everybody", "weft tasks -a"),
            ("threads", "weft threads"), ("all", "weft bt all"),
            *[(f"why {name}", why % name) for name in ("wanter", "joiner", "chooser", "sender", "sleeper")],
            ("no task", "weft bt 999999"), ("no number", "weft bt x"),
            ("frame", 'python [gdb.execute(f"weft task {t.id} frame function deep_receive") '
                      'for t in Runtime().users_tasks() if t.name == "receiver"]'),
            ("after", "bt 1"), ("gcore", f"weft gcore {cls.core}"),
        ], "--args", CROWD, "spin", "3")
        cls.ids = ids(cls.printed["tasks"])
        cls.stacks = sections(cls.printed["all"])

    def test_tasks(self):
        table = self.printed["tasks"]
        for name, state in {"receiver": "chan receive", "sender": "chan send", "chooser": "select",
                            "wanter": "sync.Mutex.Lock", "joiner": "task join", "sleeper": "sleep",
                            "spinner": "(running|syscall)"}.items():
            self.assertRegex(table, rf"(?m)^ *\d+  {state} .*  {name}  .*crowd\.cc:\d+$")
        self.assertRegex(table, r"(?m)^12 of 12 tasks$")
        self.assertRegex(self.printed["filtered"], r"(?m)^5 of 12 tasks$")
        self.assertIn("(thread)", self.printed["everybody"])

    def test_threads(self):
        self.assertRegex(self.printed["threads"], rf'(?m)worker +task {self.ids["spinner"]} "spinner"')
        self.assertRegex(self.printed["threads"], r"(?m)^\d+ +\d+ +[01] +worker +task 1 ")

    def test_backtraces(self):
        self.assertEqual(len(self.stacks), 12)
        for text in self.stacks.values():
            self.assert_whole(text)
        self.assert_deep_receive(self.stacks[self.ids["receiver"]], 4)
        self.assertIn("spin_in_a_task", self.stacks[self.ids["spinner"]])
        self.assertRegex(self.stacks[self.ids["holder"]], r"created by .*crowd\.cc:\d+ in task 1")

    def test_the_selected_frame_stays(self):
        self.assertIn("crowd_is_ready", self.printed["before"])
        self.assertEqual(self.printed["before"], self.printed["after"])
        self.assertRegex(self.printed["frame"], r"#[1-9]\d* .*rec(ei)?v")

    def test_why(self):
        wanter = self.printed["why wanter"]
        self.assertRegex(wanter, r"g_lock.*: mutex, locked")
        self.assertIn(f'refers to it from its stack: task {self.ids["holder"]} "holder"', wanter)
        joiner = self.printed["why joiner"]
        self.assertIn(f'refers to it from its stack: task {self.ids["receiver"]} "receiver"', joiner)
        chooser = self.printed["why chooser"]
        self.assertIn('"receiver" [receiver (chan receive)]', chooser)
        self.assertIn('"sender" [sender (chan send)]', chooser)
        self.assertIn("channel, open, 1 of 1 buffered", chooser)
        self.assertIn('"chooser" [sender (select)]', self.printed["why sender"])
        self.assertIn("waits for no object", self.printed["why sleeper"])

    def test_errors_name_what_is_wrong(self):
        self.assertIn("no task 999999", self.printed["no task"])
        self.assertIn("'x' is no task id", self.printed["no number"])

    def test_saved_core(self):
        printed = gdb([("all", "weft bt all"), ("why", f"weft why {self.ids['wanter']}")], CROWD, str(self.core))
        stacks = sections(printed["all"])
        self.assertEqual(len(stacks), 12, printed["everything"])
        for text in stacks.values():
            self.assert_whole(text)
        self.assert_deep_receive(stacks[self.ids["receiver"]], 4)
        self.assertIn('"holder"', printed["why"])


class LimitedCoreTest(Case):
    """Room for some stacks in place and for some copies; the rest is said to be missing."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        core, cls.signal = core_of(folder.name, "abort", "100", "standard", "30", "30000")
        cls.printed = gdb([
            ("bt", "bt"), ("tasks", "weft tasks"), ("all", "weft bt all"),
            ("copies", "python print(len(Runtime().copies()))"),
            ("why", 'python [gdb.execute(f"weft why {t.id}") for t in Runtime().users_tasks() if t.name == "wanter"]'),
        ], CROWD, str(core))

    def test_the_dying_task(self):
        self.assertEqual(self.signal, 6)
        self.assert_whole(self.printed["bt"])
        self.assertIn("die_in_a_task", self.printed["bt"])
        self.assertNotIn("on_core_signal", self.printed["bt"])

    def test_parked_tasks(self):
        stacks = sections(self.printed["all"])
        self.assertEqual(len(stacks), 109)
        missing = {number for number, text in stacks.items() if "is not in the core file" in text}
        copies = int(self.printed["copies"])
        self.assertGreater(copies, 10)
        self.assertEqual(len(stacks) - len(missing), 1 + 30 + copies)  # the dying one, in place, copied
        for number in stacks.keys() - missing:
            self.assert_whole(stacks[number])

    def test_why(self):
        self.assertRegex(self.printed["why"], r"g_lock.*: mutex, locked")


class CrowdCoreTest(Case):
    """More tasks than are included in place, with the limits that a user has."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        core, cls.signal = core_of(folder.name, "segv", "20000", "compact")
        cls.disk = core.stat().st_blocks * 512
        cls.printed = gdb([
            ("bt", "bt"), ("fault", "print $_siginfo._sifields._sigfault.si_addr"), ("tasks", "weft tasks"),
            *[(f"bt {number}", f"weft bt {number}") for number in (1, 1000, 10000, 20000)],
            ("copies", "python print(len(Runtime().copies()))"),
            ("missing", 'python r = Runtime(); print(r.memory.number(r.layout["core.index"] + '
                        'r.layout["core_dump_index.missing"]))'),
        ], CROWD, str(core))

    def test_the_fault_is_what_the_core_shows(self):
        self.assertEqual(self.signal, 11)
        self.assertRegex(self.printed["bt"], r"(?m)^#0 .*die_in_a_task")
        self.assertRegex(self.printed["fault"], r"\(void \*\) 0x0")
        self.assert_whole(self.printed["bt"])

    def test_every_task_is_there(self):
        self.assertRegex(self.printed["tasks"], r"(?m)^20009 of 20009 tasks$")
        self.assertEqual(self.printed["missing"].strip(), "0")
        self.assertGreater(int(self.printed["copies"]), 15000)
        for number in (1, 1000, 10000, 20000):
            self.assert_whole(self.printed[f"bt {number}"])

    def test_the_core_is_small(self):
        self.assertLess(self.disk, 20000 * 10_000)


if __name__ == "__main__":
    if not GDB or GDB.endswith("NOTFOUND"):
        print("skipped: gdb is not installed")
        sys.exit(77)
    unittest.main()
