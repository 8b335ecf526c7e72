#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel: several paths, members that go and come, next-hop objects and groups of them."""
import struct
import time

import router as rt
import wire as w
from test_route_changes import ANY, moved

# Gateways beside s and t that only we see: frames to their MACs reach the devices of s and t, and nobody answers.
EXTRA = {4: ("10.3.0.3", "10.3.0.4"), 6: ("fd00:3::3", "fd00:3::4")}
EXTRA_MAC = ("02:00:00:00:03:03", "02:00:00:00:03:04")


def spread(net, family, flows=240, each=3):
    """MAC of the path of each flow; 'several' where packets of one took more than one, None where none came."""
    src, dst = ANY[family][:2]
    ends = [net.port(d) for d in ("s0", "t0")]
    port = net.port("c0")
    for k in range(each):
        for n in range(flows):
            port.send(net.frame(rt.ip(src, dst, w.UDP, w.udp(src, dst, 10000 + n * 7, 9, b"path" + struct.pack("!I", n)))))
    paths, counts, end = {}, {}, time.monotonic() + 10
    while time.monotonic() < end and sum(counts.values()) < flows * each:
        for p in ends:
            f = p.take()
            while f is not None:
                if f[-8:-4] == b"path":
                    n, m = struct.unpack("!I", f[-4:])[0], f[0:6].hex(":")
                    paths[n] = m if paths.get(n, m) == m else "several"
                    counts[n] = counts.get(n, 0) + 1
                f = p.take()
    return [paths.get(n) for n in range(flows)], sum(counts.values()) == flows * each


def settled(net, family, want):
    """The same as soon as the flows take the paths they should: a change is in force for all flows within milliseconds, not at once."""
    return w.wait_for(lambda: [x for x in [spread(net, family)] if x[1] and set(x[0]) == set(want)], 10) or [spread(net, family)]


def multipath(net):
    net.bed.sysctl("r", "net/ipv4/fib_multipath_hash_policy", 1)
    net.bed.sysctl("r", "net/ipv6/fib_multipath_hash_policy", 1)
    for family, (src, dst, prefix, s, t) in ANY.items():
        ipr, v = ["ip", "-%d" % family, "route"], ", IPv%d" % family
        for address, mac in zip(EXTRA[family], EXTRA_MAC):
            net.run("r", "ip neigh replace %s lladdr %s dev wan2 nud permanent" % (address, mac))
        net.ping("r", "-c", 1, s)
        net.ping("r", "-c", 1, t)

        def members(*via):
            net.run("r", ipr + ["replace", prefix] + [x for g in via for x in ("nexthop", "via", g)])

        members(s, t)
        before, all_came = settled(net, family, (rt.MACS["s0"], rt.MACS["t0"]))[0]
        net.tell("two paths, all packets come" + v, all_came, True)
        net.tell("both are used, each flow by one" + v, sorted(set(before), key=str), sorted([rt.MACS["s0"], rt.MACS["t0"]]))
        share = before.count(rt.MACS["s0"]) / len(before)
        net.tell("about evenly" + v, 0.3 < share < 0.7, True)
        again, _ = spread(net, family)
        net.tell("the same flows take the same path again" + v, again == before, True)
        # four paths, one goes: the flows of the others stay
        members(s, t, *EXTRA[family])
        four, all_came = settled(net, family, (rt.MACS["s0"], rt.MACS["t0"], *EXTRA_MAC))[0]
        net.tell("four paths" + v, (all_came, sorted(set(four), key=str)), (True, sorted([rt.MACS["s0"], rt.MACS["t0"], *EXTRA_MAC])))
        members(s, t, EXTRA[family][1])
        three, all_came = settled(net, family, (rt.MACS["s0"], rt.MACS["t0"], EXTRA_MAC[1]))[0]
        net.tell("one is taken out: nothing goes there" + v, (all_came, sorted(set(three), key=str)),
                 (True, sorted([rt.MACS["s0"], rt.MACS["t0"], EXTRA_MAC[1]])))
        strayed = [n for n in range(len(four)) if four[n] != EXTRA_MAC[0] and three[n] != four[n]]
        print("# %s: flows of other members that moved when one went%s: %d of %d" % (net.half, v, len(strayed), len(four)), flush=True)
        if net.half == "millrace":
            net.tap.same(strayed, [], "millrace: the flows of the others stayed" + v)
        # weights
        net.run("r", ipr + ["replace", prefix, "nexthop", "via", s, "weight", 3, "nexthop", "via", t, "weight", 1])
        heavy, all_came = settled(net, family, (rt.MACS["s0"], rt.MACS["t0"]))[0]
        share = heavy.count(rt.MACS["s0"]) / len(heavy)
        net.tell("three to one" + v, (all_came, 0.6 < share < 0.9), (True, True))
        # the device of a member goes down under flows that live
        members(s, t)
        settled(net, family, (rt.MACS["s0"], rt.MACS["t0"]))
        net.bed.sysctl("r", "net/ipv6/conf/wan2/keep_addr_on_down", 1)
        net.run("r", "ip link set wan2 down")
        after, all_came = settled(net, family, (rt.MACS["s0"],))[0]
        net.tell("the device of one goes down: all by the other" + v, (all_came, set(after)), (True, {rt.MACS["s0"]}))
        net.run("r", "ip link set wan2 up")
        w.wait_for(lambda: "LOWER_UP" in net.run("r", "ip link show wan2"))
        w.wait_for(lambda: not net.run("r", ipr + ["replace", prefix, "nexthop", "via", s, "nexthop", "via", t], check=False)
                   and t in net.run("r", ipr + ["show", prefix]))
        net.ping("r", "-c", 1, t)
        after, all_came = settled(net, family, (rt.MACS["s0"], rt.MACS["t0"]))[0]
        net.tell("and up again: by both" + v, (all_came, sorted(set(after), key=str)), (True, sorted([rt.MACS["s0"], rt.MACS["t0"]])))
        net.run("r", ipr + ["replace", prefix, "via", s])
        for p6, via in ((ANY[4][2], rt.S4), (ANY[6][2], rt.S6)):
            net.run("r", ["ip", "-6" if ":" in via else "-4", "route", "replace", p6, "via", via])


def gateways(net):
    """The ways to write a next hop."""
    local = {"s": "fe80::ff:fe00:202", "t": "fe80::ff:fe00:302"}
    for turn in ("", ", neighbours forgotten"):
        for end, dev in (("s", "wan"), ("t", "wan2")):
            if turn:
                net.neighbours_forgotten()
            net.run("r", "ip -6 route replace fd00:99::/64 via %s dev %s" % (local[end], dev))
            net.changed([("by a link-local gateway, to %s%s" % (end, turn), rt.datagram(rt.C6, rt.ANY6), "to " + end)])
            net.run("r", "ip route replace 10.99.0.0/24 via inet6 %s dev %s" % (local[end], dev))
            net.changed([("IPv4 by an IPv6 gateway, to %s%s" % (end, turn), rt.datagram(rt.C4, rt.ANY4), "to " + end)])
    net.run("r", "ip neigh replace 192.0.2.77 lladdr %s dev wan nud permanent" % rt.MACS["s0"])
    net.run("r", "ip route replace 10.99.0.0/24 via 192.0.2.77 dev wan onlink")
    net.changed([("onlink", rt.datagram(rt.C4, rt.ANY4), "to s")])
    net.run("r", "ip route replace 10.99.0.0/24 dev wan2")
    net.changed([("by a device alone", rt.datagram(rt.C4, rt.ANY4), "to t")])
    net.run("r", "ip -6 route replace fd00:99::/64 dev wan2")
    net.changed([("IPv6 by a device alone, where nobody answers", rt.datagram(rt.C6, rt.ANY6), "error 1/3 from %s to c" % rt.R6["lan"])])
    for prefix, via in (("10.99.0.0/24", rt.S4), ("fd00:99::/64", rt.S6)):
        net.run("r", "ip route replace %s via %s" % (prefix, via))
    net.changed([("as before", rt.datagram(rt.C4, rt.ANY4), "to s"), ("IPv6 as before", rt.datagram(rt.C6, rt.ANY6), "to s")])


def nexthop_objects(net):
    for family, (src, dst, prefix, s, t) in ANY.items():
        ipr, v = ["ip", "-%d" % family, "route"], ", IPv%d" % family
        for words in ("id 1 via %s dev wan" % s, "id 2 via %s dev wan2" % t, "id 3 via %s dev wan" % s, "id 4 blackhole", "id 10 group 1/2"):
            net.run("r", "ip %s nexthop add %s" % ("-4" if family == 4 else "-6", words) if "group" not in words else "ip nexthop add " + words)
        net.ping("r", "-c", 1, s)
        net.ping("r", "-c", 1, t)
        net.run("r", ipr + ["del", prefix])
        net.run("r", ipr + ["add", prefix, "nhid", 3])
        net.changed([("a route by an object" + v, rt.datagram(src, dst), "to s")])
        moved(net, family, lambda: net.run("r", "ip nexthop replace id 3 via %s dev wan2" % t), "its object replaced", "t")
        moved(net, family, lambda: net.run("r", "ip nexthop replace id 3 via %s dev wan" % s), "and back again", "s")
        net.run("r", ipr + ["replace", prefix, "nhid", 10])
        net.bed.sysctl("r", "net/ipv%d/fib_multipath_hash_policy" % family, 1)
        got, all_came = settled(net, family, (rt.MACS["s0"], rt.MACS["t0"]))[0]
        net.tell("a group" + v, (all_came, sorted(set(got), key=str)), (True, sorted([rt.MACS["s0"], rt.MACS["t0"]])))
        net.run("r", "ip nexthop replace id 10 group 2")
        got, all_came = settled(net, family, (rt.MACS["t0"],))[0]
        net.tell("the group without the first" + v, (all_came, set(got)), (True, {rt.MACS["t0"]}))
        net.run("r", "ip nexthop replace id 10 group 1/2")
        got, all_came = settled(net, family, (rt.MACS["s0"], rt.MACS["t0"]))[0]
        net.tell("and with both" + v, (all_came, sorted(set(got), key=str)), (True, sorted([rt.MACS["s0"], rt.MACS["t0"]])))
        net.run("r", "ip nexthop del id 2")
        got, all_came = settled(net, family, (rt.MACS["s0"],))[0]
        net.tell("an object deleted leaves the group" + v, (all_came, set(got)), (True, {rt.MACS["s0"]}))
        net.run("r", ipr + ["replace", prefix, "nhid", 4])
        net.changed([("a blackhole object" + v, rt.datagram(src, dst), "silence")])
        net.run("r", "ip nexthop flush")
        words = "error %s from %s to c" % ("3/0" if family == 4 else "1/0", (rt.R4 if family == 4 else rt.R6)["lan"])
        net.changed([("all objects gone, and the route with them" + v, rt.datagram(src, dst), words)])
        net.run("r", ipr + ["add", prefix, "via", s])
        net.changed([("a plain route again" + v, rt.datagram(src, dst), "to s")])


def test(tap, bed):
    rt.both(tap, bed, (multipath, gateways, nexthop_objects))


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rtpath"))
