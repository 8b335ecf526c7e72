#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Forwarding on veth, side by side with what else could stand in the middle.

    g ─g0──r0─ r ─r1──s0─ s      livegen in g offers 60-byte UDP, the device under test forwards in r,
                                  an XDP program in s counts and drops

One worker, one queue; the generator has CPU 0, the device under test CPU 1.  Devices under test take turns,
round by round; the count in s is checked against the veth's own.
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

SRC, DST = "198.18.0.1", "198.19.0.1"
RULES = """
      - { name: r%d, action: drop, src: 192.0.2.%d/32, dst: 203.0.113.0/24, proto: udp, dport: [ %d ] }"""
CONFIG = """version: 1
workers: { cores: 1 }
flows: { offload: never }
interfaces:
  left:  { device: r0, mode: copy, on_exit: pass }
  right: { device: r1, mode: copy, on_exit: pass }
stages:
  guard:
    type: filter
    default: accept
    rules:%s
pipelines:
  forth: { from: [ left ], match: all, stages: [ guard ], to: right }
  back:  { from: [ right ], match: all, stages: [ guard ], to: left }
"""


def topology(bed):
    for space in "grs":
        bed.ns(space)
    bed.veth("g", "g0", "r", "r0")
    bed.veth("r", "r1", "s", "s0")
    bed.run("r", "ip addr add 198.18.0.254/24 dev r0")
    bed.run("r", "ip addr add 198.19.0.254/24 dev r1")
    bed.run("r", ["ip", "neigh", "add", DST, "lladdr", bed.mac("s", "s0"), "dev", "r1", "nud", "permanent"])
    bed.run("r", "ip route add 198.18.0.0/15 dev r0")


@contextlib.contextmanager
def huge_pages(cnt):
    """At least cnt huge pages for as long as the benches run: both AF_XDP programs use them."""
    with open("/proc/sys/vm/nr_hugepages") as f:
        before = int(f.read())
    try:
        if before < cnt:
            with open("/proc/sys/vm/nr_hugepages", "w") as f:
                f.write(str(cnt))
        yield
    finally:
        with open("/proc/sys/vm/nr_hugepages", "w") as f:
            f.write(str(before))


@contextlib.contextmanager
def millrace(bed):
    rules = "".join(RULES % (i, i, 1000 + i) for i in range(16))
    with bed.millrace("r", bed.file("bench.yaml", CONFIG % rules)) as m:
        yield m


@contextlib.contextmanager
def testpmd(bed):
    words = ["dpdk-testpmd", "-l", "0,1", "--main-lcore", "0", "-m", "512", "--in-memory", "--no-pci", "--no-telemetry",
             "--vdev", "net_af_xdp0,iface=r0", "--vdev", "net_af_xdp1,iface=r1",
             "--", "-i", "--forward-mode=io", "--auto-start", "--rxq=1", "--txq=1", "--nb-cores=1", "--total-num-mbufs=65536"]
    with bed.spawn("r", words) as p:
        p.wait_for("testpmd>", 30)
        yield p


@contextlib.contextmanager
def kernel(bed):
    bed.accept_redirects("r", "r0")
    bed.sysctl("r", "net/ipv4/ip_forward", 1)
    try:
        yield
    finally:
        bed.sysctl("r", "net/ipv4/ip_forward", 0)


@contextlib.contextmanager
def masquerade(bed):
    rules = "table ip nat { chain post { type nat hook postrouting priority 100; oifname r1 masquerade; }; }"
    bed.run("r", ["nft", "-f", bed.file("masquerade.nft", rules + "\n")])
    try:
        with kernel(bed):
            yield
    finally:
        bed.run("r", "nft delete table ip nat")


DUTS = {"millrace": millrace, "testpmd io": testpmd, "kernel ip_forward": kernel, "nftables masquerade": masquerade}


def measure(bed, args):
    words = [os.path.join(netbed.build_dir(), "bench", "livegen"), "--tx", "g0", "--tx-netns", bed.name("g"), "--sink", "s0", "--sink-netns", bed.name("s"),
             "--src", SRC, "--dst", DST, "--dmac", bed.mac("r", "r0"), "--flows", args.flows, "--size", args.size, "--cpu", 0,
             "--warmup", 1, "--duration", args.seconds, "--rate", args.rate, "--json"]
    out = json.loads(bed.run(None, words))
    # The sink's count is ours; the device's is the kernel's.  They differ by other packets (neighbour discovery) only.
    seen = out["sink_device"]["rx_packets"]
    if abs(seen - out["arrived_packets"]) > out["other_packets"] + 64:
        raise netbed.Failed("the sink counted %d packets, its device %d" % (out["arrived_packets"], seen))
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--duts", default=",".join(DUTS), help="comma-separated: " + ", ".join(DUTS))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--flows", type=int, default=1)
    p.add_argument("--size", type=int, default=60)
    p.add_argument("--rate", type=int, default=0, help="packets a second; 0 = as fast as it goes")
    p.add_argument("--name", default="veth-forward", help="of the result file")
    p.add_argument("--no-write", action="store_true", help="show, keep nothing")
    args = p.parse_args()
    duts = [d.strip() for d in args.duts.split(",")]
    for d in duts:
        if d not in DUTS:
            p.error("no device under test '%s'" % d)
    series = {d: [] for d in duts}
    with netbed.Bed("bench") as bed, huge_pages(384):
        topology(bed)
        for n in range(args.rounds):
            for d in duts if n % 2 == 0 else duts[::-1]:
                with DUTS[d](bed):
                    out = measure(bed, args)
                series[d].append(out["arrived_pps"] / 1e6)
                print("round %d  %-20s %.3f Mpps of %.2f offered" % (n + 1, d, out["arrived_pps"] / 1e6, out["offered_pps"] / 1e6), flush=True)
    ratios = [("millrace", d, 1.0 if d == "testpmd io" else None) for d in duts if d != "millrace"] if "millrace" in duts else []
    for of, to, _ in ratios:
        print("%s / %s: %.2f" % (of, to, results.median([a / b for a, b in zip(series[of], series[to]) if b])))
    if not args.no_write:
        results.write(args.name, "Forwarding on veth, %d-byte UDP, %d flow%s, one worker, one queue, filter of 16 rules" %
                      (args.size, args.flows, "" if args.flows == 1 else "s"), "Mpps", "AF_XDP copy mode on veth, offload never", "make bench", series, ratios)


if __name__ == "__main__":
    try:
        main()
    except netbed.Failed as e:
        sys.exit("veth.py: %s" % e)
    except subprocess.TimeoutExpired as e:
        sys.exit("veth.py: %s" % e)
