"""Clients that behave badly harm nobody: others are answered meanwhile, and nothing of theirs stays."""

import contextlib
import socket
import threading
import unittest

import harness
import processes
from processes import wait_until

GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # the start of a TLS handshake
    b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
    b"\x00" * 4096,
    b"GET / HTTP/1.1\r\n\r\n",                                            # no Host
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"POST /links HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /links HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
    b"G" * 100_000,
]


class RudeClientsTest(harness.ServiceTest):
    def setUp(self):
        super().setUp()
        self.code = self.service.create("https://example.com/")

    def connect(self):
        host, port = self.service.address.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), timeout=60)
        self.addCleanup(connection.close)
        return connection

    @contextlib.contextmanager
    def polite_client(self):
        """Somebody who keeps asking meanwhile and must always be answered."""
        leave = threading.Event()
        answers = []

        def ask():
            with contextlib.closing(self.service.connect()) as connection:
                while not leave.is_set():
                    connection.request("GET", "/" + self.code)
                    answer = connection.getresponse()
                    answer.read()
                    answers.append(answer.status)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield answers
            # What came before may have been quick; at least one request must be asked and answered after it.
            seen = len(answers)
            wait_until("the polite client is answered again", lambda: len(answers) > seen)
        finally:
            leave.set()
            thread.join(60)
        self.assertEqual(set(answers), {302})

    def answer_of(self, connection):
        """What came until the server closed; a reset after an answer is an end too."""
        answer = b""
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer

    def test_garbage(self):
        with self.polite_client():
            for _ in range(10):
                for bytes_ in GARBAGE:
                    connection = self.connect()
                    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                        connection.sendall(bytes_)
                        connection.shutdown(socket.SHUT_WR)
                    answer = self.answer_of(connection)
                    if answer:
                        status = int(answer.split(b" ", 2)[1])
                        self.assertIn(status, (400, 414, 431, 505), (bytes_[:60], answer[:200]))
                    connection.close()
        self.assertEqual(self.service.stats()["connections"]["refused_heads"], 10 * len(GARBAGE))
        self.assert_back_to_baseline()
        self.assert_stops_in_order()

    def test_disconnects(self):
        resolve = f"GET /{self.code} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        watch = f"GET /links/{self.code}/watch?seconds=300 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        create = (b"POST /links HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
                  b'{"url": ')
        with self.polite_client():
            for round_ in range(20):
                for part in (b"", resolve[:7], resolve[:-2], create, resolve * 50, resolve * 3 + resolve[:9], watch):
                    connection = self.connect()
                    connection.sendall(part)
                    if round_ % 2:  # a reset instead of an orderly end
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                              (1).to_bytes(4, "little") + (0).to_bytes(4, "little"))
                    connection.close()
        wait_until("no watcher is left", lambda: self.service.stats()["watchers"] == 0, seconds=60)
        self.assert_back_to_baseline()
        endpoints = self.service.stats()["endpoints"]
        self.assertEqual({name: e["errors"] for name, e in endpoints.items() if e["errors"]}, {})
        self.assert_stops_in_order()

    def test_watchers_leave(self):
        """Nothing comes for these handlers, so they have to find out themselves that nobody waits any more."""
        watch = f"GET /links/{self.code}/watch?seconds=300 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        watchers = [self.connect() for _ in range(10)]
        for connection in watchers:
            connection.sendall(watch)
        wait_until("all watch", lambda: self.service.stats()["watchers"] == len(watchers))
        for connection in watchers:
            connection.close()
        wait_until("no watcher is left", lambda: self.service.stats()["watchers"] == 0, seconds=60)
        self.assert_back_to_baseline()
        self.assert_stops_in_order()

    def test_one_byte_per_second(self):
        """A head that trickles in is answered 408 when its time is over; until then it costs no one else."""
        head = f"GET /{self.code} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        slow = [self.connect() for _ in range(20)]
        answers = {}

        def trickle(connection):
            connection.settimeout(1)
            for byte in head:
                try:
                    connection.sendall(bytes([byte]))
                    answer = connection.recv(1024)  # also the pause of a second
                except TimeoutError:
                    continue
                except OSError:
                    answer = b""
                answers[connection] = answer
                return

        with self.polite_client() as polite:
            threads = [threading.Thread(target=trickle, args=(connection,)) for connection in slow]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            self.assertGreater(len(polite), 0)
        self.assertEqual([answers[c].split(b"\r\n")[0] for c in slow], [b"HTTP/1.1 408 Request Timeout"] * len(slow))
        self.assertGreaterEqual(self.service.stats()["connections"]["timeouts"], len(slow))
        for connection in slow:
            connection.close()
        self.assert_back_to_baseline()
        self.assert_stops_in_order()

    def test_reads_nothing(self):
        """A client that asks much and never reads only stops itself."""
        home = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        connection = self.connect()
        connection.settimeout(0.5)
        with self.polite_client():
            with contextlib.suppress(TimeoutError):
                while True:
                    connection.sendall(home * 100)
            wait_until("its handler waits for the peer to read", lambda: any(
                task.reason == "IO wait" and task.runs("weft::http::detail::session")
                for task in processes.tasks_of_dump(self.service.debug_text("goroutine?debug=2"))))
        connection.close()
        self.assert_back_to_baseline()
        self.assert_stops_in_order()


class IdleConnectionsTest(harness.ServiceTest):
    count = 10_000

    def setUp(self):
        harness.allow_descriptors(self.count + 1000)
        super().setUp()

    def test_ten_thousand_idle_connections(self):
        host, port = self.service.address.rsplit(":", 1)
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        idle = []
        self.addCleanup(lambda: [connection.close() for connection in idle])
        for _ in range(self.count):
            connection = socket.create_connection((host, int(port)), timeout=60)
            idle.append(connection)
            # After its first request a connection may be silent for idle_timeout (75 s) instead of 10 s.
            self.ask(connection, request)
        wait_until("all are idle", lambda: self.service.stats()["connections"]["idle"] >= self.count)
        held = self.service.stats()
        print(f"{held['connections']} with {held['tasks']} tasks")
        # An idle connection owns no task.
        self.assertLess(held["tasks"], self.baseline[0] + 100)

        summary = self.run_load("--connections", 16, "--duration", "2s", "--links", 10)
        self.assertGreater(summary["requests"], 0)
        for connection in idle[::10]:
            self.ask(connection, request)
        for connection in idle:
            connection.close()
        self.assert_back_to_baseline()
        self.assert_stops_in_order()

    def ask(self, connection, request):
        connection.sendall(request)
        answer = connection.recv(4096)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)


if __name__ == "__main__":
    unittest.main()
