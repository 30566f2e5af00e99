"""Starting the example service and asking it questions: what the demo and tests/tools/ share."""

import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """Something that must hold did not."""


def die_with_parent():
    """In the child: even a killed parent leaves nothing running."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(arguments, **options):
    """A child in a session of its own: Ctrl-C reaches the parent only, who then ends it in order."""
    return subprocess.Popen([str(a) for a in arguments], start_new_session=True, preexec_fn=die_with_parent, **options)


def end(process, signal_number=signal.SIGTERM, seconds=30):
    """Ends a child, in order if it lets itself be, and returns its exit status."""
    if process.poll() is None:
        process.send_signal(signal_number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def wait_until(what, condition, seconds=30):
    """Returns the first true value of condition(); Failure after `seconds`, naming `what`. A condition may
    raise Failure to say what is still missing."""
    deadline = time.monotonic() + seconds
    while True:
        missing = ""
        try:
            value = condition()
            if value:
                return value
        except Failure as failure:
            missing = f" ({failure})"
        if time.monotonic() > deadline:
            raise Failure(f"after {seconds} s still not: {what}{missing}")
        time.sleep(0.02)


class Server:
    """A running HTTP service of the examples, with its debug server. As a context manager it ends the process."""

    def __init__(self, program, *arguments, listen="127.0.0.1:0", debug="127.0.0.1:0", environment=None):
        self.output = []
        self.process = None
        self._collector = None
        try:
            self.process = start([program, "--listen", listen, "--debug", debug, *arguments],
                                 stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
            self.debug = self._address_in(r"debug server on http://([^/]+)/")
            self.address = self._address_in(r"listening on http://([^/]+)/")
        except BaseException:
            self.close()
            raise
        # Nobody else reads the pipe: without this the service would block once it is full.
        self._collector = threading.Thread(target=self._collect, daemon=True)
        self._collector.start()

    def _address_in(self, pattern):
        line = self.process.stdout.readline()
        found = re.search(pattern, line)
        if not found:
            raise Failure(f"the service did not start: it said {line!r}")
        return found.group(1)

    def _collect(self):
        for line in self.process.stdout:
            self.output.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def stop(self):
        """SIGTERM; returns the exit status."""
        return end(self.process)

    def close(self):
        if self.process is not None:
            end(self.process, signal.SIGKILL)
            if self._collector is not None:
                self._collector.join()
            self.process.stdout.close()

    # -- HTTP

    def connect(self, seconds=30):
        host, port = self.address.rsplit(":", 1)
        return http.client.HTTPConnection(host, int(port), timeout=seconds)

    def ask(self, method, path, body=None, headers=None, address=None, seconds=60):
        """One request on a connection of its own, which ends with it. (status, headers, body as text)"""
        host, port = (address or self.address).rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")

    def stats(self):
        status, _, text = self.ask("GET", "/stats")
        if status != 200:
            raise Failure(f"GET /stats answered {status}: {text}")
        return json.loads(text)

    def debug_text(self, path):
        status, _, text = self.ask("GET", "/debug/pprof/" + path, address=self.debug)
        if status != 200:
            raise Failure(f"/debug/pprof/{path} answered {status}: {text}")
        return text

    def debug_url(self, path):
        return f"http://{self.debug}/debug/pprof/{path}"


class Service(Server):
    """A running shortlink with a database of its own."""

    def __init__(self, program, listen="127.0.0.1:0", debug="127.0.0.1:0", extra=(), environment=None):
        self.folder = tempfile.mkdtemp(prefix="shortlink-")
        super().__init__(program, "--db", pathlib.Path(self.folder, "links.db"), *extra, listen=listen, debug=debug,
                         environment=environment)

    def close(self):
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self, url, code=None):
        """Creates a link and returns its code."""
        body = json.dumps({"url": url, **({"code": code} if code else {})})
        status, _, text = self.ask("POST", "/links", body, {"Content-Type": "application/json"})
        if status != 201:
            raise Failure(f"POST /links answered {status}: {text}")
        return json.loads(text)["code"]


def free_port():
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- what the debug endpoints answer


class Task:
    """One block of goroutine?debug=2."""

    def __init__(self, block):
        lines = block.splitlines()
        header = re.fullmatch(r"goroutine (\d+) \[(.+)\](?: \{.*\})?:", lines[0])
        if not header:
            raise Failure(f"not the first line of a task: {lines[0]!r}")
        self.id = int(header.group(1))
        # "IO wait, 2 minutes, name \"accept\"": the first part is the state or wait reason.
        self.reason = header.group(2).split(",")[0]
        self.functions = [line for line in lines[1:] if not line.startswith("\t")]

    def runs(self, function):
        return any(function in line for line in self.functions)


def tasks_of_dump(text):
    return [Task(block) for block in text.strip().split("\n\n")]


def total_of_profile(text):
    """The total of goroutine?debug=1; Failure unless it is the sum of the records."""
    header = re.match(r"goroutine profile: total (\d+)\n", text)
    if not header:
        raise Failure(f"not a goroutine profile: {text[:80]!r}")
    records = [int(n) for n in re.findall(r"^(\d+) @(?: 0x[0-9a-f]+)+$", text, re.MULTILINE)]
    if sum(records) != int(header.group(1)):
        raise Failure(f"the goroutine profile says total {header.group(1)}, its records sum up to {sum(records)}")
    return int(header.group(1))


def total_of_index(text):
    found = re.search(r"<tr><td>(\d+)</td><td><a href='goroutine\?debug=1'>", text)
    if not found:
        raise Failure("the index does not list the goroutine profile")
    return int(found.group(1))


def go_pprof(folder, *arguments, seconds=120):
    """Runs go tool pprof and returns what it printed. `folder` takes the profiles it saves."""
    go = shutil.which("go") or "/usr/lib/go-1.19/bin/go"
    environment = {**os.environ, "PPROF_TMPDIR": str(folder), "HOME": os.environ.get("HOME", str(folder))}
    done = subprocess.run([go, "tool", "pprof", *arguments], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds, env=environment, check=False)
    if done.returncode != 0:
        raise Failure(f"go tool pprof {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def functions_in_top(text):
    """[(name, flat, cum)] of the rows of pprof -top."""
    row = re.compile(r"^ *(\S+) +\S+% +\S+% +(\S+) +\S+% +(.+?)(?: \((?:partial-)?inline\))?$", re.MULTILINE)
    return [(name, flat, cum) for flat, cum, name in row.findall(text)]
