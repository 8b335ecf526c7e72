# SPDX-License-Identifier: BSD-2-Clause
"""Bench results: one JSON file a bench in bench/results/, and RESULTS.md made from all of them.

    results.py render             write bench/RESULTS.md from bench/results/*.json
    results.py record NAME ...    run a microbenchmark several times and keep what it measured (see record --help)

A result holds series (a name and one value a round, in the same order, as they were interleaved) and ratios
of one series to another taken round by round, so that what slows the whole machine down slows both.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "results")
LOAD = os.getloadavg()[0]  # before anything was measured: what else the machine was doing


def median(values):
    v = sorted(values)
    n = len(v)
    return v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2


def summary(values):
    return {"median": median(values), "min": min(values), "max": max(values)}


def machine():
    model, mem = platform.processor() or platform.machine(), 0
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as f:
        mem = int(f.readline().split()[1]) // 1024
    return "%s, %d CPUs, %d MiB" % (model, os.cpu_count(), mem)


def kernel():
    return ".".join(platform.release().split(".")[:3]).split("-")[0] + " " + platform.machine()


def write(name, title, unit, mode, command, series, ratios, better="higher", note=None):
    """series: {name: [value a round]}; ratios: [(of, to, goal or None)]; better: which way is good."""
    out = {
        "name": name, "title": title, "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(), "kernel": kernel(), "mode": mode, "command": command, "unit": unit, "better": better,
        "note": note, "load_before": LOAD, "series": [], "ratios": [],
    }
    for s, values in series.items():
        out["series"].append(dict(name=s, values=values, **summary(values)))
    for of, to, goal in ratios:
        pairs = [a / b for a, b in zip(series[of], series[to]) if b]
        if pairs:
            out["ratios"].append(dict(of=of, to=to, goal=goal, values=pairs, **summary(pairs)))
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, name + ".json"), "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
    render()
    return out


def figure(v):
    if v == 0:
        return "0"
    return "%.3f" % v if abs(v) < 10 else "%.1f" % v if abs(v) < 1000 else "{:,.0f}".format(v).replace(",", " ")


def section(r):
    lines = ["## " + r["title"], "", "| | median %s | lowest | highest | rounds |" % r["unit"], "| --- | --- | --- | --- | --- |"]
    for s in r["series"]:
        lines.append("| %s | %s | %s | %s | %d |" % (s["name"], figure(s["median"]), figure(s["min"]), figure(s["max"]), len(s["values"])))
    lines.append("")
    for q in r["ratios"]:
        goal = ""
        if q["goal"] is not None:
            met = q["median"] >= q["goal"] if r.get("better", "higher") == "higher" else q["median"] <= q["goal"]
            goal = "; goal %.2f: %s" % (q["goal"], "met" if met else "missed")
        lines.append("- **%s ÷ %s: %.2f×** (rounds %.2f to %.2f%s)" % (q["of"], q["to"], q["median"], q["min"], q["max"], goal))
    if r.get("note"):
        lines.append("- " + r["note"])
    if r.get("load_before", 0) > 0.5:
        lines.append("- the machine was busy with other work (load %.1f) when this began" % r["load_before"])
    lines += ["- `%s`" % r["command"], "- %s · %s · Linux %s · %s" % (r["date"], r["mode"], r["kernel"], r["machine"]), ""]
    return lines


def render():
    results = []
    for f in sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []:
        if f.endswith(".json"):
            with open(os.path.join(FOLDER, f)) as j:
                results.append(json.load(j))
    lines = ["# Bench results", "",
             "Written by `make bench` from `bench/results/*.json`; do not edit.  What is compared was measured in turn in the",
             "same run; ratios are taken round by round, and figures from different runs do not compare.", ""]
    for r in results:
        lines += section(r)
    with open(os.path.join(HERE, "RESULTS.md"), "w") as f:
        f.write("\n".join(lines).rstrip() + "\n")


def measurement(line):
    """The (series, value) of one line of a microbenchmark; None for any other line."""
    line = line.strip().rstrip(",")
    if not (line.startswith("{") and line.endswith("}")):
        return None
    one = json.loads(line)
    if "series" in one:
        return one["series"], float(one["value"])
    if "median_ns" in one:  # bench_steer: one line a program and traffic
        return "%s, %s" % (one["traffic"], "bare" if one["program"] == "bare" else "%d entries" % one["entries"]), float(one["median_ns"])
    return None


def record(args):
    series = {}
    for _ in range(args.rounds):
        done = subprocess.run(args.argv, stdout=subprocess.PIPE, check=True, timeout=args.timeout)
        for line in done.stdout.decode().splitlines():
            one = measurement(line)
            if one:
                series.setdefault(one[0], []).append(one[1])
    if not series:
        sys.exit("results.py: %s printed no result" % args.argv[0])
    ratios = []
    for spec in args.ratio:
        of, to, goal = (spec.split(":") + [None])[:3]
        ratios.append((of, to, float(goal) if goal else None))
    write(args.name, args.title, args.unit, args.mode, args.shown or " ".join(args.argv), series, ratios, args.better, args.note)


def main():
    p = argparse.ArgumentParser(description="Keep and show bench results.")
    sub = p.add_subparsers(dest="verb", required=True)
    sub.add_parser("render")
    r = sub.add_parser("record", help='run a program that prints lines {"series": "name", "value": 1.2} and keep the medians')
    r.add_argument("name")
    r.add_argument("--title", required=True)
    r.add_argument("--unit", required=True)
    r.add_argument("--mode", default="user space")
    r.add_argument("--better", choices=["higher", "lower"], default="lower")
    r.add_argument("--ratio", action="append", default=[], metavar="OF:TO[:GOAL]")
    r.add_argument("--rounds", type=int, default=5)
    r.add_argument("--timeout", type=int, default=600)
    r.add_argument("--note")
    r.add_argument("--shown", help="the command as a reader would type it")
    r.add_argument("argv", nargs="+")
    args = p.parse_args()
    record(args) if args.verb == "record" else render()


if __name__ == "__main__":
    main()
