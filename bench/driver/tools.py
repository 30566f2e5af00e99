"""Finds and builds what is measured: weft's benches (CMake preset `bench`) and the Go peers."""

import os
import shutil
import socket
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build", "bench")
BIN = os.path.join(BUILD, "bench")
TARGETS = {
    "sched": ("weft_bench",),
    "gc": ("weft_bench", "weft_bench_obs"),
    "net": ("bench_load", "bench_raw", "weft_bench_net"),
    "freeze": ("bench_load", "weft_bench_net"),
    "obs": ("bench_load", "weft_bench_obs"),
}


def find_go():
    """Path of the go command, or None. Debian keeps versioned ones out of PATH."""
    found = shutil.which("go")
    if found:
        return found
    for version in ("1.19", "1.20", "1.21", "1.22"):
        path = f"/usr/lib/go-{version}/bin/go"
        if os.access(path, os.X_OK):
            return path
    return None


def _attempt(command, **kwargs):
    """Runs a build step; on failure prints the end of its output and returns False."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **kwargs)
    if done.returncode == 0:
        return True
    print(f"$ {' '.join(command)}\n" + "\n".join(done.stdout.splitlines()[-30:]))
    return False


def build_weft(groups):
    """Builds target by target: one that fails costs its own rows only (their binary is missing)."""
    if not _attempt(["cmake", "--preset", "bench"], cwd=ROOT):
        raise SystemExit("bench: cmake --preset bench failed")
    failed = []
    for target in (t for group in groups for t in TARGETS[group]):
        print(f"building {target}", flush=True)
        if not _attempt(["cmake", "--build", BUILD, "--target", target]):
            failed.append(target)
            # A binary of an older source must not be measured in its place.
            stale = os.path.join(BIN, target)
            if os.path.exists(stale):
                os.remove(stale)
    if "freeze" in groups and os.path.exists(os.path.join(BUILD, "build.ninja")):
        # A peer that needs libboost-fiber1.81-dev; without it there is no such target.
        print("building bench_boost_fiber", flush=True)
        _attempt(["cmake", "--build", BUILD, "--target", "bench_boost_fiber"])
    return failed


def build_go(go, out):
    environment = dict(os.environ, GO111MODULE="on", GOFLAGS="-mod=mod", GOPROXY="off",
                       GOTOOLCHAIN="local")
    print("building gobench", flush=True)
    return _attempt([go, "build", "-o", out, "."], env=environment,
                    cwd=os.path.join(ROOT, "bench", "peers", "go"))


def nginx_command(directory):
    """(command, port) of an nginx that answers like the other hello servers, or None.

    nginx cannot leave out its Server header, so its answers are longer; the report says by how much.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.makedirs(directory, exist_ok=True)
    config = os.path.join(directory, "nginx.conf")
    temporary = "".join(
        f"  {kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(config, "w", encoding="utf-8") as out:
        out.write(
            f"daemon off; master_process off; worker_processes 1;\n"
            f"pid {directory}/pid; error_log stderr crit; worker_rlimit_nofile 65536;\n"
            f"events {{ worker_connections 20000; }}\n"
            f"http {{\n  access_log off; server_tokens off; keepalive_requests 1000000000;\n"
            f"{temporary}"
            f"  server {{\n    listen 127.0.0.1:{port} backlog=4096;\n"
            f"    location / {{ default_type 'text/plain; charset=utf-8';"
            f" return 200 'Hello, world!'; }}\n  }}\n}}\n")
    return [nginx, "-p", directory, "-e", "stderr", "-c", config], port
