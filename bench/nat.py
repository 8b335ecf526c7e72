#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Network address translation on veth, side by side.

    g ─g0──r0─ r ─r1──s0─ s      livegen in g offers 60-byte UDP of N flows from inside addresses, the device under test
                                  translates and routes in r, an XDP program in s counts and drops

Millrace runs filter, nat44 and route, without the kernel tier and (always: nothing answers here) with it; nftables masquerades behind the kernel's
ip_forward; testpmd io translates nothing, looks at no address and is the baseline of AF_XDP forwarding.  One worker, one queue; the generator
has CPU 0, the device under test CPU 1 (with the kernel tier, nftables and the kernel: what the generator's CPU carries out).  Devices
under test take turns, round by round.
"""
import argparse
import contextlib
import os
import subprocess
import sys

import offload  # before the folder of the tests, which has one too
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "netns"))
import bed as netbed  # noqa: E402
import results  # noqa: E402
import veth  # noqa: E402

# Inside addresses are livegen's: 32768 flows each.
CONFIG = """version: 1
workers: { cores: 1 }
flows: { capacity: %(capacity)d, offload: %(offload)s }
interfaces:
  left:  { device: r0, mode: copy, on_exit: pass }
  right: { device: r1, mode: copy, on_exit: pass }
stages:
  guard:
    type: filter
    default: accept
    rules:%(rules)s
  nat:
    type: nat44
    inside: [ 198.18.0.0/16 ]
    outside: [ 198.19.1.0/27 ]
pipelines:
  out: { from: [ left ], match: auto, stages: [ guard, nat ], to: route }
  in:  { from: [ right ], match: auto, stages: [ nat, guard ], to: route }
"""


def millrace(offloads):
    @contextlib.contextmanager
    def dut(bed, flows):
        rules = "".join(veth.RULES % (i, i, 1000 + i) for i in range(16))
        config = CONFIG % {"capacity": flows + flows // 4 + 4096, "offload": offloads, "rules": rules}
        with bed.millrace("r", bed.file("nat.yaml", config), timeout_s=60) as m:
            yield m
    return dut


@contextlib.contextmanager
def testpmd(bed, flows):
    with veth.testpmd(bed):
        yield None


@contextlib.contextmanager
def masquerade(bed, flows):
    with veth.masquerade(bed):
        yield None


DUTS = {"millrace": millrace("never"), "millrace, kernel tier": millrace("always"), "nftables masquerade": masquerade, "testpmd io": testpmd}
GOALS = {("millrace", "nftables masquerade"): 1.2, ("millrace", "testpmd io"): 1.0}


def run(bed, args, duts, flows):
    series = {d: [] for d in duts}
    for n in range(args.rounds):
        for d in duts if n % 2 == 0 else duts[::-1]:
            with DUTS[d](bed, flows) as m:
                out = offload.measure(bed, args, flows)
                note = "  %5.1f %% in the kernel tier since the start" % (100 * offload.share(bed, m)) if m and "tier" in d else ""
            if not out["arrived_packets"]:
                raise netbed.Failed("%s forwarded nothing" % d)
            series[d].append(out["arrived_pps"] / 1e6)
            print("round %d  %7d flows  %-22s %.3f Mpps of %.2f offered%s" %
                  (n + 1, flows, d, out["arrived_pps"] / 1e6, out["offered_pps"] / 1e6, note), flush=True)
    ratios = [(of, to, GOALS.get((of, to))) for of in duts if "millrace" in of for to in duts if "millrace" not in to]
    for of, to, _ in ratios:
        print("%d flows: %s / %s: %.2f" % (flows, of, to, results.median([a / b for a, b in zip(series[of], series[to]) if b])))
    if not args.no_write:
        results.write("nat-%d" % flows, "NAT on veth: 60-byte UDP through filter, nat44 and route, %d flows" % flows, "Mpps",
                      "copy mode on veth, one worker", "bench/nat.py --rounds %d" % args.rounds, series, ratios,
                      note="testpmd io translates nothing; kernel tier: offload always, the rest of Millrace the same")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--duts", default=";".join(DUTS), help="separated by ';': " + "; ".join(DUTS))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--warmup", type=float, default=1)
    p.add_argument("--flows", default="1000,30000", help="numbers of flows, comma-separated; nftables is measured up to 60 000: it has one address")
    p.add_argument("--no-write", action="store_true", help="show, keep nothing")
    args = p.parse_args()
    duts = [d.strip() for d in args.duts.split(";")]
    for d in duts:
        if d not in DUTS:
            p.error("no device under test '%s'" % d)
    with netbed.Bed("natb") as bed, veth.huge_pages(384):
        offload.topology(bed)
        for flows in [int(n) for n in args.flows.split(",")]:
            run(bed, args, [d for d in duts if d != "nftables masquerade" or flows <= 60000], flows)


if __name__ == "__main__":
    try:
        main()
    except netbed.Failed as e:
        sys.exit("nat.py: %s" % e)
    except subprocess.TimeoutExpired as e:
        sys.exit("nat.py: %s" % e)
