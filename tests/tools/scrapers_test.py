"""What scrapers of Go programs insist on, asked of the running service as they ask."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import harness
import processes
from processes import wait_until

DEPLOY = harness.ROOT / "deploy"


def fetch(url, seconds=60):
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.status, answer.headers, answer.read()


class PrometheusTest(harness.ServiceTest):
    """Debian's promtool and prometheus."""

    def metrics(self):
        status, headers, body = fetch(f"http://{self.service.debug}/metrics")
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        return body.decode()

    def test_promtool_accepts_config_and_metrics(self):
        done = subprocess.run(["promtool", "check", "config", "--lint-fatal", DEPLOY / "prometheus.yml"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        text = self.metrics()
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True,
                              timeout=60, check=False)
        # The lint knows that client_golang's own names break its rules, but not by whom they are written.
        complaints = [line for line in (done.stdout + done.stderr).splitlines()
                      if not line.startswith(("go_", "process_"))]
        self.assertEqual(complaints, [])
        self.assert_stops_in_order()

    def test_values(self):
        text = self.metrics()
        values = dict(re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE))
        listing = self.service.debug_text("goroutine?debug=1")
        self.assertEqual(int(values["go_goroutines"]), processes.total_of_profile(listing))
        pid = self.service.process.pid
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        threads = int(re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE).group(1))
        self.assertLessEqual(int(values["go_threads"]), threads)
        self.assertGreaterEqual(int(values["go_threads"]), 2)
        resident = float(values["process_resident_memory_bytes"])
        now = int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE).group(1)) * 1024
        self.assertLess(abs(resident - now), 64 << 20)
        self.assertLess(abs(float(values["process_start_time_seconds"]) - time.time()), 300)
        self.assertGreater(float(values["process_cpu_seconds_total"]), 0)
        self.assertGreaterEqual(float(values["process_max_fds"]), float(values["process_open_fds"]))
        self.assertIn('poller="', text)
        self.assertGreater(int(values["go_memstats_sys_bytes"]), int(values["go_memstats_stack_sys_bytes"]))
        self.assertGreater(int(values["go_memstats_stack_sys_bytes"]), 0)
        self.assertEqual(int(values["go_memstats_heap_sys_bytes"]),
                         int(values["go_memstats_heap_idle_bytes"]) + int(values["go_memstats_heap_inuse_bytes"]))
        self.assertIn('go_gc_duration_seconds{quantile="1"}', values)
        self.assertIn("go_gc_duration_seconds_count", values)
        self.assert_stops_in_order()

    def test_a_prometheus_server_scrapes_it(self):
        folder = tempfile.mkdtemp(prefix="prometheus-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        config = (DEPLOY / "prometheus.yml").read_text()
        self.assertIn("127.0.0.1:6060", config)
        config = config.replace("127.0.0.1:6060", self.service.debug).replace("15s", "1s")
        pathlib.Path(folder, "prometheus.yml").write_text(config)
        log = open(pathlib.Path(folder, "log"), "w+", encoding="utf-8")
        self.addCleanup(log.close)
        port = processes.free_port()
        server = processes.start(["prometheus", f"--config.file={folder}/prometheus.yml",
                                  f"--storage.tsdb.path={folder}/data",
                                  f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        self.addCleanup(processes.end, server)

        def query(expression):
            if server.poll() is not None:
                log.seek(0)
                raise AssertionError("prometheus ended: " + log.read())
            try:
                _, _, body = fetch(f"http://127.0.0.1:{port}/api/v1/query?query={expression}")
            except (urllib.error.URLError, ConnectionError):
                return None  # not up yet
            result = json.loads(body)["data"]["result"]
            return float(result[0]["value"][1]) if result else None

        wait_until("the first scrape", lambda: query("up") == 1.0, seconds=60)
        self.assertGreaterEqual(query("go_goroutines"), 1)
        self.assertGreater(query("process_resident_memory_bytes"), 1 << 20)
        self.assert_stops_in_order()


if __name__ == "__main__":
    unittest.main()
