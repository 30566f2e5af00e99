"""Many requests at once: wrk and our own load generator, against the service and against bad servers."""

import json
import re
import socket
import subprocess
import threading
import unittest

import harness
import processes
from processes import wait_until


class WrkTest(harness.ServiceTest):
    def test_64_connections_without_an_error(self):
        code = self.service.create("https://example.com/")
        before = self.service.stats()["endpoints"]["GET /{code}"]["count"]
        done = subprocess.run(["wrk", "--threads", "2", "--connections", "64", "--duration", f"{harness.SECONDS}s",
                               "--timeout", "60s", "--latency", f"http://{self.service.address}/{code}"],
                              capture_output=True, text=True, timeout=harness.SECONDS + 120, check=False)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Socket errors", done.stdout)
        self.assertNotIn("Non-2xx", done.stdout)
        requests = int(re.search(r"(\d+) requests in", done.stdout).group(1))
        self.assertGreater(requests, 64)
        stats = self.service.stats()
        # wrk leaves while its last requests are under way: the service has served those too.
        served = stats["endpoints"]["GET /{code}"]["count"] - before
        self.assertTrue(requests <= served <= requests + 64, (requests, served))
        self.assertEqual(stats["endpoints"]["GET /{code}"]["errors"], 0)
        self.assert_back_to_baseline()
        self.assert_stops_in_order()


class LoadGeneratorTest(harness.ServiceTest):
    def test_closed_loop_agrees_with_the_service(self):
        summary = self.run_load("--connections", 16, "--duration", "2s", "--links", 50,
                                "--mix", "create=10,resolve=60,stats=30")
        endpoints = self.service.stats()["endpoints"]
        kinds = {name: kind["count"] for name, kind in summary["latency_by_kind"].items()}
        self.assertEqual(endpoints["POST /links"]["count"], kinds["create"] + 50)
        self.assertEqual(endpoints["GET /{code}"]["count"], kinds["resolve"])
        self.assertEqual(endpoints["GET /links/{code}"]["count"], kinds["stats"])
        self.assertEqual(sum(kinds.values()), summary["requests"])
        self.assertTrue(all(kinds.values()), kinds)
        clicks = wait_until("all clicks stored", self.all_stored)
        self.assertEqual(clicks["received"], kinds["resolve"])
        self.assert_back_to_baseline()
        self.assert_stops_in_order()

    def all_stored(self):
        clicks = self.service.stats()["clicks"]
        return clicks if clicks["stored"] == clicks["received"] else None

    def test_open_loop_sends_what_was_asked_for(self):
        summary = self.run_load("--connections", 8, "--duration", "3s", "--rate", 100, "--links", 10)
        self.assertEqual(summary["requests"] + summary["unsent"], 300)
        self.assert_stops_in_order()

    def test_clicks_survive_an_end_under_load(self):
        code = self.service.create("https://example.com/")
        for _ in range(500):
            self.assertEqual(self.service.ask("GET", "/" + code)[0], 302)
        database = f"{self.service.folder}/links.db"
        self.assert_stops_in_order()  # at once: the last clicks are still on their way to the database
        again = processes.start([harness.PROGRAMS / "shortlink", "--listen", "127.0.0.1:0", "--db", database],
                                stdout=subprocess.PIPE, text=True)
        self.addCleanup(again.stdout.close)
        self.addCleanup(processes.end, again)
        address = re.search(r"http://([^/]+)/", again.stdout.readline()).group(1)
        status, _, body = self.service.ask("GET", "/links/" + code, address=address)
        self.assertEqual((status, json.loads(body)["clicks"]), (200, 500))
        self.assertEqual(processes.end(again), 0)


class BadServerTest(unittest.TestCase):
    """The load generator tells what is wrong with a server, and says so in its exit status."""

    def serve(self, answer):
        """A server that reads a request and answers with these bytes; its address."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def run():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection):
            with connection:
                created = 0
                try:
                    while request := connection.recv(65536):
                        if request.startswith(b"POST"):
                            created += 1
                            connection.sendall(b"HTTP/1.1 201 Created\r\nLocation: http://x/c%d\r\n"
                                               b"Content-Length: 0\r\n\r\n" % created)
                        elif answer is None:
                            connection.recv(1)  # says nothing until the client leaves
                        else:
                            connection.sendall(answer)
                            if b"100" in answer:  # a body that is never complete
                                return
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        return "127.0.0.1:%d" % listener.getsockname()[1]

    def load(self, address, *more):
        return subprocess.run([harness.PROGRAMS / "load", "--target", address, "--json", "--duration", "1s",
                               "--connections", "4", "--links", "4", "--mix", "resolve=1", *more],
                              capture_output=True, text=True, timeout=120, check=False)

    def assert_counted(self, answer, kind, *more):
        done = self.load(self.serve(answer), *more)
        self.assertEqual(done.returncode, 1, done.stderr)
        errors = json.loads(done.stdout)["errors"]
        self.assertGreater(errors[kind], 0, done.stdout)
        self.assertEqual(errors["total"], errors[kind], done.stdout)
        self.assertIn("load: first error: resolve:", done.stderr)

    def test_status(self):
        self.assert_counted(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status")

    def test_malformed(self):
        self.assert_counted(b"SSH-2.0-hello\r\n\r\n", "malformed")

    def test_cut_off(self):
        self.assert_counted(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "broken")

    def test_timeout(self):
        self.assert_counted(None, "timeout", "--timeout", "300ms")

    def test_good(self):
        done = self.load(self.serve(b"HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["errors"]["total"], 0)

    def test_nobody_there(self):
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
            done = self.load("127.0.0.1:%d" % reserved.getsockname()[1])
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot create links", done.stderr)

    def test_bad_command_line(self):
        for arguments, word in ((["--rate", "0"], "--rate"), (["--mix", "resolve"], "resolve"),
                                (["--mix", "resolve=0"], "weights"), (["--duration", "soon"], "soon"),
                                (["--target", "nowhere"], "HOST:PORT"), (["--colour"], "--colour"),
                                (["--rate"], "needs a value")):
            done = subprocess.run([harness.PROGRAMS / "load", *arguments], capture_output=True, text=True, timeout=60,
                                  check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    unittest.main()
