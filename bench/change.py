#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Changes under traffic: how long packets still take the old way after `ip` has returned, and how long none arrives at all.

    g ─g0──r0─ r ─r1──s0─ s      livegen offers UDP of a million flows to 65 536 addresses; Millrace forwards in r (`to: route`);
               └─r2──s1─ s      watch in s tells by which MAC address packets arrive, and when

Neighbours of r: 198.19.0.2 (MAC ...:0a) and 198.19.0.3 (...:0b) behind r1, 198.20.0.2 (...:0c) behind r2.  `ip` is the kernel's
command; the clock of packets and that of `ip`'s return are the same (CLOCK_MONOTONIC).  "rule" is `millrace reload` with a filter that drops.
With --offload always the flows are forwarded inside XDP.
"""
import argparse
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

OLD, NEW, OTHER = "198.19.0.2", "198.19.0.3", "198.20.0.2"
WAY = {OLD: "10", NEW: "11", OTHER: "12", None: None}
GOAL_MS = 10
LATE = ", old way after ip returned"
CONFIG = """version: 1
workers: { cores: 1 }
flows: { capacity: %(capacity)d, half_open: %(capacity)d, offload: %(offload)s, timeouts: { udp_unreplied: 1h } }
interfaces:
  left:   { device: r0, mode: copy, on_exit: pass }
  right:  { device: r1, mode: copy, on_exit: pass }
  second: { device: r2, mode: copy, on_exit: pass }
stages:
  guard: { type: filter, default: %(default)s }
pipelines:
  forth: { from: [ left ], match: all, stages: [ guard ], to: route }
  back:  { from: [ right, second ], match: all, to: route }
"""
RELOAD = "reload"
# name: (before, the change, the way packets take after it; None: none)
CHANGES = {
    "route of a /8": ("route replace 20.0.0.0/8 via " + OLD, "route replace 20.0.0.0/8 via " + NEW, NEW),
    "default route": ("route replace default via %s\nroute del 20.0.0.0/8" % OLD, "route replace default via " + NEW, NEW),
    "next-hop object": ("nexthop replace id 7 via %s dev r1\nroute replace 20.0.0.0/8 nhid 7" % OLD, "nexthop replace id 7 via %s dev r1" % NEW, NEW),
    "neighbour's MAC": ("route replace 20.0.0.0/8 via " + OLD, "neigh replace %s lladdr 02:00:00:00:00:0b dev r1 nud permanent" % OLD, NEW),
    "MTU of a link": ("route replace 20.0.0.0/8 via " + OLD, "link set r1 mtu 300", None),
    "rule": ("route replace 20.0.0.0/8 via " + OLD, RELOAD, None),
    "link down": ("route del 20.0.0.0/8\nroute add 20.0.0.0/8 via %s metric 10\nroute add 20.0.0.0/8 via %s metric 20" % (OLD, OTHER), "link set r1 down", OTHER),
}
RESTORE = """link set r1 mtu 1500
link set r1 up
neigh replace %(OLD)s lladdr 02:00:00:00:00:0a dev r1 nud permanent
neigh replace %(NEW)s lladdr 02:00:00:00:00:0b dev r1 nud permanent
route del 20.0.0.0/8 metric 10
route del 20.0.0.0/8 metric 20
route del default
nexthop del id 7
route replace 20.0.0.0/8 via %(OLD)s""" % {"OLD": OLD, "NEW": NEW}


class Watch:
    def __init__(self, bed):
        words = [os.path.join(netbed.build_dir(), "bench", "watch"), "--dport", "9", bed.name("s") + "/s0", bed.name("s") + "/s1"]
        self.child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self):
        """Ways since the last time."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise netbed.Failed("watch has ended with %s" % self.child.wait())
        return json.loads(line)["ways"]

    def close(self):
        self.child.stdin.close()
        self.child.wait(10)


def topology(bed):
    for space in "grs":
        bed.ns(space)
    bed.veth("g", "g0", "r", "r0")
    bed.veth("r", "r1", "s", "s0")
    bed.veth("r", "r2", "s", "s1")
    bed.run("r", "ip addr add 198.18.0.254/24 dev r0")
    bed.run("r", "ip addr add 198.19.0.254/24 dev r1")
    bed.run("r", "ip addr add 198.20.0.254/24 dev r2")
    bed.run("r", ["ip", "neigh", "replace", OTHER, "lladdr", "02:00:00:00:00:0c", "dev", "r2", "nud", "permanent"])
    for space, device in (("g", "g0"), ("s", "s0"), ("s", "s1")):
        bed.accept_redirects(space, device)


def batch(bed, text, force=False):
    """Commands of `ip`; those for what is not there may fail when forced."""
    bed.run("r", ["ip"] + (["-force"] if force else []) + ["-batch", bed.file("batch", text + "\n")], check=not force)


def until_all(watch, way, why):
    """Until all packets of 50 ms take that way."""
    end = time.monotonic() + 30
    while True:
        before = watch.ask()
        time.sleep(0.05)
        after = watch.ask()
        moved = {w for w in after if after[w]["packets"] != before.get(w, {"packets": 0})["packets"]}
        if moved == {way}:
            return
        if time.monotonic() > end:
            raise netbed.Failed("%s: packets take %s" % (why, moved or "no way"))


def config(bed, args, default):
    return bed.file("change-%s.yaml" % default, CONFIG % {"capacity": args.flows + 65536, "offload": args.offload, "default": default})


def command(bed, m, change):
    """`ip`'s words, or a reload with the filter that drops, as a command."""
    if change != RELOAD:
        return ["ip"] + change.split()
    return [netbed.find_millrace(), "--name", m.instance, "reload", config(bed, m.args, "drop")]


def measure(bed, watch, m, name):
    """Times in ms by what they are: the old way after `ip` was started, and after it returned; from the last packet of the old way to the
    first of the new."""
    before, change, to = CHANGES[name]
    batch(bed, RESTORE, force=True)
    if m.dropping:
        bed.run("r", [netbed.find_millrace(), "--name", m.instance, "reload", config(bed, m.args, "accept")])
    m.dropping = change == RELOAD
    batch(bed, before, force=True)
    until_all(watch, WAY[OLD], "before '%s'" % change)
    if m.args.offload != "never":
        wait_for_tier(bed, m)
    words = command(bed, m, change)
    watch.ask()
    started_ns = time.monotonic_ns()
    bed.run("r", words)
    returned_ns = time.monotonic_ns()
    time.sleep(0.3)
    ways = watch.ask()
    last_ns = ways[WAY[OLD]]["last_ns"]
    out = {"old way after ip began": max(0.0, (last_ns - started_ns) / 1e6), "old way after ip returned": max(0.0, (last_ns - returned_ns) / 1e6)}
    if not to:
        return out
    first_ns = ways.get(WAY[to], {"first_ns": 0})["first_ns"]
    if not first_ns:
        raise netbed.Failed("'%s': no packet has taken the new way within 0.3 s" % change)
    until_all(watch, WAY[to], "after '%s'" % change)
    out["no packet between"] = max(0.0, (first_ns - last_ns) / 1e6)
    return out


def wait_for_flows(bed, m, args):
    """Until (nearly) every flow is in the table, which takes a lap of the generator, or several when packets are lost; how many are."""
    for _ in range(5):
        time.sleep(1.1 * args.flows / args.rate)
        live = bed.ask(m, "show")["data"]["flows"]["live_cnt"]
        if live >= 0.99 * args.flows:
            return live
    raise netbed.Failed("the flow table holds %d flows, not %d" % (live, args.flows))


def sockets(bed, m):
    return sum(i["rx_packets"] for i in bed.ask(m, "show", "interfaces")["data"]["interfaces"])


def wait_for_tier(bed, m):
    """Until hardly any packet comes up to user space."""
    for _ in range(100):
        before = sockets(bed, m)
        time.sleep(0.2)
        if sockets(bed, m) - before < 0.02 * 0.2 * m.args.rate:
            return
    raise netbed.Failed("the flows stay in user space: %d of %d packets a second" % ((sockets(bed, m) - before) * 5, m.args.rate))


def others(bed, cnt):
    """Routes that are in the table besides, on both sides of 20.0.0.0/8."""
    rng = random.Random(1)
    nets = [a for a in rng.sample(range(11 << 16, 190 << 16), cnt + (cnt >> 4)) if a >> 16 not in (20, 127)][:cnt]
    batch(bed, "\n".join("route add %d.%d.%d.0/24 via %s" % (a >> 16, a >> 8 & 255, a & 255, OTHER) for a in nets))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--changes", default=",".join(CHANGES), help="comma-separated: " + ", ".join(CHANGES))
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--flows", type=int, default=1000000)
    p.add_argument("--rate", type=int, default=200000, help="packets a second")
    p.add_argument("--routes", type=int, default=0, help="in the table besides")
    p.add_argument("--offload", default="never", choices=["never", "always"])
    p.add_argument("--no-write", action="store_true", help="show, keep nothing")
    args = p.parse_args()
    names = args.changes.split(",")
    series = {}
    with netbed.Bed("change") as bed, veth.huge_pages(1024):
        topology(bed)
        batch(bed, RESTORE, force=True)
        if args.routes:
            others(bed, args.routes)
        rng = random.Random(2)
        dsts = bed.file("dsts", "".join("20.%d.%d.%d\n" % (rng.randrange(256), rng.randrange(256), rng.randrange(1, 255)) for _ in range(65536)))
        watch = Watch(bed)
        with bed.millrace("r", config(bed, args, "accept"), timeout_s=60) as m:
            m.args, m.dropping = args, False
            words = [os.path.join(netbed.build_dir(), "bench", "livegen"), "--tx", "g0", "--tx-netns", bed.name("g"), "--src", "198.18.0.1", "--dsts", dsts,
                     "--dmac", bed.mac("r", "r0"), "--flows", args.flows, "--size", 400, "--cpu", 0, "--warmup", 0, "--duration", 3600, "--rate", args.rate]
            with bed.spawn(None, words, name="livegen"):
                until_all(watch, WAY[OLD], "at first")
                live = wait_for_flows(bed, m, args)
                print("%d flows, %d packets a second" % (live, args.rate), flush=True)
                for n in range(args.rounds):
                    for name in names if n % 2 == 0 else names[::-1]:
                        for what, ms in measure(bed, watch, m, name).items():
                            series.setdefault("%s, %s" % (name, what), []).append(ms)
        watch.close()
    for s, values in series.items():
        print("%-50s median %7.3f ms, longest %7.3f ms of %d" % (s, results.median(values), max(values), len(values)), flush=True)
    late = ["%s %.1f ms" % (n, results.median(series[n + LATE])) for n in names if results.median(series[n + LATE]) > GOAL_MS]
    verdict = "goal: median of at most %d ms of the old way after `ip` (or `reload`) returned: %s" % (GOAL_MS, "missed: " + "; ".join(late) if late else "met")
    print(verdict)
    if not args.no_write:
        tier = "" if args.offload == "never" else ", forwarded inside XDP"
        results.write("change-live" + ("-offload" if tier else ""), "Changes under traffic of %d flows%s, seen by whom it reaches" % (args.flows, tier), "ms",
                      "%s on veth, %d packets a second" % ("native XDP" if tier else "AF_XDP copy mode", args.rate),
                      "bench/change.py --rounds %d%s" % (args.rounds, " --offload always" if tier else ""), series, [], better="lower",
                      note=verdict + "; 'no packet between': from the last packet of the old way to the first of the new one, `ip` and the "
                      "generator sharing a CPU")


if __name__ == "__main__":
    try:
        main()
    except netbed.Failed as e:
        sys.exit("change.py: %s" % e)
    except subprocess.TimeoutExpired as e:
        sys.exit("change.py: %s" % e)
