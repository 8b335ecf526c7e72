#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The kernel tier on veth: a source rewrite and a redirect, next to a bare XDP redirect and to nftables.

    g ─g0──r0─ r ─r1──s0─ s      livegen in g offers 60-byte UDP of N flows, the device under test forwards in r,
                                  an XDP program in s counts and drops

Millrace translates the source (bench/source.c, a stage of twenty lines) and sends out of the other interface; `bare` looks at nothing
and redirects (bench/bare.c); nftables masquerades.  Flow tier: the same Millrace with offload never.  Devices under test take turns,
round by round.  With veth everything but the flow tier's worker runs on the generator's CPU: the generator's own cost and the sink's
are part of every figure.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "netns"))
import bed as netbed  # noqa: E402
import results  # noqa: E402
import veth  # noqa: E402

CONFIG = """version: 1
workers: { cores: 1 }
plugins: [ %(plugin)s ]
flows: { capacity: %(capacity)d, half_open: %(capacity)d, offload: %(offload)s, timeouts: { udp_unreplied: 10m } }
interfaces:
  left:  { device: r0, mode: copy, on_exit: pass }
  right: { device: r1, mode: copy, on_exit: pass }
stages:
  away: { type: source, to: 10.64.0.0/10 }
pipelines:
  forth: { from: [ left ], match: all, stages: [ away ], to: right }
  back:  { from: [ right ], match: all, stages: [ away ], to: left }
"""


def topology(bed):
    veth.topology(bed)
    # The receiving end of a redirect needs an XDP program (the sink's comes and goes), or GRO.
    for space, device in (("s", "s0"), ("g", "g0")):
        bed.accept_redirects(space, device)


def millrace(offload):
    @contextlib.contextmanager
    def dut(bed, flows):
        config = CONFIG % {"plugin": os.path.join(netbed.build_dir(), "bench", "source.so"), "capacity": flows + flows // 4 + 4096, "offload": offload}
        with bed.millrace("r", bed.file("offload.yaml", config), timeout_s=60) as m:
            yield m
    return dut


@contextlib.contextmanager
def bare(bed, flows):
    words = [os.path.join(netbed.build_dir(), "bench", "bare"), "r0", "r1"]
    with bed.spawn("r", words) as p:
        p.wait_for("ready", 10)
        yield None


@contextlib.contextmanager
def masquerade(bed, flows):
    with veth.masquerade(bed):
        yield None


DUTS = {"millrace": millrace("always"), "bare redirect": bare, "nftables masquerade": masquerade, "millrace, flow tier": millrace("never")}


def measure(bed, args, flows):
    warmup = max(args.warmup, flows / 200000)
    words = [os.path.join(netbed.build_dir(), "bench", "livegen"), "--tx", "g0", "--tx-netns", bed.name("g"), "--sink", "s0", "--sink-netns", bed.name("s"),
             "--src", veth.SRC, "--dst", veth.DST, "--dmac", bed.mac("r", "r0"), "--flows", flows, "--size", 60, "--cpu", 0, "--warmup", warmup,
             "--duration", args.seconds, "--json"]
    return json.loads(bed.run(None, words))


def share(bed, m):
    """Of the packets Millrace received, those its sockets did not see."""
    received = sockets = 0
    for p in bed.ask(m, "show", "pipelines")["data"]["pipelines"]:
        received += p["received_packets"]
    for i in bed.ask(m, "show", "interfaces")["data"]["interfaces"]:
        sockets += i["rx_packets"]
    return 1 - sockets / received if received else 0


def goal(of, to, flows):
    return {("bare redirect", 1000): 0.85, ("nftables masquerade", 1000): 3.5, ("bare redirect", 1000000): 0.5}.get((to, flows)) if of == "millrace" else None


def run(bed, args, duts, flows):
    series = {d: [] for d in duts}
    for n in range(args.rounds):
        for d in duts if n % 2 == 0 else duts[::-1]:
            with DUTS[d](bed, flows) as m:
                out = measure(bed, args, flows)
                note = "  %5.1f %% in the kernel tier since the start" % (100 * share(bed, m)) if m else ""
            if not out["arrived_packets"]:
                raise netbed.Failed("%s forwarded nothing" % d)
            series[d].append(out["arrived_pps"] / 1e6)
            print("round %d  %7d flows  %-20s %.3f Mpps of %.2f offered%s" %
                  (n + 1, flows, d, out["arrived_pps"] / 1e6, out["offered_pps"] / 1e6, note), flush=True)
    ratios = [("millrace", d, goal("millrace", d, flows)) for d in duts if d != "millrace"] if "millrace" in duts else []
    for of, to, _ in ratios:
        print("%d flows: %s / %s: %.2f" % (flows, of, to, results.median([a / b for a, b in zip(series[of], series[to]) if b])))
    if not args.no_write:
        results.write("offload-%d" % flows, "Forwarding inside XDP on veth: 60-byte UDP with a source rewrite, %d flows" % flows, "Mpps",
                      "native XDP on veth, offload always", "bench/offload.py --rounds %d" % args.rounds, series, ratios,
                      note="bare redirect looks at no packet; millrace, flow tier: the same with offload never, AF_XDP copy mode")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--duts", default=",".join(DUTS).replace("millrace, flow tier", "flow"), help="comma-separated: millrace, bare redirect, nftables masquerade, flow")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--warmup", type=float, default=1)
    p.add_argument("--flows", default="1000,1000000", help="numbers of flows, comma-separated; conntrack is measured up to 100 000")
    p.add_argument("--no-write", action="store_true", help="show, keep nothing")
    args = p.parse_args()
    duts = ["millrace, flow tier" if d.strip() == "flow" else d.strip() for d in args.duts.split(",")]
    for d in duts:
        if d not in DUTS:
            p.error("no device under test '%s'" % d)
    with netbed.Bed("offl") as bed, veth.huge_pages(384):
        topology(bed)
        for flows in [int(n) for n in args.flows.split(",")]:
            run(bed, args, [d for d in duts if d != "nftables masquerade" or flows <= 100000], flows)


if __name__ == "__main__":
    try:
        main()
    except netbed.Failed as e:
        sys.exit("offload.py: %s" % e)
    except subprocess.TimeoutExpired as e:
        sys.exit("offload.py: %s" % e)
