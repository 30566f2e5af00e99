"""Turns results into verdicts, the table on the terminal and the JSON file."""

import json
import os
import platform
import statistics
import subprocess
import time

import paired

def interval(result, side, figure):
    """(estimate, low, high) of a paired row's figure, from the windows of all rounds."""
    runs = [r[figure] for r in result.runs.get(side, []) if r]
    return paired.estimate([v for run in runs for v in (run if isinstance(run, list) else [run])])


def is_paired(result):
    return getattr(result.row, "paired", False)


def median(result, side, figure):
    if is_paired(result):
        return interval(result, side, figure)[0]
    values = [r[figure] for r in result.runs.get(side, []) if r]
    return statistics.median(values) if values else None


def ratios(result, figure, peer):
    """weft / peer of each round in which both ran; none of differences, which may be 0 or less."""
    if is_paired(result):
        return []
    pairs = zip(result.runs.get("weft", []), result.runs.get(peer, []))
    return [a[figure] / b[figure] for a, b in pairs if a and b and b[figure] > 0]


def judge(result, bar):
    """(value compared with the bar's factor, 'met' | 'missed' | 'undecided' | '-')."""
    figure = result.row.figure
    if is_paired(result):
        value, low, high = interval(result, "weft", figure)
        return value, "-" if value is None else paired.verdict(low, high, bar.factor)
    if bar.peer == "limit":
        value = median(result, "weft", figure)
    else:
        values = ratios(result, figure, bar.peer)
        value = statistics.median(values) if values else None
    if value is None:
        return None, "-"
    return value, "met" if value <= bar.factor else "missed"


def fails(result):
    """Whether the run has failed its purpose here: weft, Go or a side with a bar gave no figure.

    A peer that is there for comparison may crash; its line says so.
    """
    needed = {"weft", "go"} | {bar.peer for bar in result.row.bars}
    return bool(needed & set(result.failures)) or "weft" in result.lacks


def ahead(result):
    """The sides faster or smaller than weft, with weft / side."""
    found = []
    for side in result.sides:
        values = ratios(result, result.row.figure, side) if side != "weft" else []
        if values and statistics.median(values) > 1:
            found.append((side, statistics.median(values)))
    return found


def _number(value):
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{digits}f}".replace(",", " ")


HEADER = ("row", "unit", "weft", "peer", "weft/peer", "spread", "bar", "verdict")
WIDTHS = (22, 4, 10, 10, 9, 13, 14, 9)


def _line(cells):
    return "  ".join(str(c).ljust(w) if i in (0, 1, 6) else str(c).rjust(w)
                     for i, (c, w) in enumerate(zip(cells, WIDTHS))).rstrip()


def print_header(title):
    print(f"\n{title}\n{_line(HEADER)}\n{'-' * 103}", flush=True)


def print_row(result):
    row = result.row
    figure, bars = row.figure, row.bars
    to_go = ratios(result, figure, "go")
    spread = f"{min(to_go):.2f}..{max(to_go):.2f}" if to_go else ""
    if is_paired(result) and median(result, "weft", figure) is not None:
        spread = "{1:+.2f}..{2:+.2f}".format(*interval(result, "weft", figure))
    # The first line carries the bar against Go or the limit; the others follow below it.
    first = next((b for b in bars if b.peer in ("go", "limit")), None)
    verdict = judge(result, first)[1] if first else ""
    if "weft" in result.failures:
        verdict = "FAILED"
    print(_line((row.label, row.unit, _number(median(result, "weft", figure)),
                 _number(median(result, "go", figure)),
                 f"{statistics.median(to_go):.2f}" if to_go else "–", spread, first or "",
                 verdict)))
    for peer in (side for side in result.sides if side not in ("weft", "go")):
        if peer in result.lacks:
            print(f"  against {peer}".ljust(WIDTHS[0]) + f"  –: {result.lacks[peer]}")
            continue
        bar = next((b for b in bars if b.peer == peer), None)
        to_peer = ratios(result, figure, peer)
        print(_line((f"  against {peer}", "", "", _number(median(result, peer, figure)),
                     f"{statistics.median(to_peer):.2f}" if to_peer else "–",
                     f"{min(to_peer):.2f}..{max(to_peer):.2f}" if to_peer else "", bar or "",
                     judge(result, bar)[1] if bar else "")))
    for side, why in result.failures.items():
        failed = result.runs[side].count(None)
        print(f"    {side} FAILED {failed} of {len(result.runs[side])} runs: {why}")
    for note in result.notes:
        print(f"    note: {note}")


def print_net_details(result):
    """Throughput, latency and how busy the generator was: at > 90 % the server was not the limit."""
    for side in result.sides:
        if median(result, side, "rps"):
            print("    {:<6}{:>9} req/s  CPU {:>6} µs  p50 {:>8} µs  p99 {:>8} µs  p99.9 {:>8} µs"
                  "  generator {:.0%} busy".format(
                      side, _number(median(result, side, "rps")),
                      _number(median(result, side, "server_cpu_us")),
                      _number(median(result, side, "p50_us")),
                      _number(median(result, side, "p99_us")),
                      _number(median(result, side, "p999_us")),
                      median(result, side, "load_busy")))


def _machine():
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release()}


def _commit(root):
    done = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write_json(root, out, groups, setup, results):
    """<out>/<time>-<groups>.json; returns the path."""
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, f"{time.strftime('%Y%m%d-%H%M%S')}-{'-'.join(groups)}.json")
    rows = []
    for result in results:
        verdicts = []
        figure = result.row.figure
        for bar in result.row.bars:
            value, verdict = judge(result, bar)
            verdicts.append({"peer": bar.peer, "factor": bar.factor, "value": value,
                             "verdict": verdict})
        intervals = {side: interval(result, side, figure)[1:]
                     for side in result.sides if is_paired(result) and result.runs.get(side)}
        rows.append({"row": result.row.label, "figure": figure, "bars": verdicts,
                     "intervals": intervals,
                     "median": {side: median(result, side, figure) for side in result.sides},
                     "runs": result.runs, "failures": result.failures,
                     "lacks": result.lacks, "notes": result.notes})
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "commit": _commit(root),
                   "machine": _machine(), "pairs": setup.pairs, "quick": setup.quick,
                   "rows": rows}, file, indent=1)
    return path
