"""The endpoints of shortlink, asked by curl."""

import json
import subprocess
import unittest

import harness
from harness import curl
from processes import wait_until

JSON = ("--header", "Content-Type: application/json", "--data-binary")


class ApiTest(harness.ServiceTest):
    def url(self, path):
        return f"http://{self.service.address}{path}"

    def post(self, document):
        return curl(*JSON, json.dumps(document), self.url("/links"))

    def assert_error(self, answer, status, *words):
        self.assertEqual(answer[0], status, answer)
        message = json.loads(answer[2])["error"]
        for word in words:
            self.assertIn(word, message)

    def test_create_resolve_show_delete(self):
        status, headers, body = self.post({"url": "https://example.com/a?b=c#d", "code": "my-link_1"})
        self.assertEqual(status, 201)
        self.assertEqual(json.loads(body), {"code": "my-link_1", "short_url": self.url("/my-link_1")})
        self.assertEqual(headers["location"], self.url("/my-link_1"))

        shown = json.loads(curl(self.url("/links/my-link_1"))[2])
        self.assertEqual((shown["url"], shown["clicks"], shown["last_click"]),
                         ("https://example.com/a?b=c#d", 0, None))
        self.assertRegex(shown["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

        for _ in range(3):
            status, headers, body = curl(self.url("/my-link_1"))
            self.assertEqual((status, headers["location"], body), (302, "https://example.com/a?b=c#d", ""))
        shown = wait_until("three clicks stored", lambda: self.shown_with_clicks("my-link_1", 3))
        self.assertRegex(shown["last_click"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

        self.assertEqual(curl("--request", "DELETE", self.url("/links/my-link_1"))[0], 204)
        # It was in the cache; it must be gone from there too.
        self.assert_error(curl(self.url("/my-link_1")), 404, "my-link_1")
        self.assert_error(curl(self.url("/links/my-link_1")), 404, "my-link_1")
        self.assert_error(curl("--request", "DELETE", self.url("/links/my-link_1")), 404, "my-link_1")
        self.assertEqual(json.loads(curl(self.url("/stats"))[2])["links"], 0)
        self.assert_stops_in_order()

    def shown_with_clicks(self, code, clicks):
        shown = json.loads(curl(self.url("/links/" + code))[2])
        return shown if shown["clicks"] == clicks else None

    def test_form_and_chosen_codes(self):
        status, _, body = curl("--data-urlencode", "url=https://example.com/ä".replace("ä", "%C3%A4"),
                               self.url("/links"))
        self.assertEqual(status, 201)
        code = json.loads(body)["code"]
        self.assertRegex(code, r"^[A-Za-z0-9_-]{7}$")
        self.assertEqual(curl(self.url("/" + code))[1]["location"], "https://example.com/%c3%a4")

        codes = {json.loads(self.post({"url": "https://example.com/"})[2])["code"] for _ in range(20)}
        self.assertEqual(len(codes), 20)
        self.assertEqual(self.post({"url": "http://example.org", "code": "abc"})[0], 201)
        self.assert_error(self.post({"url": "http://example.org", "code": "abc"}), 409, "abc")
        self.assert_stops_in_order()

    def test_page_for_people(self):
        status, headers, body = curl(self.url("/"))
        self.assertEqual((status, headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn('<form method="post" action="/links">', body)
        # What a browser shows after the form was sent; the URL must not become markup.
        status, headers, body = curl("--header", "Accept: text/html", "--data-urlencode",
                                     "url=https://example.com/<script>", self.url("/links"))
        self.assertEqual((status, headers["content-type"]), (201, "text/html; charset=utf-8"))
        self.assertIn("https://example.com/&lt;script&gt;", body)
        self.assertNotIn("<script>", body)
        self.assert_stops_in_order()

    def test_refuses_bad_input(self):
        self.assert_error(curl(*JSON, "{", self.url("/links")), 400, "JSON")
        self.assert_error(curl(*JSON, "[]", self.url("/links")), 400, "object")
        self.assert_error(self.post({}), 400, "url is missing")
        self.assert_error(self.post({"url": 7}), 400, '"url" must be a string')
        self.assert_error(self.post({"url": "https://e.com", "colour": "red"}), 400, "colour")
        for url, word in (("example.com", "http:// or https://"), ("ftp://example.com/", "ftp"),
                          ("javascript://x/%0aalert(1)", "javascript"), ("https://", "host"),
                          ("https:///path", "host"), ("https://user@/", "host"), ("https://:80/", "host"),
                          ("https://example.com/a b", "printable"), ("https://example.com/\r\nX: y", "printable"),
                          ("https://example.com/" + "x" * 2048, "2048")):
            self.assert_error(self.post({"url": url}), 400, word)
        for code, word in (("ab", "3 to 32"), ("x" * 33, "3 to 32"), ("a/b", "A-Z"), ("stats", "reserved"),
                           ("ümlaut", "A-Z")):
            self.assert_error(self.post({"url": "https://example.com/", "code": code}), 400, word)
        self.assert_error(curl("--data-binary", "x", "--header", "Content-Type: text/plain", self.url("/links")), 415,
                          "Content-Type")
        self.assert_error(self.post({"url": "https://example.com/", "code": "x" * 10000}), 413, "8192")
        self.assertEqual(curl("--request", "PUT", self.url("/links"))[0], 405)
        self.assertEqual(curl(self.url("/no/such/page"))[0], 404)
        for seconds in ("0", "301", "-1", "x", "1.5"):
            self.assert_error(curl(self.url(f"/links/abc/watch?seconds={seconds}")), 400, "1 to 300")
        # None of this is the service's failure, nor did it create anything.
        stats = self.service.stats()
        self.assertEqual([e["errors"] for e in stats["endpoints"].values()], [0] * len(stats["endpoints"]))
        self.assertEqual(stats["links"], 0)
        self.assert_stops_in_order()

    def test_watch(self):
        code = self.service.create("https://example.com/")
        self.assertEqual(curl(self.url(f"/links/{code}/watch?seconds=1"))[0], 204)
        watchers = [subprocess.Popen(["curl", "--silent", "--max-time", "60",
                                      self.url(f"/links/{code}/watch?seconds=60")], stdout=subprocess.PIPE, text=True)
                    for _ in range(5)]
        for watcher in watchers:
            self.addCleanup(watcher.communicate)
            self.addCleanup(watcher.kill)
        wait_until("five watchers wait", lambda: self.service.stats()["watchers"] == 5)
        curl(self.url("/" + code))
        for watcher in watchers:
            self.assertEqual(json.loads(watcher.communicate(timeout=60)[0])["code"], code)
        self.assertEqual(self.service.stats()["watchers"], 0)
        self.assert_stops_in_order()

    def test_statistics_and_health(self):
        self.assertEqual(curl(self.url("/healthz"))[2], "ok\n")
        code = self.service.create("https://example.com/")
        for _ in range(10):
            curl(self.url("/" + code))
        curl(self.url("/unknown"))
        stats = json.loads(curl(self.url("/stats"))[2])
        resolve = stats["endpoints"]["GET /{code}"]
        self.assertEqual((resolve["count"], resolve["rejected"], resolve["errors"]), (11, 1, 0))
        self.assertGreater(resolve["mean_ns"], 0)
        self.assertGreaterEqual(resolve["p99_ns"], resolve["p50_ns"])
        self.assertEqual((stats["cache"]["misses"], stats["cache"]["hits"]), (2, 9))
        self.assertEqual(stats["clicks"]["received"], 10)
        self.assertEqual(stats["endpoints"]["POST /links"]["count"], 1)
        self.assert_stops_in_order()

    def test_head_and_keep_alive(self):
        code = self.service.create("https://example.com/")
        accepted = self.service.stats()["connections"]["accepted"]
        done = subprocess.run(["curl", "--silent", "--head", self.url("/" + code), self.url("/healthz")],
                              capture_output=True, text=True, check=True, timeout=60)
        self.assertEqual([line for line in done.stdout.splitlines() if line.startswith("HTTP/")],
                         ["HTTP/1.1 302 Found", "HTTP/1.1 200 OK"])
        # One connection for both, and one for asking.
        self.assertEqual(self.service.stats()["connections"]["accepted"], accepted + 2)
        self.assert_stops_in_order()


class SmallCacheTest(harness.ServiceTest):
    extra_flags = ("--cache", "2")

    def test_least_recently_used_goes_first(self):
        a, b, c = (self.service.create(f"https://example.com/{i}") for i in range(3))
        for code in (a, b, a, c, a, b):  # c evicts b, then b evicts c; a stays all the time
            self.assertEqual(self.service.ask("GET", "/" + code)[0], 302)
        cache = self.service.stats()["cache"]
        self.assertEqual(cache, {"size": 2, "capacity": 2, "hits": 2, "misses": 4, "evictions": 2})
        self.assert_stops_in_order()


if __name__ == "__main__":
    unittest.main()
