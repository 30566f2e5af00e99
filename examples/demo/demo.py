"""The demo behind scripts/demo: the example service under load until Ctrl-C, or a check of it."""

import argparse
import pathlib
import signal
import socket
import subprocess
import sys
import time

import check
import processes


class Interrupted(Exception):
    """A signal asked for the end."""


def interrupt(number, _frame):
    raise Interrupted(signal.Signals(number).name)


def port_number(text):
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError
    return port


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Runs the example service under load.")
    parser.add_argument("--check", action="store_true", help="ten seconds without a terminal, on free ports; the exit "
                                                             "status says whether everything held that must")
    parser.add_argument("--port", type=port_number, default=8080, help="of the service (default %(default)s)")
    parser.add_argument("--debug-port", type=port_number, default=6060, help="of its debug server (default %(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="of the load generator (default %(default)s)")
    parser.add_argument("--programs", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def require_free(port, option):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise processes.Failure(f"port {port} of 127.0.0.1 cannot be used: {error.strerror}; "
                                    f"choose another one with {option}") from error


def print_urls(service):
    print(f"""
  service          http://{service.address}/
  its statistics   http://{service.address}/stats
  all profiles     http://{service.debug}/debug/pprof/
  every task       http://{service.debug}/debug/pprof/goroutine?debug=2
  CPU profile      go tool pprof http://{service.debug}/debug/pprof/profile?seconds=5

Ctrl-C ends it.
""", flush=True)


def run(arguments):
    require_free(arguments.port, "--port")
    require_free(arguments.debug_port, "--debug-port")
    with processes.Service(arguments.programs / "shortlink", f"127.0.0.1:{arguments.port}",
                           f"127.0.0.1:{arguments.debug_port}") as service:
        print_urls(service)
        load = processes.start([arguments.programs / "load", "--target", service.address, "--duration", "0",
                                "--connections", arguments.connections, "--progress", "always"])
        try:
            while load.poll() is None and service.process.poll() is None:
                time.sleep(0.2)
        except Interrupted:
            print("\nstopping", flush=True)
            load_status = processes.end(load, signal.SIGINT)
            return load_status or service.stop()
        finally:
            processes.end(load)
        if service.process.poll() is not None:
            raise processes.Failure(f"the service ended unasked, status {service.process.returncode}")
        raise processes.Failure(f"the load generator ended unasked, status {load.returncode}")


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    arguments = parse_arguments()
    try:
        return check.run(arguments.programs) if arguments.check else run(arguments)
    except (processes.Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    except Interrupted as signal_name:
        print(f"demo: ended by {signal_name}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
