"""What scrapers of Go programs insist on, asked of the running service as they ask."""

import gzip
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
        pid = self.service.process.pid
        # Two requests see two instants, between which a task may end.
        for _ in range(100):
            text = self.metrics()
            # Before the listing, for which names are loaded.
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            values = dict(re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE))
            listed = processes.total_of_profile(self.service.debug_text("goroutine?debug=1"))
            if int(values["go_goroutines"]) == listed:
                break
            time.sleep(0.1)
        self.assertEqual(int(values["go_goroutines"]), listed)
        threads = int(re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE).group(1))
        self.assertLessEqual(int(values["go_threads"]), threads)
        self.assertGreaterEqual(int(values["go_threads"]), 2)
        resident = float(values["process_resident_memory_bytes"])
        now = int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE).group(1)) * 1024
        self.assertLess(abs(resident - now), max(64 << 20, now / 2))
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


class ProfileScrapersTest(harness.ServiceTest):
    """Grafana Alloy and Parca: what their sources check before they take a profile, and what Pyroscope relies
    on when it subtracts one scrape from the next."""

    environment = {"WEFT_DEBUG": "blockprofilerate=1,mutexprofilefraction=1,memprofilerate=1"}
    cumulative = ("allocs", "block", "mutex")

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="scraped-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def scrape(self, path):
        # As Go's client asks when it unpacks nothing itself.
        status, headers, body = fetch(self.service.debug_url(path))
        self.assertEqual(status, 200, path)
        self.assertTrue(headers["Content-Type"].startswith("application/octet-stream"), (path, headers["Content-Type"]))
        self.assertNotIn("Content-Encoding", headers)
        self.assertTrue(body, path)
        self.assertNotIn(body[:1], (b"<", b"{", b"["), "taken for HTML or JSON")
        gzip.decompress(body)
        return body

    def samples(self, body):
        """(sample types, {(stack, labels): values}) as google/pprof reads them. A stack is its addresses with
        their functions, since the ids of locations mean something inside one profile only."""
        file = pathlib.Path(self.folder, "profile")
        file.write_bytes(body)
        text = processes.go_pprof(self.folder, "-raw", str(file))
        types, rest = re.search(r"^Samples:\n(.*)\n((?:.*\n)*)Locations\n", text, re.MULTILINE).groups()
        types = [t.replace("[dflt]", "") for t in types.split()]
        places = {}
        for line in text.split("Locations\n", 1)[1].split("Mappings\n", 1)[0].splitlines():
            place = re.match(r" *(\d+): (.*)$", line)
            if place:
                number = place.group(1)
                places[number] = re.sub(r" M=\d+", "", place.group(2))
            else:
                places[number] += " " + line.strip()
        samples = {}
        stack = None
        labels = ""

        def add():
            if stack is not None:
                # Two such samples would make what a scraper subtracts ambiguous.
                self.assertNotIn((stack, labels), samples)
                samples[stack, labels] = values

        for line in rest.splitlines():
            begins = re.match(r"^ *((?:-?\d+ +)*-?\d+): ([\d ]*)$", line)
            if begins:
                add()
                values = list(map(int, begins.group(1).split()))
                stack = tuple(places[number] for number in begins.group(2).split())
                labels = ""
            else:
                labels += line.strip() + ";"
        add()
        return types, samples

    def contend(self):
        """Work that allocates, and tasks that wait for each other."""
        self.run_load("--duration", "1s", "--links", "100", "--connections", "32")

    def test_every_scraped_profile(self):
        self.contend()
        memory = ["alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"]
        delays = ["contentions/count", "delay/nanoseconds"]
        wanted = {
            "allocs": memory,
            "heap": memory,
            "block": delays,
            "mutex": delays,
            "goroutine": ["goroutine/count"],
            "wait": ["samples/count", "delay/nanoseconds"],  # asked for in deploy/
            "profile?seconds=1": ["samples/count", "cpu/nanoseconds"],
        }
        for path, types in wanted.items():
            with self.subTest(path):
                seen, samples = self.samples(self.scrape(path))
                self.assertEqual(seen, types)
                if path.startswith(("block", "goroutine", "wait")):
                    self.assertTrue(samples, "nothing recorded")
        self.assert_stops_in_order()

    def test_cumulative_profiles_never_shrink(self):
        """Pyroscope subtracts scrapes itself, sample by sample: a value that goes down, or a stack that
        vanishes or changes its name, breaks it."""
        before = {}
        for _ in range(3):
            self.contend()
            for name in self.cumulative:
                types, samples = self.samples(self.scrape(name))
                columns = [i for i, t in enumerate(types) if not t.startswith("inuse_")]
                for key, values in before.get(name, {}).items():
                    if any(values[i] for i in columns):
                        self.assertIn(key, samples, f"{name}: a sample has vanished")
                    for i in columns if key in samples else ():
                        self.assertLessEqual(values[i], samples[key][i], (name, types[i], key))
                before[name] = samples
        self.assertTrue(before["block"], "the service's tasks wait for each other")
        if not harness.SANITIZER:  # whose allocator is in weft::malloc's place
            self.assertTrue(before["allocs"])
        self.assert_stops_in_order()

    def test_a_scraper_takes_nothing_from_a_person(self):
        begun = time.monotonic()
        person = processes.start(["curl", "--silent", "--output", pathlib.Path(self.folder, "person"), "--write-out",
                                  "%{http_code}", self.service.debug_url("profile?seconds=3")],
                                 stdout=subprocess.PIPE, text=True)
        self.addCleanup(processes.end, person)
        self.addCleanup(person.stdout.close)
        scrapes = 0
        while person.poll() is None:
            self.scrape("profile?seconds=1")
            scrapes += 1
        self.assertGreaterEqual(time.monotonic() - begun, 3)
        self.assertGreaterEqual(scrapes, 1)
        self.assertEqual(person.stdout.read(), "200")
        text = processes.go_pprof(self.folder, "-top", str(pathlib.Path(self.folder, "person")))
        self.assertRegex(text, r"Duration: 3(\.\d+)?s")
        self.assert_stops_in_order()

    def test_deploy_names_what_is_there(self):
        """What the examples in deploy/ ask for exists."""
        asked = set()
        for file in ("alloy.alloy", "parca.yaml"):
            asked |= set(re.findall(r"/debug/pprof/([a-z]+)", (DEPLOY / file).read_text()))
        self.assertTrue(asked)
        for name in asked:
            self.scrape("profile?seconds=1" if name == "profile" else name)
        self.assert_stops_in_order()


if __name__ == "__main__":
    unittest.main()
