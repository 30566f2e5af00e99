"""scripts/bench: measures weft next to its peers. bench/README.md explains rows and columns."""

import argparse
import os
import resource
import statistics
import sys

import measure
import peers
import report
import rows
import tools

GROUPS = {"sched": rows.SCHED, "gc": rows.GC, "net": rows.NET, "freeze": rows.FREEZE,
          "obs": rows.OBS}
RUN = {"sched": measure.sched, "gc": measure.sched, "net": measure.net, "freeze": measure.freeze,
       "obs": measure.obs}


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("group", choices=[*GROUPS, "all"], nargs="?", default="all")
    parser.add_argument("--pairs", type=int, help="rounds per row (default 5, with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="three short rounds")
    parser.add_argument("--rows", default="", metavar="A,B",
                        help="only rows whose name starts with one of these")
    parser.add_argument("--list", action="store_true", help="print the rows and their bars")
    parser.add_argument("--syscalls", action="store_true",
                        help="also count system calls per request (strace)")
    parser.add_argument("--require", type=float, metavar="R",
                        help="exit 3 if weft takes more than R times Go's time in any row")
    parser.add_argument("--strict", action="store_true", help="exit 3 if any bar is missed")
    parser.add_argument("--bin", metavar="DIR",
                        help="build nothing, measure the programs in DIR")
    parser.add_argument("--out", metavar="DIR", default=os.path.join(tools.ROOT, "bench", "out"),
                        help="where the file with all runs goes (default bench/out)")
    parser.add_argument("--peers", default=",".join(peers.SIDES), metavar="A,B",
                        help="sides beside weft, of: %(default)s; or none")
    options = parser.parse_args()
    options.peers = {p.strip() for p in options.peers.split(",") if p.strip()} - {"none"}
    if unknown := options.peers - set(peers.SIDES):
        parser.error(f"--peers: {', '.join(sorted(unknown))} is none of {', '.join(peers.SIDES)}")
    if options.pairs is not None and not 1 <= options.pairs <= 1000:
        parser.error(f"--pairs {options.pairs} is not from 1 to 1000")
    return options


def chosen(options):
    groups = list(GROUPS) if options.group == "all" else [options.group]
    prefixes = tuple(p.strip() for p in options.rows.split(",") if p.strip())
    picked = [(g, [r for r in GROUPS[g] if not prefixes or r.label.startswith(prefixes)])
              for g in groups]
    picked = [(g, r) for g, r in picked if r]
    if not picked:
        names = ", ".join(r.label for g in groups for r in GROUPS[g])
        raise SystemExit(f"bench: --rows={options.rows} names none of: {names}")
    return picked


def prepare(options, groups):
    """Builds, and says which sides can run."""
    bin_directory = os.path.abspath(options.bin) if options.bin else tools.BIN
    gobench = os.path.join(bin_directory, "gobench")
    if not options.bin:
        tools.build_weft(groups)
    has_go = False
    if "go" in options.peers:
        if options.bin:
            has_go = os.access(gobench, os.X_OK)
        else:
            go = tools.find_go()
            # Go missing is a smaller table; Go present and its peers not building is a failure.
            has_go = go is not None
            if has_go and not tools.build_go(go, gobench) and os.path.exists(gobench):
                os.remove(gobench)
        if not has_go:
            print("Go is not installed: no figures of Go, bars against it are not judged")
    setup = measure.Setup(
        bin=bin_directory, pairs=options.pairs or (3 if options.quick else 5),
        quick=options.quick, go=has_go, raw="raw" in options.peers,
        measure_ms=1000 if options.quick else 2000)
    # Only what takes part in a row that is to run.
    used = {side for group in ("sched", "gc") if group in groups
            for row in GROUPS[group] for side in row.sides}
    setup.peers = peers.prepare(options.peers & used, bin_directory, build=not options.bin)
    if "net" in groups or "obs" in groups:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) >= 2:
            setup.server_core, setup.load_core = cores[:2]
        else:
            print("one core only: server and generator share it, compare CPU per request alone")
        if "net" in groups and "nginx" in options.peers:
            setup.nginx = tools.nginx_command(os.path.join(bin_directory, "nginx"))
        # 10 000 connections need as many descriptors on both sides; children inherit the limit.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return setup


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}" if text else "\r\x1b[K")
        sys.stderr.flush()


def run_groups(picked, setup, options):
    """Runs all rows, printing as they come; returns their results."""
    done = []
    for group, group_rows in picked:
        report.print_header(f"{group}: medians of {setup.pairs} interleaved rounds"
                            f"{', short' if setup.quick else ''}; lower is better")
        for row in group_rows:
            run = measure.obs if isinstance(row, rows.ObsRow) else RUN[group]
            result = run(row, setup, progress)
            progress("")
            report.print_row(result)
            if group == "net":
                report.print_net_details(result)
            sys.stdout.flush()
            done.append(result)
        if group == "net" and options.syscalls:
            result = measure.syscalls(rows.SYSCALLS, setup, progress)
            progress("")
            report.print_row(result)
            done.append(result)
    return done


def verdict(done, options):
    """Exit code and the closing lines."""
    failed = [r.row.label for r in done if report.fails(r)]
    judged = [report.judge(r, b)[1] for r in done for b in r.row.bars]
    print(f"\n{len(done)} rows: {judged.count('met')} bars met, {judged.count('missed')} missed, "
          f"{judged.count('undecided')} undecided, "
          f"{judged.count('-')} not judged, {len(failed)} rows with failed runs")
    code = 1 if failed else 0
    if failed:
        print("failed: " + ", ".join(failed))
    ahead = [f"{r.row.label}: " + ", ".join(f"{side} ({ratio:.2f})" for side, ratio in better)
             for r in done if (better := report.ahead(r))]
    if ahead:
        print("ahead of weft (weft/peer):\n  " + "\n  ".join(ahead))
    if options.require is not None:
        slow = []
        for result in done:
            values = report.ratios(result, result.row.figure, "go")
            if result.row.is_time and values and statistics.median(values) > options.require:
                slow.append(f"{result.row.label} ({statistics.median(values):.2f})")
        if slow:
            print(f"slower than {options.require:g} × Go: " + ", ".join(slow))
            code = code or 3
    if options.strict and "missed" in judged:
        code = code or 3
    return code


def main():
    options = parse()
    picked = chosen(options)
    if options.list:
        for group, group_rows in picked:
            for row in group_rows:
                print(f"{group:<6} {row.label:<20} {row.figure:<22} "
                      + ", ".join(map(str, row.bars)))
        return 0
    groups = [group for group, _ in picked]
    setup = prepare(options, groups)
    try:
        done = run_groups(picked, setup, options)
    except KeyboardInterrupt:
        progress("")
        print("interrupted")
        return 130
    path = report.write_json(tools.ROOT, options.out, groups, setup, done)
    print(f"\nall runs: {os.path.relpath(path)}")
    return verdict(done, options)


if __name__ == "__main__":
    sys.exit(main())
