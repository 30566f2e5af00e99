"""Child processes: run with a deadline, pinned, never left behind; figures read from their output."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time


class RunFailed(Exception):
    """A run that gave no figures; the text says why and is shown in the row's place."""


class NotExpressed(Exception):
    """The program says that its runtime has no such thing as the row asks for; the text says what."""


NOT_EXPRESSED = 4  # exit code of such a program


def _pin(core):
    if core is None:
        return None
    return lambda: os.sched_setaffinity(0, {core})


def _kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _start(command, core, **streams):
    if not os.access(command[0], os.X_OK):
        raise RunFailed(f"{os.path.basename(command[0])} is not built")
    # An own session, so that a timeout can kill whatever the child has started as well.
    return subprocess.Popen(command, start_new_session=True, preexec_fn=_pin(core), text=True,
                            stdin=subprocess.DEVNULL, **streams)


def figures(line):
    """{'row': 'switch', 'ns_per_op': 57.9} from 'row=switch ns_per_op=57.9'; 'percent=1,2' is a list."""
    result = {}
    for word in line.split():
        name, equals, value = word.partition("=")
        if equals:
            try:
                numbers = [float(number) for number in value.split(",")]
                result[name] = numbers if len(numbers) > 1 else numbers[0]
            except ValueError:
                result[name] = value
    return result


def run(command, timeout, core=None):
    """Runs to the end and returns the figures of the last output line."""
    process = _start(command, core, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.communicate()
        raise RunFailed(f"no result after {timeout} s") from None
    except BaseException:
        _kill(process)
        raise
    if process.returncode != 0:
        lines = [line for line in err.splitlines() if line.strip()]
        if process.returncode == NOT_EXPRESSED and lines:
            raise NotExpressed(lines[0].strip())
        reason = f": {lines[0].strip()}" if lines else ""
        raise RunFailed(f"{_end(process.returncode)}{reason}")
    lines = out.splitlines()
    if not lines or "=" not in lines[-1]:
        raise RunFailed("printed no figures")
    return figures(lines[-1])


def _end(code):
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _ready_port(process, seconds):
    """Waits for the server's line 'ready port=N'."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and selector.select(left):
            line = process.stdout.readline()
            if not line:
                if process.wait() == NOT_EXPRESSED:
                    raise NotExpressed("has no such switch")
                raise RunFailed(f"server ended before it was ready, {_end(process.wait())}")
            if line.startswith("ready port="):
                return int(figures(line)["port"])
    raise RunFailed(f"server not ready after {seconds} s")


@contextlib.contextmanager
def server(command, core, fixed_port=None, last_figures=None):
    """Yields (pid, port) of a running server. One with fixed_port says nothing when ready.

    The figures of the line that the server prints at SIGTERM are put into last_figures.
    """
    process = _start(command, core, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if fixed_port is None:
            port = _ready_port(process, 10)
        else:
            port = fixed_port
            _wait_for_listener(process, port, 10)
        yield process.pid, port
        if process.poll() is not None:
            raise RunFailed(f"server ended under load, {_end(process.returncode)}")
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        if last_figures is not None and process.poll() is not None:
            lines = process.stdout.read().splitlines()
            last_figures.update(figures(lines[-1]) if lines else {})
        _kill(process)
        process.stdout.close()


def _wait_for_listener(process, port, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RunFailed(f"server does not listen on port {port}")
