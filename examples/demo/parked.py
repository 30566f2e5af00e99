"""Handlers that are parked on purpose, so that a dump has something known to show."""

import http.client
import json
import socket

from processes import Failure, wait_until


class ParkedHandlers:
    """Requests that wait inside their handlers: `watchers` for a click (select), `senders` for the rest of
    their own request bodies (IO wait)."""

    def __init__(self, service, watchers, senders):
        self.service = service
        self.code = service.create("https://example.com/parked")
        self.body = json.dumps({"url": "https://example.com/slow"}).encode()
        self.watchers = []
        self.senders = []
        for _ in range(watchers):
            connection = service.connect(120)
            connection.request("GET", f"/links/{self.code}/watch?seconds=120")
            self.watchers.append(connection)
        host, port = service.address.rsplit(":", 1)
        for _ in range(senders):
            sender = socket.create_connection((host, int(port)), timeout=120)
            sender.sendall(b"POST /links HTTP/1.1\r\nHost: demo\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body[:1])
            self.senders.append(sender)

    def expected(self):
        """{(function of the service, wait reason): how many}"""
        return {("shortlink::service::watch_link", "select"): len(self.watchers),
                ("shortlink::service::create_link", "IO wait"): len(self.senders)}

    def check_dump(self, tasks):
        """Failure unless the dump shows exactly these handlers, each with its wait reason."""
        for (function, reason), count in self.expected().items():
            found = [task for task in tasks if task.runs(function)]
            reasons = sorted(task.reason for task in found)
            if reasons != [reason] * count:
                raise Failure(f"{count} handlers wait in {function} [{reason}], the dump shows {reasons}")
            if len({task.id for task in found}) != count:
                raise Failure(f"the dump shows a handler in {function} twice")

    def wait_parked(self, take_dump):
        """Asks for dumps until one shows them all parked, and returns it. The requests need a moment to get
        there; a dump that loses one of them never satisfies this."""
        def all_there():
            tasks = take_dump()
            self.check_dump(tasks)
            return tasks
        return wait_until("every parked handler is in the dump with its wait reason", all_there)

    def release(self):
        """Lets them all go on and checks what they answer."""
        status, _, text = self.service.ask("GET", "/" + self.code)
        if status != 302:
            raise Failure(f"GET /{self.code} answered {status}: {text}")
        for connection in self.watchers:
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200 or json.loads(text)["code"] != self.code:
                raise Failure(f"a watcher was answered {answer.status}: {text}")
        for sender in self.senders:
            sender.sendall(self.body[1:])
            answer = http.client.HTTPResponse(sender)
            answer.begin()
            if answer.status != 201:
                raise Failure(f"a slow sender was answered {answer.status}: {answer.read()}")

    def close(self):
        for connection in self.watchers + self.senders:
            connection.close()
