"""scripts/demo --check: the demo for ten seconds without a terminal, and what must hold.

The number of live tasks changes while requests come and go, so it is compared when the load is over and
only handlers parked on purpose are left. The service itself is asked before and after the profiles were
taken; both answers must agree, and each counts one task more than the profiles do: the handler that gave
it, on a connection that ended with it.
"""

import json
import subprocess
import time

import processes
from parked import ParkedHandlers
from processes import Failure, wait_until

LOAD_SECONDS = 10
PROFILE_SECONDS = 5
WATCHERS, SENDERS = 8, 4


class Checks:
    """Collects what held and what did not."""

    def __init__(self):
        self.failed = 0

    def run(self, what, check):
        try:
            detail = check()
        except (Failure, OSError, subprocess.SubprocessError, ValueError, KeyError) as failure:
            self.failed += 1
            print(f"FAILED  {what}: {failure}", flush=True)
        else:
            print(f"ok      {what}{': ' + detail if detail else ''}", flush=True)


def start_load(program, service, links):
    return processes.start([program, "--target", service.address, "--duration", f"{LOAD_SECONDS}s", "--links", links,
                            "--json", "--progress", "always"], stdout=subprocess.PIPE, text=True)


def check_cpu_profile(service, load):
    top = processes.go_pprof(service.folder, "-top", "-nodefraction=0", "-edgefraction=0", "-nodecount=100000",
                             service.debug_url(f"profile?seconds={PROFILE_SECONDS}"))
    if load.poll() is not None:
        raise Failure("the load ended before the profile did")
    if "\nType: cpu\n" not in top:
        raise Failure(f"pprof does not call it a CPU profile:\n{top[:400]}")
    names = {name for name, _, _ in processes.functions_in_top(top)}
    of_service = sorted(name for name in names if "shortlink::" in name)
    of_runtime = sorted(name for name in names if name.startswith("weft::"))
    if not any("shortlink::service::resolve" in name for name in of_service):
        raise Failure(f"it does not name shortlink::service::resolve, which most requests ask for:\n{top[:2000]}")
    if not any(name.startswith("weft::sched::") for name in of_runtime):
        raise Failure(f"it names no function of the scheduler (weft::sched::…):\n{top[:2000]}")
    return f"{len(of_service)} functions of the service, {len(of_runtime)} of the runtime"


def check_under_load(service):
    """Dumps taken while everything moves are still consistent in themselves."""
    total = processes.total_of_profile(service.debug_text("goroutine?debug=1"))
    tasks = processes.tasks_of_dump(service.debug_text("goroutine?debug=2"))
    if len({task.id for task in tasks}) != len(tasks):
        raise Failure("a task appears twice in goroutine?debug=2")
    return f"{total} tasks in debug=1, {len(tasks)} in debug=2"


def check_load(service, load, links):
    """Zero errors, by the books of both sides."""
    out, _ = load.communicate(timeout=120)
    if not out.strip():
        raise Failure(f"the load generator ended with {load.returncode} and no summary")
    summary = json.loads(out)
    if load.returncode != 0 or summary["errors"]["total"] != 0 or summary["requests"] == 0:
        raise Failure(f"exit status {load.returncode}, {summary['requests']} requests, errors {summary['errors']}")
    endpoints = service.stats()["endpoints"]
    wrong = {name: e for name, e in endpoints.items() if e["errors"] or e["rejected"]}
    if wrong:
        raise Failure(f"the service counts errors: {wrong}")
    kinds = summary["latency_by_kind"]
    for endpoint, sent in (("POST /links", kinds["create"]["count"] + links),
                           ("GET /{code}", kinds["resolve"]["count"]),
                           ("GET /links/{code}", kinds["stats"]["count"])):
        if endpoints[endpoint]["count"] != sent:
            raise Failure(f"{endpoint}: {sent} sent, {endpoints[endpoint]['count']} counted by the service")
    latency = summary["latency"]
    return (f"{summary['requests']} requests, {summary['requests_per_second']:.0f} per second, "
            f"p50 {latency['p50_ms']:.2f} ms, p99 {latency['p99_ms']:.2f} ms")


def check_clicks(service):
    """The pipeline stores every click, soon after."""
    def stored():
        clicks = service.stats()["clicks"]
        return clicks if clicks["stored"] == clicks["received"] else None
    clicks = wait_until("every click is in the database", stored)
    if clicks["failed_batches"]:
        raise Failure(f"{clicks['failed_batches']} batches could not be stored")
    return f"{clicks['received']} clicks in {clicks['batches']} transactions"


def check_parked(service, parked):
    tasks = parked.wait_parked(lambda: processes.tasks_of_dump(service.debug_text("goroutine?debug=2")))
    shown = [f"{count} × {function} [{reason}]" for (function, reason), count in parked.expected().items()]
    return f"{', '.join(shown)} among {len(tasks)} tasks"


def check_total(service):
    def agree():
        before = service.stats()["tasks"]
        totals = {
            "goroutine?debug=1": processes.total_of_profile(service.debug_text("goroutine?debug=1")),
            "goroutine?debug=2": len(processes.tasks_of_dump(service.debug_text("goroutine?debug=2"))),
            "go tool pprof": total_in_proto(service),
            "index": processes.total_of_index(service.debug_text("")),
        }
        after = service.stats()["tasks"]
        if before != after:
            raise Failure(f"the service had {before} tasks before and {after} after the profiles were taken")
        if set(totals.values()) != {before - 1}:
            raise Failure(f"{before - 1} tasks live, but {totals}")
        return f"{before - 1} live tasks, and {', '.join(totals)} say the same"
    # The tasks of connections that have just ended may need a moment; a wrong count stays wrong.
    return wait_until("the profiles and the service agree on the number of tasks", agree)


def total_in_proto(service):
    top = processes.go_pprof(service.folder, "-top", service.debug_url("goroutine"))
    for line in top.splitlines():
        if line.startswith("Showing nodes accounting for"):
            return int(line.split(" of ")[1].split()[0])
    raise Failure(f"pprof shows no total:\n{top}")


def check_end(service):
    status = service.stop()
    if status != 0:
        raise Failure(f"after SIGTERM the service ended with status {status}")
    return "exit status 0"


def run(programs):
    """Exit status for the shell."""
    checks = Checks()
    links = 1000
    with processes.Service(programs / "shortlink") as service:
        print(f"service on http://{service.address}/, debug server on http://{service.debug}/debug/pprof/", flush=True)
        load = start_load(programs / "load", service, links)
        parked = None
        try:
            time.sleep(1)
            checks.run("tasks under load", lambda: check_under_load(service))
            checks.run("CPU profile under load, by go tool pprof -top", lambda: check_cpu_profile(service, load))
            checks.run("load without errors", lambda: check_load(service, load, links))
            checks.run("clicks stored", lambda: check_clicks(service))
            parked = ParkedHandlers(service, WATCHERS, SENDERS)
            checks.run("parked handlers in goroutine?debug=2", lambda: check_parked(service, parked))
            checks.run("number of tasks", lambda: check_total(service))
            checks.run("parked handlers go on", parked.release)
        finally:
            if parked is not None:
                parked.close()
            processes.end(load)
        checks.run("orderly end", lambda: check_end(service))
    print("demo: all checks held" if checks.failed == 0 else f"demo: {checks.failed} checks FAILED")
    return 0 if checks.failed == 0 else 1
