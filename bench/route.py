#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Forwarding with a full routing table: 1 M IPv4 routes, 64 k destinations, side by side.

    g ─g0──r0─ r ─r1──s0─ s      livegen in g offers 60-byte UDP to one destination after the other; r has the routes,
                                  by 64 gateways behind r1; an XDP program in s counts and drops

Prefix lengths are spread about as in the Internet's table; destinations lie in routes drawn at random.  Millrace and the kernel
forward by the same table of the same namespace; testpmd io looks at no address and is the baseline.  Devices under test take turns,
round by round, on one core with one queue; the generator has CPU 0.
"""
import argparse
import contextlib
import ipaddress
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "netns"))
import bed as netbed  # noqa: E402
import results  # noqa: E402
import veth  # noqa: E402

GATEWAYS = 64
# Share of each length in 1/1000, after the table of the Internet's default-free zone.
LENGTHS = {24: 600, 23: 100, 22: 110, 21: 52, 20: 45, 19: 25, 18: 14, 17: 9, 16: 14, 15: 3, 14: 3, 13: 2, 12: 2, 25: 8, 26: 6, 27: 4, 28: 3}
CONFIG = """version: 1
workers: { cores: 1 }
flows: { capacity: %(capacity)d, half_open: %(capacity)d, offload: never, timeouts: { udp_unreplied: 5m } }
interfaces:
  left:  { device: r0, mode: copy, on_exit: pass }
  right: { device: r1, mode: copy, on_exit: pass }
pipelines:
  forth: { from: [ left ], match: all, state: %(state)s, to: route }
  back:  { from: [ right ], match: all, state: %(state)s, to: route }
"""


def table(cnt, rng):
    """cnt different prefixes of unicast addresses, as (address, bits), none that covers the bed's own networks alone."""
    bits, weights = list(LENGTHS), list(LENGTHS.values())
    low, high = int(ipaddress.ip_address("11.0.0.0")), int(ipaddress.ip_address("197.0.0.0"))
    seen = set()
    while len(seen) < cnt:
        for b in rng.choices(bits, weights, k=cnt - len(seen)):
            a = rng.randrange(low, high) >> (32 - b) << (32 - b)
            if a >= low and a >> 24 != 127:
                seen.add((a, b))
    return sorted(seen)


def dotted(a):
    return "%d.%d.%d.%d" % (a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255)


def topology(bed, args):
    """The bed of veth.py with the routes; returns the file of destinations."""
    rng = random.Random(1)
    veth.topology(bed)
    bed.run("r", "ip route flush 198.18.0.0/15")
    mac = bed.mac("s", "s0")
    gateways = ["198.19.0.%d" % (2 + i) for i in range(GATEWAYS)]
    bed.run("r", ["ip", "-batch", bed.file("gateways", "".join("neigh replace %s lladdr %s dev r1 nud permanent\n" % (g, mac) for g in gateways))])
    prefixes = table(args.routes, rng)
    batch = "".join("route add %s/%d via %s\n" % (dotted(a), b, rng.choice(gateways)) for a, b in prefixes)
    start = time.monotonic()
    bed.run("r", ["ip", "-batch", bed.file("routes", batch)], timeout_s=300)
    print("%d routes, given to the kernel in %.1f s" % (len(prefixes), time.monotonic() - start), flush=True)
    targets = ["%s\n" % dotted(a + rng.randrange(1 << (32 - b))) for a, b in (rng.choice(prefixes) for _ in range(args.destinations))]
    return bed.file("destinations", "".join(targets))


def millrace(state):
    @contextlib.contextmanager
    def dut(bed, args):
        config = CONFIG % {"state": state, "capacity": 2 * args.flows + 65536}
        with bed.millrace("r", bed.file("route.yaml", config), timeout_s=60) as m:
            yield m
    return dut


@contextlib.contextmanager
def testpmd(bed, args):
    with veth.testpmd(bed) as p:
        yield p


@contextlib.contextmanager
def kernel(bed, args):
    with veth.kernel(bed):
        yield None


DUTS = {"millrace": millrace("sessions"), "millrace, state none": millrace("none"), "kernel ip_forward": kernel, "testpmd io": testpmd}


def measure(bed, args, destinations):
    words = [os.path.join(netbed.build_dir(), "bench", "livegen"), "--tx", "g0", "--tx-netns", bed.name("g"), "--sink", "s0",
             "--sink-netns", bed.name("s"), "--src", veth.SRC, "--dsts", destinations, "--dmac", bed.mac("r", "r0"), "--flows", args.flows,
             "--size", 60, "--cpu", 0, "--warmup", args.warmup, "--duration", args.seconds, "--rate", args.rate, "--json"]
    return json.loads(bed.run(None, words))


def hits(bed, m):
    """The share of packets a stored record decided, or none to tell of."""
    for p in bed.ask(m, "show", "pipelines")["data"]["pipelines"]:
        if p["name"] == "forth":
            return p["hits_packets"] / max(1, p["received_packets"])
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--duts", default=",".join(n for n in DUTS).replace("millrace, state none", "none"),
                   help="comma-separated: millrace, none (Millrace with state: none), kernel ip_forward, testpmd io")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--warmup", type=float, default=1)
    p.add_argument("--routes", type=int, default=1000000)
    p.add_argument("--destinations", type=int, default=65536)
    p.add_argument("--flows", type=int, default=65536)
    p.add_argument("--rate", type=int, default=0, help="packets a second; 0 = as fast as it goes")
    p.add_argument("--no-write", action="store_true", help="show, keep nothing")
    args = p.parse_args()
    duts = ["millrace, state none" if d.strip() == "none" else d.strip() for d in args.duts.split(",")]
    for d in duts:
        if d not in DUTS:
            p.error("no device under test '%s'" % d)
    series = {d: [] for d in duts}
    with netbed.Bed("route") as bed, veth.huge_pages(512):
        destinations = topology(bed, args)
        for n in range(args.rounds):
            for d in duts if n % 2 == 0 else duts[::-1]:
                with DUTS[d](bed, args) as m:
                    out = measure(bed, args, destinations)
                    by_record = "  %5.1f %% by records" % (100 * hits(bed, m)) if d.startswith("millrace") else ""
                if not out["arrived_packets"]:
                    raise netbed.Failed("%s forwarded nothing" % d)
                series[d].append(out["arrived_pps"] / 1e6)
                print("round %d  %-20s %.3f Mpps of %.2f offered%s" % (n + 1, d, out["arrived_pps"] / 1e6, out["offered_pps"] / 1e6, by_record), flush=True)
    ratios = [(m, d, None) for m in duts if m.startswith("millrace") for d in duts if not d.startswith("millrace")]
    for of, to, _ in ratios:
        print("%s / %s: %.2f" % (of, to, results.median([a / b for a, b in zip(series[of], series[to]) if b])))
    if not args.no_write:
        results.write("route-forward", "Forwarding by %d routes to %d destinations on veth, 60-byte UDP, %d flows, one worker, one queue" %
                      (args.routes, args.destinations, args.flows), "Mpps", "AF_XDP copy mode on veth, offload never", "bench/route.py --rounds %d" % args.rounds,
                      series, ratios, note="testpmd io forwards without looking at a packet; Millrace and the kernel use the same table")


if __name__ == "__main__":
    try:
        main()
    except netbed.Failed as e:
        sys.exit("route.py: %s" % e)
    except subprocess.TimeoutExpired as e:
        sys.exit("route.py: %s" % e)
