"""The running service seen from outside: go tool pprof, dumps, SIGQUIT."""

import re
import subprocess
import tempfile
import unittest
import urllib.request

import harness
import processes
from parked import ParkedHandlers
from processes import wait_until


class PprofTest(harness.ServiceTest):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="pprof-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def top(self, path):
        return processes.go_pprof(self.folder, "-top", "-nodefraction=0", "-nodecount=100000",
                                  self.service.debug_url(path))

    def test_cpu_profile(self):
        load = processes.start([harness.PROGRAMS / "load", "--target", self.service.address, "--duration", "0",
                                "--links", "100", "--progress", "never"], stdout=subprocess.DEVNULL)
        self.addCleanup(processes.end, load)
        wait_until("the load has begun",
                   lambda: self.service.stats()["endpoints"]["GET /{code}"]["count"] > 0)
        text = self.top("profile?seconds=2")
        self.assertIsNone(load.poll(), "the load went on until after the profile")
        self.assertEqual(processes.end(load, processes.signal.SIGINT), 0, "every request was answered")
        self.assertIn("\nType: cpu\n", text)
        self.assertIn("Duration: 2", text)
        names = [name for name, _, _ in processes.functions_in_top(text)]
        self.assertTrue(any("shortlink::service::" in name for name in names), text)
        self.assertTrue(any(name.startswith("weft::sched::") for name in names), text)
        self.assertTrue(any(name.startswith("weft::http::") for name in names), text)
        self.assert_stops_in_order()

    def test_labels_in_the_cpu_profile(self):
        load = processes.start([harness.PROGRAMS / "load", "--target", self.service.address, "--duration", "0",
                                "--links", "100", "--progress", "never"], stdout=subprocess.DEVNULL)
        self.addCleanup(processes.end, load)
        wait_until("the load has begun",
                   lambda: self.service.stats()["endpoints"]["GET /{code}"]["count"] > 0)
        text = processes.go_pprof(self.folder, "-tags", self.service.debug_url("profile?seconds=2"))
        self.assertIn("route:", text)
        self.assertIn("GET /{code}", text)
        self.assertEqual(processes.end(load, processes.signal.SIGINT), 0)
        self.assert_stops_in_order()

    def test_goroutine_profile(self):
        parked = ParkedHandlers(self.service, watchers=20, senders=5)
        self.addCleanup(parked.close)
        parked.wait_parked(lambda: processes.tasks_of_dump(self.service.debug_text("goroutine?debug=2")))
        text = self.top("goroutine")
        self.assertIn("\nType: goroutine\n", text)
        cum = {name: int(c) for name, _, c in processes.functions_in_top(text)}
        found = {function: sum(c for name, c in cum.items() if name.startswith(function))
                 for function in ("shortlink::service::watch_link", "shortlink::service::create_link")}
        self.assertEqual(found, {"shortlink::service::watch_link": 20, "shortlink::service::create_link": 5}, text)

        # The labels are those of the routes, in the text form too.
        listing = self.service.debug_text("goroutine?debug=1")
        counts = {}
        for record in listing.split("\n\n")[:-1]:
            lines = [line for line in record.splitlines() if not line.startswith("goroutine profile:")]
            for line in lines:
                if line.startswith("# labels:"):
                    counts[line] = counts.get(line, 0) + int(lines[0].split(" ")[0])
        self.assertEqual(counts, {'# labels: {"route":"GET /links/{code}/watch"}': 20,
                                  '# labels: {"route":"POST /links"}': 5})
        parked.release()
        parked.close()
        self.assert_back_to_baseline()
        self.assert_stops_in_order()

    def test_dumps_while_everything_moves(self):
        load = processes.start([harness.PROGRAMS / "load", "--target", self.service.address, "--duration", "0",
                                "--links", "100", "--progress", "never"], stdout=subprocess.DEVNULL)
        self.addCleanup(processes.end, load)
        for _ in range(20):
            processes.total_of_profile(self.service.debug_text("goroutine?debug=1"))
            tasks = processes.tasks_of_dump(self.service.debug_text("goroutine?debug=2"))
            self.assertEqual(len({task.id for task in tasks}), len(tasks))
            self.assertIn(1, {task.id for task in tasks})
        self.assertEqual(processes.end(load, processes.signal.SIGINT), 0)
        self.assert_back_to_baseline()
        self.assert_stops_in_order()


# ThreadSanitizer keeps a signal back until the thread that got it calls an intercepted function, and an idle
# service's main thread sleeps in a bare futex call.
@unittest.skipIf(harness.SANITIZER == "thread", "ThreadSanitizer does not deliver signals to a sleeping thread")
class SigquitTest(unittest.TestCase):
    def test_prints_every_task_and_exits_with_2(self):
        with tempfile.TemporaryFile("w+") as stderr:
            # A process of its own rather than Service, for its stderr.
            process = processes.start([harness.PROGRAMS / "shortlink", "--listen", "127.0.0.1:0", "--debug",
                                       "127.0.0.1:0", "--db", ":memory:"],
                                      stdout=subprocess.PIPE, stderr=stderr, text=True)
            self.addCleanup(process.stdout.close)
            self.addCleanup(processes.end, process)
            lines = iter(process.stdout.readline, "")
            debug = next(re.search(r"debug server on (http://[^/]+)/", line) for line in lines if "debug" in line)
            wait_until("the main task is back from writing that line", lambda: "goroutine 1 [chan receive" in
                       urllib.request.urlopen(debug.group(1) + "/debug/pprof/goroutine?debug=2").read().decode())
            self.assertEqual(processes.end(process, processes.signal.SIGQUIT), 2)
            stderr.seek(0)
            text = stderr.read()
        self.assertIn("goroutine 1 [chan receive", text)
        self.assertIn("shortlink::click_counter::collect", text)
        self.assertIn("shortlink::click_counter::write", text)


if __name__ == "__main__":
    unittest.main()
