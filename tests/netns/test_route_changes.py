#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel: routes that move, and what only the kernel can follow."""
import struct
import subprocess
import threading
import time

import router as rt
import wire as w

# destination, prefix, via s, via t
ANY = {4: (rt.C4, rt.ANY4, "10.99.0.0/24", rt.S4, rt.T4), 6: (rt.C6, rt.ANY6, "fd00:99::/64", rt.S6, rt.T6)}


class Flow:
    """Numbered packets of one flow from c, from a thread, that remember when they were sent."""

    def __init__(self, net, family, pps=1000):
        self.net, self.src, self.dst = net, *ANY[family][:2]
        self.sent_at, self.going = [], True
        self.port = net.port("c0")
        self.ends = {d: net.port(d) for d in ("s0", "t0")}
        self.thread = threading.Thread(target=self.run, args=(1 / pps,), daemon=True)
        self.thread.start()

    def run(self, pause_s):
        while self.going:
            n = len(self.sent_at)
            frame = self.net.frame(rt.ip(self.src, self.dst, w.UDP, w.udp(self.src, self.dst, 8100, 9, b"flow" + struct.pack("!I", n))))
            self.sent_at.append(time.monotonic())
            self.port.send(frame)
            time.sleep(pause_s)

    def stop(self):
        """(numbers that came to s, numbers that came to t), in their order."""
        self.going = False
        self.thread.join(10)
        got, end = {"s": [], "t": []}, time.monotonic() + 5
        while sum(map(len, got.values())) < len(self.sent_at) and time.monotonic() < end:
            for d, p in self.ends.items():
                f = p.take()
                while f is not None:
                    if f[-8:-4] == b"flow":
                        got[d[0]].append(struct.unpack("!I", f[-4:])[0])
                    f = p.take()
        return got


def moved(net, family, change, name, to, quiet_s=0.2):
    """A flow runs while `change` happens; tells where it went.  What was sent 0.2 s after the change goes the new way."""
    flow = Flow(net, family)
    time.sleep(quiet_s)
    change()
    at = time.monotonic()
    time.sleep(0.2 + quiet_s)
    got = flow.stop()
    old = "t" if to == "s" else "s"
    late = [n for n in got[old] if flow.sent_at[n] > at + 0.2]
    after = [n for n in got[old] if flow.sent_at[n] > at]
    print("# %s: %s, IPv%d: packets sent after the change that went the old way: %d, the last %.1f ms after it" % (
        net.half, name, family, len(after), 1000 * (flow.sent_at[after[-1]] - at) if after else 0), flush=True)
    lost = sorted(set(range(len(flow.sent_at))) - set(got["s"]) - set(got["t"]))
    v = ", IPv%d" % family
    net.tell(name + v + ": 0.2 s later none goes the old way", late, [])
    net.tell(name + v + ": the last goes the new way", bool(got[to]) and got[to][-1] == len(flow.sent_at) - 1, True)
    net.tell(name + v + ": none is lost", lost, [])
    net.tell(name + v + ": none came twice, each path keeps the order", got["s"] == sorted(set(got["s"])) and got["t"] == sorted(set(got["t"])), True)


def route_moves(net):
    for family, (src, dst, prefix, s, t) in ANY.items():
        ipr = ["ip", "-%d" % family, "route"]
        one = dst + ("/32" if family == 4 else "/128")
        # both routers are known, so that what is measured is the route
        net.ping("r", "-c", 1, s)
        net.ping("r", "-c", 1, t)
        moved(net, family, lambda: net.run("r", ipr + ["replace", prefix, "via", t]), "a route replaced", "t")
        moved(net, family, lambda: net.run("r", ipr + ["replace", prefix, "via", s]), "and back", "s")
        moved(net, family, lambda: net.run("r", ipr + ["add", one, "via", t]), "a longer prefix added", "t")
        moved(net, family, lambda: net.run("r", ipr + ["del", one]), "and deleted", "s")
        moved(net, family, lambda: net.run("r", ipr + ["add", prefix, "via", t, "metric", 3000]), "a worse metric added", "s")
        net.run("r", ipr + ["del", prefix, "via", t, "metric", 3000])
        # nothing covers it for a while: errors, and it goes on afterwards
        net.run("r", ipr + ["del", prefix])
        words = "error %s from %s to c" % ("3/0" if family == 4 else "1/0", (rt.R4 if family == 4 else rt.R6)["lan"])
        net.changed([("no route any more, IPv%d" % family, rt.datagram(src, dst), words)])
        net.run("r", ipr + ["add", "unreachable", prefix])
        words = "error %s from %s to c" % ("3/1" if family == 4 else "1/0", (rt.R4 if family == 4 else rt.R6)["lan"])
        net.changed([("an unreachable one, IPv%d" % family, rt.datagram(src, dst), words)])
        net.run("r", ipr + ["del", "unreachable", prefix])
        net.run("r", ipr + ["add", prefix, "via", s])
        net.changed([("and a good one again, IPv%d" % family, rt.datagram(src, dst), "to s")])
        # a default route behind all
        net.run("r", ipr + ["add", "default", "via", t])
        far = "198.51.100.7" if family == 4 else "2001:db8::7"
        net.changed([("a default route, IPv%d" % family, rt.datagram(src, far), "to t")])
        net.run("r", ipr + ["del", "default"])
        words = "error %s from %s to c" % ("3/0" if family == 4 else "1/0", (rt.R4 if family == 4 else rt.R6)["lan"])
        net.changed([("and none, IPv%d" % family, rt.datagram(src, far), words)])


def reloaded(net):
    """Nothing is lost when the configuration is read again (the kernel has none)."""
    for family in ANY:
        flow = Flow(net, family)
        for _ in range(3):
            time.sleep(0.1)
            if net.m:
                net.run("r", [w.find_millrace(), "--name", net.m.instance, "reload"])
        time.sleep(0.2)
        got = flow.stop()
        net.tell("three reloads under a flow, IPv%d: all arrive, in order, by one way" % family, (got["s"] == list(range(len(flow.sent_at))), got["t"]), (True, []))


def addresses(net):
    """An address of the box comes and goes: while it is there, it is the box's."""
    for family, near, there in ((4, rt.C4, "10.99.0.9"), (6, rt.C6, "fd00:99::9")):
        one = there + ("/32" if family == 4 else "/128")
        net.run("s", "ip addr add %s dev lo" % one)
        net.changed([("a ping to s, IPv%d" % family, rt.ping_packet(near, there), "to s")])
        net.run("r", "ip addr add %s dev lo" % one)
        net.changed([("the address is the box's now, IPv%d" % family, rt.ping_packet(near, there), "to c")])
        net.run("r", "ip addr del %s dev lo" % one)
        net.changed([("and no longer, IPv%d" % family, rt.ping_packet(near, there), "to s")])
        net.run("s", "ip addr del %s dev lo" % one)


def link_goes(net):
    """The device of a route goes down: the route behind it takes over."""
    net.bed.sysctl("r", "net/ipv6/conf/wan/keep_addr_on_down", 1)
    for family, (src, dst, prefix, s, t) in ANY.items():
        ipr = ["ip", "-%d" % family, "route"]
        net.run("r", ipr + ["add", prefix, "via", t, "metric", 2000])
        net.changed([("before the link goes, IPv%d" % family, rt.datagram(src, dst), "to s")])
        net.run("r", "ip link set wan down")
        net.changed([("while it is down, IPv%d" % family, rt.datagram(src, dst), "to t")])
        net.run("r", "ip link set wan up")
        w.wait_for(lambda: "LOWER_UP" in net.run("r", "ip link show wan"))

        def added():
            net.run("r", ipr + ["replace", prefix, "via", s], check=False)
            return s in net.run("r", ipr + ["show", prefix])
        w.wait_for(added)
        net.changed([("and when it is up again, IPv%d" % family, rt.datagram(src, dst), "to s")])
        net.run("r", ipr + ["del", prefix, "metric", 2000])
        for prefix6, via in (("10.99.0.0/24", rt.S4), ("fd00:99::/64", rt.S6)):
            net.run("r", ["ip", "-6" if ":" in via else "-4", "route", "replace", prefix6, "via", via], check=False)


# ---- what is the kernel's

def unmirrored(net):
    return w.show(net.bed, net.m, "routes")["unmirrored"]


def named(net, word):
    """Millrace says what it does not follow: in show, and in check."""
    if net.m:
        said = str(unmirrored(net))
        net.tap.ok(word in said, "millrace: show routes names '%s'" % word, said)
        done = subprocess.run(net.bed.enter("r") + [w.find_millrace(), "check", net.bed.file("check.yaml", rt.config())], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True)
        net.tap.ok(word in done.stdout, "millrace: check names it", done.stdout)


def rules(net):
    for family, (src, dst, prefix, s, t) in ANY.items():
        ip, v = "ip -%d " % family, ", IPv%d" % family
        one = src + ("/32" if family == 4 else "/128")
        net.run("r", ip + "route add table 100 %s via %s" % (prefix, t))
        net.changed([("without the rule" + v, rt.datagram(src, dst), "to s")])
        for rule in ("from %s table 100" % one, "iif lan to %s table 100" % prefix, "ipproto udp table 100"):
            net.run("r", ip + "rule add priority 1000 " + rule)
            if net.m:
                w.wait_for(lambda: "1000" in str(unmirrored(net)), 5)
            net.changed([("rule %s" % rule + v, rt.datagram(src, dst), "to t"),
                       ("rule %s, another flow" % rule + v, rt.datagram(src, dst), "to t")])
            named(net, "1000")
            net.run("r", ip + "rule del priority 1000")
            if net.m:
                w.wait_for(lambda: "1000" not in str(unmirrored(net)), 5)
            net.changed([("without %s again" % rule + v, rt.datagram(src, dst), "to s")])
        net.run("r", ip + "route flush table 100")


def not_followed(net):
    """Routes to devices that are not Millrace's, and encapsulations."""
    net.bed.ns("u")
    net.bed.veth("r", "other", "u", "u0", b_mac="02:00:00:00:04:02")
    net.run("r", "ip addr add 10.4.0.1/24 dev other")
    net.run("r", "ip addr add fd00:4::1/64 dev other nodad")
    net.run("u", "ip addr add 10.4.0.2/24 dev u0")
    net.run("u", "ip addr add fd00:4::2/64 dev u0 nodad")
    net.run("u", "ip route add default via 10.4.0.1")
    net.run("u", "ip route add default via fd00:4::1")
    net.bed.host("u", "u0")
    net.tell("ping behind a device that is not Millrace's, IPv4", net.ping("c", "-c", 3, "10.4.0.2"), (3, 3))
    net.tell("ping behind a device that is not Millrace's, IPv6", net.ping("c", "-c", 3, "fd00:4::2"), (3, 3))
    for prefix, words in (("10.66.0.0/24", "nhid 20"), ("fd00:66::/64", "nhid 20")):
        six = ":" in prefix
        s, t, src = (rt.S6, rt.T6, rt.C6) if six else (rt.S4, rt.T4, rt.C4)
        net.run("r", "ip %s nexthop add id 1 via %s dev wan" % ("-6" if six else "-4", s))
        net.run("r", "ip %s nexthop add id 2 via %s dev wan2" % ("-6" if six else "-4", t))
        net.run("r", "ip nexthop add id 20 group 1/2 type resilient buckets 32 idle_timer 60")
        net.run("r", ["ip", "-6" if six else "-4", "route", "add", prefix] + words.split())
        there = w.wait_for(lambda: net.fate(rt.datagram(src, "fd00:66::1" if six else "10.66.0.1"), want="to s") in ("to s", "to t"), 10)
        net.tell("a resilient group, IPv%d" % (6 if six else 4), there, True)
        net.run("r", "ip nexthop flush")


def test(tap, bed):
    # an address that goes is the box's for Millrace some milliseconds longer, and the stack forwards what it is handed then
    rt.both(tap, bed, (route_moves, reloaded, addresses, link_goes), kernel_forwards=4)
    rt.both(tap, bed, (rules, not_followed), kernel_forwards=1 << 30)


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rtchg"))
