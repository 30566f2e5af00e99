"""What the end-to-end tests share. Each test class starts a service of its own on free ports and demands
at the end that it stops in order; a sanitizer's complaint shows in the exit status too.

Set by CMake: WEFT_PROGRAMS (folder of shortlink and load), WEFT_TOOLS_SECONDS (length of load phases; shorter
under sanitizers), WEFT_TOOLS_SANITIZER ("", "address" or "thread"), and WEFT_IO for the poller.
"""

import os
import pathlib
import re
import resource
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "demo"))

import processes  # noqa: E402  (found through the line above)

PROGRAMS = pathlib.Path(os.environ["WEFT_PROGRAMS"])
SANITIZER = os.environ.get("WEFT_TOOLS_SANITIZER", "")
SECONDS = int(os.environ.get("WEFT_TOOLS_SECONDS", "10"))


class ServiceTest(unittest.TestCase):
    """A fresh service for every test method."""

    extra_flags = ()
    environment = {}

    def setUp(self):
        self.service = processes.Service(PROGRAMS / "shortlink", extra=self.extra_flags,
                                         environment=self.environment)
        self.addCleanup(self.service.close)
        # The least of several looks: the task of a connection that has just ended may still be counted, and
        # what is created at the first request belongs to the baseline.
        looks = [processes.wait_until("an idle service", self.resting) for _ in range(10)]
        self.baseline = tuple(map(min, zip(*looks)))

    def resting(self):
        """(tasks, descriptors) when no connection is left but the one that asks; else None."""
        connections = self.service.stats()["connections"]
        if connections["idle"] + connections["active"] != 1:
            return None
        return self.service.stats()["tasks"], self.descriptors()

    def descriptors(self):
        """Open files of the service, without those of SQLite, which opens them when it likes."""
        folder = pathlib.Path("/proc", str(self.service.process.pid), "fd")
        kinds = []
        for entry in folder.iterdir():
            try:
                kinds.append(os.readlink(entry))
            except FileNotFoundError:
                pass  # closed since the listing
        return sum(1 for kind in kinds if kind.startswith("socket:"))

    def assert_back_to_baseline(self):
        """Every connection, task and socket of the requests so far is gone."""
        def back():
            now = self.resting()
            if now is None:
                raise processes.Failure(f"connections left: {self.service.stats()['connections']}")
            tasks, sockets = now
            # The socket of the connection that asked may be open or closed when they are counted.
            if tasks != self.baseline[0] or sockets > self.baseline[1] + 1:
                raise processes.Failure(f"tasks and sockets {now}, at the start {self.baseline}")
            return True
        processes.wait_until("tasks and sockets as at the start", back, seconds=60)

    def assert_stops_in_order(self):
        self.assertEqual(self.service.stop(), 0, "exit status after SIGTERM")

    def run_load(self, *arguments):
        """Runs the load generator; its JSON summary."""
        done = subprocess.run([PROGRAMS / "load", "--target", self.service.address, "--json", "--timeout", "60s",
                               *map(str, arguments)], text=True, capture_output=True, timeout=240, check=False)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        return processes.json.loads(done.stdout)


def curl(*arguments):
    """(status, headers in lower case, body) of what curl was answered."""
    done = subprocess.run(["curl", "--silent", "--show-error", "--include", "--max-time", "60", "--http1.1",
                           *arguments], capture_output=True, text=True, timeout=90, check=True)
    head, _, body = done.stdout.partition("\n\n")  # text mode has turned CRLF into LF
    lines = head.split("\n")
    status = int(re.match(r"HTTP/1\.1 (\d{3})", lines[0]).group(1))
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return status, headers, body


def allow_descriptors(count):
    """Raises this process's limit; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))  # root may; others get a clear error
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
