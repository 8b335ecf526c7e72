#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel while a routing daemon works: BIRD adds 100 000 routes under traffic and takes them out again; and the
mirror after events were lost.
"""
import os
import re
import shutil
import signal
import struct
import threading
import time

import router as rt
import wire as w
from bed import ROOT

CNT = {4: 80000, 6: 20000}


def prefix(family, n):
    """The nth of the many: 20.0.0.0/24 and on, 2001:db8:0::/48 and on; every 50th is a host route or a /64 inside another."""
    if family == 4:
        a = "20.%d.%d" % (n >> 8, n & 255) if n < 65536 else "21.%d.%d" % (n - 65536 >> 8, n & 255)
        return a + ".0/24"
    return "2001:db8:%x::/48" % n


def inside(family, n):
    p = prefix(family, n).split("/")[0]
    return p[:-1] + "7" if family == 4 else p + "7"


# Where scripts/install-deps unpacks it, or where it is installed.
PLACES = os.pathsep.join((os.path.join(ROOT, "build-deps", "bird2", "usr", "sbin"), "/usr/sbin", os.environ.get("PATH", "")))

BIRD = """log stderr all;
router id 10.2.0.1;
protocol device { scan time 2; }
protocol kernel k4 { ipv4 { import none; export all; }; scan time 3600; }
protocol kernel k6 { ipv6 { import none; export all; }; scan time 3600; }
protocol static many4 { disabled; ipv4;
include "%(dir)s/many4.conf";
}
protocol static many6 { disabled; ipv6;
include "%(dir)s/many6.conf";
}
"""


class Traffic:
    """Numbered packets to several destinations, one after the other, from a thread."""

    def __init__(self, net, ends, pps=1500):
        self.net, self.ends, self.pps = net, ends, pps
        self.sent, self.going = 0, True
        self.port = net.port("c0")
        self.far = {d: net.port(d) for d in ("s0", "t0")}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.going:
            dst = self.ends[self.sent % len(self.ends)]
            src = rt.C6 if ":" in dst else rt.C4
            self.port.send(self.net.frame(rt.ip(src, dst, w.UDP, w.udp(src, dst, 8200, 9, b"daemon" + struct.pack("!I", self.sent)))))
            self.sent += 1
            time.sleep(1 / self.pps)

    def stop(self):
        """{number: where it came}, how often one came twice or behind a later one of its destination on the same path."""
        self.going = False
        self.thread.join(10)
        where, last, wrong, end = {}, {}, 0, time.monotonic() + 10
        while len(where) < self.sent and time.monotonic() < end:
            for d, p in self.far.items():
                f = p.take()
                while f is not None:
                    if f[-10:-4] == b"daemon":
                        n = struct.unpack("!I", f[-4:])[0]
                        wrong += n in where or n < last.get((d, n % len(self.ends)), -1)
                        last[d, n % len(self.ends)] = n
                        where[n] = d[0]
                    f = p.take()
        return where, wrong


def kernel_cnt(net, family):
    """Routes of the kernel's table main."""
    return net.run("r", "ip -%d route show table main" % family).count("\n")


def mirror(net):
    """What show routes counts."""
    return net.bed.ask(net.m, "show", "routes")["data"]["usage"]


def beyond(net):
    """What the mirror counts beyond the kernel's table main, by family: the stack's own (local, broadcast, multicast), always as many."""
    d = mirror(net)
    return d["synced"] and [d["routes%d_cnt" % f] - kernel_cnt(net, f) for f in (4, 6)]


def agrees(net, timeout_s=30):
    """Millrace's mirror holds as many routes as the kernel."""
    if net.m:
        good = w.wait_for(lambda: beyond(net) == net.beyond, timeout_s)
        net.tap.ok(good, "millrace: show routes counts what the kernel has", "%s; kernel: %d and %d; beyond: %s" % (
            mirror(net), kernel_cnt(net, 4), kernel_cnt(net, 6), net.beyond))


def start(net):
    net.neighbours_known()
    if net.m:
        net.beyond = w.wait_for(lambda: beyond(net))


def sample(net, name, want, cnt=60):
    """Packets to destinations all over the many."""
    asks = []
    for family, src in ((4, rt.C4), (6, rt.C6)):
        step = CNT[family] // cnt
        asks += [("%s: %s" % (name, inside(family, n)), rt.datagram(src, inside(family, n)), want) for n in range(0, CNT[family], step)]
    found = net.fates(asks, tell=False)
    net.tell("%s: where %d sampled destinations lead" % (name, len(asks)), sorted(set(found.values())), [want])


def bird(net):
    folder = net.bed.dir
    start(net)
    for family, via in ((4, rt.S4), (6, rt.S6)):
        with open(os.path.join(folder, "many%d.conf" % family), "w") as f:
            f.writelines("route %s via %s;\n" % (prefix(family, n), via) for n in range(CNT[family]))
        net.run("r", "ip -%d route add default via %s" % (family, rt.T4 if family == 4 else rt.T6))
    conf, ctl = net.bed.file("bird.conf", BIRD % dict(dir=folder)), os.path.join(folder, "bird.ctl")
    def tell_bird(*words):
        return net.run("r", [shutil.which("birdc", path=PLACES), "-s", ctl, *words], check=False, timeout_s=60)
    daemon = net.bed.spawn("r", [shutil.which("bird", path=PLACES), "-f", "-c", conf, "-s", ctl], "bird")
    if not w.wait_for(lambda: os.path.exists(ctl) and "up" in tell_bird("show", "protocols", "k4")):
        raise w.Failed("bird does not start:\n" + daemon.text())

    few = {4: kernel_cnt(net, 4), 6: kernel_cnt(net, 6)}
    # of each family: one that never moves, and three that the new routes take over
    ends = [rt.ANY4, rt.ANY6] + [inside(4, n) for n in (0, 40001, CNT[4] - 1)] + [inside(6, n) for n in (0, 10001, CNT[6] - 1)]

    def change(name, words, want_cnt, first, then):
        traffic = Traffic(net, ends)
        time.sleep(0.3)
        for p in ("many4", "many6"):
            tell_bird(words, p)
        filled = w.wait_for(lambda: kernel_cnt(net, 4) == few[4] + want_cnt[4] and kernel_cnt(net, 6) == few[6] + want_cnt[6], 60)
        net.tell(name + ": the kernel has them", filled, True)
        agrees(net)
        settled = traffic.sent + len(ends)
        time.sleep(0.5)
        where, wrong = traffic.stop()
        print("# %s: %s: %d packets" % (net.half, name, traffic.sent), flush=True)
        net.tell(name + ": lost", [n for n in range(traffic.sent) if n not in where], [])
        net.tell(name + ": twice, or behind a later one", wrong, 0)
        net.tell(name + ": what did not move stayed", {where[n] for n in where if n % len(ends) < 2}, {"s"})
        for k in range(2, len(ends)):
            path = "".join(where[n] for n in sorted(where) if n % len(ends) == k)
            net.tell("%s: %s goes from one to the other, once" % (name, ends[k]), bool(re.fullmatch(first + "+" + then + "+", path)), True)
            net.tell("%s: %s, when all are in" % (name, ends[k]), {where[n] for n in where if n > settled and n % len(ends) == k}, {then})
    nothing = {4: 0, 6: 0}
    change("100 000 routes added", "enable", CNT, "t", "s")
    sample(net, "added", "to s")
    change("100 000 routes taken out", "disable", nothing, "s", "t")
    sample(net, "taken out", "to t")
    daemon.stop()
    for family in (4, 6):
        net.run("r", "ip -%d route del default" % family)


def batch(net, lines, family=4):
    """Many changes by one `ip`."""
    net.run("r", ["ip", "-%d" % family, "-b", net.bed.file("batch", "\n".join(lines) + "\n")], timeout_s=120)


def events_lost(net):
    """More changes than a stopped program's socket holds: it asks for everything again, and is right at the end."""
    if not net.m:
        return  # each answer is known beforehand, and the kernel loses nothing
    start(net)
    for family, via, via2 in ((4, rt.S4, rt.T4), (6, rt.S6, rt.T6)):
        some = [prefix(family, n) for n in range(20000)]
        batch(net, ["route add %s via %s" % (p, via) for p in some], family)
    agrees(net)
    before = mirror(net) if net.m else None
    if net.m:
        net.m.child.send_signal(signal.SIGSTOP)
    for family, via, via2 in ((4, rt.S4, rt.T4), (6, rt.S6, rt.T6)):
        some = [prefix(family, n) for n in range(20000)]
        # all move, the second half goes, others come, and a lot of noise
        batch(net, ["route replace %s via %s" % (p, via2) for p in some], family)
        batch(net, ["route del %s" % p for p in some[10000:]], family)
        batch(net, ["route add %s via %s" % (prefix(family, n), via2) for n in (19500, 19999)], family)
        for _ in range(3):
            batch(net, ["route %s 2001:db8:ffff:%x::/64 via %s" % (v, n, via) if family == 6 else "route %s 30.0.%d.%d/32 via %s" % (v, n >> 8, n & 255, via)
                        for v in ("add", "del") for n in range(15000)], family)
    if net.m:
        net.m.child.send_signal(signal.SIGCONT)
        agrees(net)
        after = mirror(net)
        net.tap.ok(after["resyncs_cnt"] > before["resyncs_cnt"], "millrace: events were lost, and it asked again", "%s, then %s" % (before, after))
    asks = []
    for family, src in ((4, rt.C4), (6, rt.C6)):
        none = "error %s from %s to c" % ("3/0" if family == 4 else "1/0", (rt.R4 if family == 4 else rt.R6)["lan"])
        asks += [("after it, %s" % inside(family, n), rt.datagram(src, inside(family, n)), "to t") for n in (0, 1, 5000, 9999, 19500, 19999)]
        asks += [("after it, %s, deleted" % inside(family, n), rt.datagram(src, inside(family, n)), none) for n in (10000, 19998)]
    net.changed(asks)
    net.changed([("after it, what did not change", rt.datagram(rt.C4, rt.ANY4), "to s"), ("after it, what did not change, IPv6", rt.datagram(rt.C6, rt.ANY6), "to s")])


def test(tap, bed):
    if not (shutil.which("bird", path=PLACES) and shutil.which("birdc", path=PLACES)):
        tap.skip("BIRD adds 100 000 routes", "bird is not installed")
        if "millrace" in rt.halves():
            rt.one_half(tap, bed, "millrace", (events_lost,), {})
    else:
        rt.both(tap, bed, (bird, events_lost))


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rtbird"))
