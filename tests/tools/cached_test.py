"""The cache server, asked over HTTP; every value that comes back is compared with what was stored."""

import contextlib
import pathlib
import socket
import threading
import unittest

import harness
from harness import curl
from processes import Failure, Server, wait_until


def value(number, size):
    """Bytes that no other number has."""
    return (f"{number:08x}" * (size // 8 + 1))[:size]


class CachedTest(unittest.TestCase):
    memory = 8  # MiB
    flags = ()

    def setUp(self):
        self.server = Server(harness.PROGRAMS / "cached", "--memory", self.memory, *self.flags)
        self.addCleanup(self.server.close)

    def put(self, key, text, **headers):
        return self.server.ask("PUT", "/cache/" + key, text, headers)[0]

    def get(self, key):
        """The value, or None."""
        status, _, text = self.server.ask("GET", "/cache/" + key)
        self.assertIn(status, (200, 404))
        return text if status == 200 else None

    def collect(self):
        self.server.debug_text("heap?gc=1&debug=1")

    def stats(self):
        return self.server.stats()

    def stop(self):
        self.assertEqual(self.server.stop(), 0, "exit status after SIGTERM")


class EndpointsTest(CachedTest):
    flags = ("--largest", "100000")

    def test_put_get_delete(self):
        url = f"http://{self.server.address}/cache/"
        self.assertEqual(curl(url + "a")[0], 404)
        self.assertEqual(self.put("a", "one", **{"Content-Type": "text/plain"}), 201)
        self.assertEqual(self.put("b/c/d", ""), 201)
        status, headers, body = curl(url + "a")
        self.assertEqual((status, headers["content-type"], body), (200, "text/plain", "one"))
        status, headers, body = curl(url + "b/c/d")
        self.assertEqual((status, headers["content-type"], body), (200, "application/octet-stream", ""))
        self.assertEqual(self.put("a", "two"), 204)
        self.assertEqual(self.get("a"), "two")
        self.assertEqual(self.server.ask("DELETE", "/cache/a")[0], 204)
        self.assertEqual(self.server.ask("DELETE", "/cache/a")[0], 404)
        self.assertIsNone(self.get("a"))
        cache = self.stats()["cache"]
        self.assertEqual((cache["kept"], cache["hits"], cache["misses"], cache["evictions"]), (1, 3, 2, 0))
        self.stop()

    def test_bad_requests(self):
        self.assertEqual(self.put("k" * 250, "x"), 201)
        for key in ("k" * 251, ""):
            self.assertEqual(self.put(key, "x"), 400)
        self.assertEqual(self.put("a", "x" * 100_000), 201)
        status, _, text = self.server.ask("PUT", "/cache/a", "x" * 100_001)
        self.assertEqual(status, 413)
        self.assertIn("100000", text)
        self.assertEqual(self.server.ask("POST", "/cache/a", "x")[0], 405)
        self.assertEqual(self.get("a"), "x" * 100_000)
        self.stop()

    def test_bad_flags(self):
        for flags, word in ((("--memory", "0"), "--memory"), (("--largest", "x"), "--largest"), (("--colour",), "colour")):
            done = harness.subprocess.run([harness.PROGRAMS / "cached", *flags], capture_output=True, text=True,
                                          timeout=60, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(word, done.stderr)


class EvictionTest(CachedTest):
    flags = ("--largest", str(8 << 20))

    def test_keeps_what_was_used_last(self):
        size = 64 << 10
        self.put("favourite", value(0, size))
        for n in range(1, 300):  # 19 MB
            self.put(f"n/{n}", value(n, size))
            self.assertEqual(self.get("favourite"), value(0, size))
        cache = self.stats()["cache"]
        self.assertLessEqual(cache["kept_bytes"], cache["room_bytes"])
        self.assertGreater(cache["kept_bytes"], cache["room_bytes"] * 9 // 10)
        self.assertEqual(cache["evictions"] + cache["kept"], 300)
        self.assertEqual(self.get("n/299"), value(299, size))
        self.stop()

    def drop(self, name):
        """Fills the cache with others until this one is not held any more."""
        for n in range(9):
            self.put(f"{name} not/{n}".replace(" ", "-"), value(n, 1 << 20))

    def test_finds_what_is_still_being_sent(self):
        size = 7 << 20
        self.put("big", value(1, size))
        with contextlib.ExitStack() as sockets:
            slow = sockets.enter_context(socket.socket())
            # Far less fits between server and client than is sent, so the handler waits with the value.
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            host, port = self.server.address.rsplit(":", 1)
            slow.connect((host, int(port)))
            slow.sendall(b"GET /cache/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = slow.recv(1000)
            self.drop("big")
            self.collect()
            before = self.stats()["cache"]
            self.assertGreater(before["evictions"], 0)
            self.assertEqual(self.get("big"), value(1, size))
            after = self.stats()["cache"]
            self.assertEqual((after["revived"] - before["revived"], after["misses"]), (1, before["misses"]))
            # The slow client gets it whole, although it has been dropped meanwhile and memory was collected.
            self.drop("big")
            self.collect()
            while part := slow.recv(1 << 20):
                received += part
            self.assertEqual(received.partition(b"\r\n\r\n")[2].decode(), value(1, size))

        # A word that some stack still shows may hold it for a while.
        def gone():
            self.drop("big")
            self.collect()
            return self.get("big") is None
        wait_until("a miss after the last reader has gone", gone, seconds=120)
        self.stop()


class MixTest(CachedTest):
    memory = 48

    def test_values_stay_what_they_are(self):
        """Several clients at once, over more than fits, while the heap is collected again and again."""
        clients, keys, size = 4, 1500, 100_000  # three times the memory
        wrong, done = [], []
        rounds = 150 * harness.SECONDS

        def client(number):
            state = number + 1
            with contextlib.closing(self.server_connection()) as connection:
                for _ in range(rounds):
                    state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
                    u = (state >> 11) / (1 << 53)
                    key = int(keys * u * u)  # small numbers are more popular
                    connection.request("GET", f"/cache/{key}")
                    answer = connection.getresponse()
                    body = answer.read().decode()
                    if answer.status == 404:
                        connection.request("PUT", f"/cache/{key}", value(key, size))
                        answer = connection.getresponse()
                        answer.read()
                        if answer.status not in (201, 204):
                            wrong.append((key, answer.status))
                    elif answer.status != 200 or body != value(key, size):
                        wrong.append((key, answer.status))
            done.append(number)

        threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        self.assertEqual(sorted(done), list(range(clients)))
        self.assertEqual(wrong, [])
        stats = self.stats()
        cache, heap = stats["cache"], stats["heap"]
        self.assertGreater(cache["evictions"], 0)
        self.assertGreater(heap["cycles"], 0)
        self.assertGreaterEqual(heap["in_use_bytes"], cache["kept_bytes"])
        # What the server takes is bounded by what it keeps, not by what it was sent.
        resident = int(pathlib.Path("/proc", str(self.server.process.pid), "statm").read_text().split()[1]) * 4096
        if not harness.SANITIZER:
            self.assertLess(resident, 6 * (self.memory << 20))
        self.stop()

    def server_connection(self):
        return self.server.connect(seconds=120)


if __name__ == "__main__":
    unittest.main()
