"""scripts/demo as a user meets it. What --check checks is scripts/test's phase `demo`."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import unittest

import harness
import processes
from processes import wait_until


def children_of(pid):
    """Processes whose parent is `pid`, by the kernel's list."""
    return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class DemoTest(unittest.TestCase):
    def start(self, *arguments):
        process = processes.start([harness.ROOT / "scripts" / "demo", *map(str, arguments)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env={**os.environ, "WEFT_DEMO_PROGRAMS": str(harness.PROGRAMS)})
        self.addCleanup(process.stdout.close)
        self.addCleanup(processes.end, process)
        return process

    def running_demo(self):
        """A demo that has shown its first line of throughput, and its children."""
        process = self.start("--port", processes.free_port(), "--debug-port", processes.free_port(), "--connections", 4)
        shown = ""
        while " req/s " not in shown:
            line = process.stdout.readline()
            self.assertTrue(line, "the demo ended early:\n" + shown)
            shown += line
        for pattern in (r"service +http://127\.0\.0\.1:\d+/\n", r"every task +http://\S+/goroutine\?debug=2",
                        r"go tool pprof http://\S+/debug/pprof/profile\?seconds=5", r"p50 .* p99 .* errors 0"):
            self.assertRegex(shown, re.compile(pattern))
        children = children_of(process.pid)
        self.assertEqual(len(children), 2, "the service and the load generator")
        return process, children

    def assert_gone(self, children):
        wait_until("the demo's children are gone", lambda: not any(alive(child) for child in children))

    def test_ctrl_c(self):
        process, children = self.running_demo()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, rest)
        self.assertRegex(rest, r"\d+ requests in .* req/s")
        self.assertIn("errors: 0 ", rest)
        self.assert_gone(children)

    def test_killed(self):
        process, children = self.running_demo()
        process.kill()
        process.wait()
        self.assert_gone(children)

    def test_service_dies(self):
        process, children = self.running_demo()
        for child in children:
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "shortlink":
                os.kill(child, signal.SIGKILL)
        rest, _ = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1, rest)
        self.assertIn("demo: ", rest)
        self.assert_gone(children)

    def test_taken_ports_are_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for option, other in (("--port", "--debug-port"), ("--debug-port", "--port")):
                process = self.start(option, port, other, processes.free_port())
                said, _ = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 1, said)
                self.assertIn(f"port {port} ", said)
                self.assertIn(option, said)

    def test_bad_port(self):
        for port in ("0", "65536", "http"):
            process = self.start("--port", port)
            said, _ = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 2, said)
            self.assertIn("--port", said)


if __name__ == "__main__":
    unittest.main()
