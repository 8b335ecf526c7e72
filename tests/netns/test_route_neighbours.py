#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel: neighbours that are not known yet, that do not exist, that change their address."""
import struct
import time

import router as rt
import wire as w

DEAD = {4: ("10.2.0.88", "10.77.0.0/24", "10.77.0.1", "10.2.0.77"), 6: ("fd00:2::88", "fd00:77::/64", "fd00:77::1", "fd00:2::77")}


def numbered(src, dst, n, sport=8000, dport=9):
    return rt.ip(src, dst, w.UDP, w.udp(src, dst, sport, dport, b"numbered" + struct.pack("!I", n)))


def number_of(f):
    """The number of one of ours; None for what is not."""
    return struct.unpack("!I", f[-4:])[0] if f[-12:-4] == b"numbered" else None


def arrivals(port, last, timeout_s=15, quiet_s=0.3):
    """(number, destination MAC) of ours in the order they came, until `last` came and quiet_s passed without one more."""
    got, end, seen = [], time.monotonic() + timeout_s, None
    while time.monotonic() < end:
        f = port.take()
        n = number_of(f) if f else None
        if n is not None:
            got.append((n, f[0:6].hex(":")))
            if n == last:
                seen = time.monotonic()
        elif f is None and seen and time.monotonic() - seen > quiet_s:
            break
    return got


def first_packets(net):
    """What comes first waits until the neighbour is known, and goes in order."""
    for family, src, dst in rt.FAMILIES:
        p = net.port("c0")
        for turn in range(3):
            net.neighbours_forgotten("r")
            far = net.port("s0")
            for n in range(20):
                p.send(net.frame(numbered(src, dst, n, 8000 + turn)))
            net.tell("20 packets to a neighbour not known, IPv%d, turn %d" % (family, turn), [n for n, _ in arrivals(far, 19)], list(range(20)))
        # several flows at once, to several neighbours none of which is known
        ends = ["10.2.0.%d" % n if family == 4 else "fd00:2::1:%d" % n for n in range(20, 30)]
        for e in ends:
            net.run("s", "ip addr add %s dev s0" % (e + "/32" if family == 4 else e + "/128 nodad"))
        net.neighbours_forgotten("r")
        far = net.port("s0")
        for n in range(8):
            for e in ends:
                p.send(net.frame(numbered(src, e, n)))
        order, end = {e: [] for e in ends}, time.monotonic() + 15
        while time.monotonic() < end and any(len(o) < 8 for o in order.values()):
            f = far.take()
            n = number_of(f) if f else None
            if n is not None:
                order[rt.text(f[30:34] if family == 4 else f[38:54])].append(n)
        net.tell("eight packets to each of ten neighbours, IPv%d" % family, list(order.values()), [list(range(8))] * 10)
        for e in ends:
            net.run("s", "ip addr del %s dev s0" % (e + "/32" if family == 4 else e + "/128"))


def nobody_there(net):
    """The kernel does not find it: the sender hears that the host is unreachable."""
    for family, src, _ in rt.FAMILIES:
        onlink, prefix, behind, gateway = DEAD[family]
        net.run("r", "ip route add %s via %s dev wan" % (prefix, gateway))
        words = "error %s from %s to c" % ("3/1" if family == 4 else "1/3", (rt.R4 if family == 4 else rt.R6)["lan"])
        net.changed([
            ("a host that is not there, IPv%d" % family, rt.datagram(src, onlink), words),
            ("a router that is not there, IPv%d" % family, rt.datagram(src, behind), words),
            ("a ping to a host that is not there, IPv%d" % family, rt.ping_packet(src, onlink), words),
        ])
        net.counted("neighbour-failed")
        net.run("r", "ip route del %s" % prefix)
        # and when it comes after all
        net.run("s", "ip addr add %s dev s0" % (onlink + "/32" if family == 4 else onlink + "/128 nodad"))
        # (a neighbour that failed is not asked for again within a second: docs/routing.md)
        net.tell("it appears, IPv%d" % family, net.eventually(rt.datagram(src, onlink), "to s"), "to s")
        net.run("s", "ip addr del %s dev s0" % (onlink + "/32" if family == 4 else onlink + "/128"))


def announce(net, family, address, mac):
    """s says that an address is at another MAC: gratuitous ARP, unsolicited advertisement."""
    m = w.mac(mac)
    if family == 4:
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + m + w.address(address) + m + w.address(address)
        net.ports["s0"].send(w.eth(body, w.ARP, dst="ff:ff:ff:ff:ff:ff", src=mac))
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + m + w.address(address) + w.mac(rt.MACS["wan"]) + w.address(rt.R4["wan"])
        net.ports["s0"].send(w.eth(body, w.ARP, dst=rt.MACS["wan"], src=mac))
    else:
        body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + w.address(address) + b"\2\1" + m
        body = w.with_sum(address, "ff02::1", w.ICMP6, body, 2)
        net.ports["s0"].send(w.eth(w.ip6(address, "ff02::1", w.ICMP6, body, hops=255), w.IP6, dst="33:33:00:00:00:01", src=mac))


def moves(net):
    """The neighbour changes its MAC while a flow goes there: from then on packets bear the new one, none is lost, order stays."""
    for family, src, dst in rt.FAMILIES:
        new = "02:00:00:00:02:99"
        net.neighbours_known()
        p, far = net.port("c0"), net.port("s0")
        for n in range(100):
            p.send(net.frame(numbered(src, dst, n)))
        before = arrivals(far, 99)
        net.tell("before, IPv%d" % family, sorted(set(before)) == sorted((n, rt.MACS["s0"]) for n in range(100)), True)
        # the station itself: it must answer questions with the new address from now on
        net.run("s", "ip link set s0 address " + new)
        announce(net, family, dst, new)

        def kernel_knows():
            return new in net.run("r", "ip neigh show %s dev wan" % dst)
        net.tap.ok(w.wait_for(kernel_knows), "%s: the kernel has heard of the new address, IPv%d" % (net.half, family))
        # what the router's kernel knows now is in force for the flow soon: the first packet with the new address ends the wait
        n, end = 1000, time.monotonic() + 10
        old_cnt, seen = 0, []
        while time.monotonic() < end and not any(m == new for _, m in seen):
            p.send(net.frame(numbered(src, dst, n)))
            got = far.take()
            while got is not None:
                if number_of(got) is not None:
                    seen.append((number_of(got), got[0:6].hex(":")))
                    old_cnt += got[0:6].hex(":") != new
                got = far.take()
            n += 1
        print("# %s: packets with the old address after the kernel knew the new one, IPv%d: %d" % (net.half, family, old_cnt), flush=True)
        for i in range(2000, 2200):
            p.send(net.frame(numbered(src, dst, i)))
        after = [x for x in arrivals(far, 2199) if x[0] >= 2000]
        net.tell("after, IPv%d: all with the new address, in order" % family, after == [(i, new) for i in range(2000, 2200)], True)
        net.run("s", "ip link set s0 address " + rt.MACS["s0"])
        announce(net, family, dst, rt.MACS["s0"])
        w.wait_for(lambda: rt.MACS["s0"] in net.run("r", "ip neigh show %s dev wan" % dst))


def renamed(net, dev, mac):
    """A device of r gets another MAC address.  Until Millrace has heard of it, what is sent to the new one is for another station, and
    so the stack's, which forwards it."""
    net.run("r", "ip link set %s address %s" % (dev, mac))
    if net.m:
        net.tap.ok(w.wait_for(lambda: w.interface(w.show(net.bed, net.m), dev)["mac"] == mac), "millrace: show tells the new address of " + dev)


def own_address(net):
    """The router's own MAC addresses change: frames bear the new one, and are taken for it."""
    for family, src, dst in rt.FAMILIES:
        new, box = "02:00:00:00:02:aa", (rt.R4 if family == 4 else rt.R6)["lan"]
        renamed(net, "wan", new)
        p, far = net.port("c0"), net.port("s0")
        seen, n, end = None, 0, time.monotonic() + 15
        while seen != new and time.monotonic() < end:
            p.send(net.frame(numbered(src, dst, n)))
            n += 1
            got = far.take()
            while got is not None:
                seen = got[6:12].hex(":") if number_of(got) is not None else seen
                got = far.take()
        net.tell("the egress has a new address, IPv%d" % family, seen, new)
        renamed(net, "wan", rt.MACS["wan"])
        new = "02:00:00:00:01:aa"
        renamed(net, "lan", new)
        kind = w.IP4 if family == 4 else w.IP6

        def by(mac):
            return lambda packet: w.eth(packet, kind, dst=mac, src=rt.MACS["c0"])
        asks = [("to the ingress's new address, IPv%d" % family, rt.datagram(src, dst), "to s", by(new)),
                ("an error from there, IPv%d" % family, rt.datagram(src, dst, ttl=1), "error %s from %s to c" % ("11/0" if family == 4 else "3/0", box), by(new)),
                ("to its old address, IPv%d" % family, rt.datagram(src, dst), "silence", by(rt.MACS["lan"]))]
        net.changed(asks)
        renamed(net, "lan", rt.MACS["lan"])
        net.run("c", "ip neigh flush all", check=False)
        net.changed([("and back, IPv%d" % family, rt.datagram(src, dst), "to s")])
    # IPv6 routes that went with the change
    net.run("r", "ip -6 route replace fd00:99::/64 via %s" % rt.S6)


def forgotten(net):
    """Somebody deletes the neighbour, or makes it permanent with another address: the flow follows."""
    for family, src, dst in rt.FAMILIES:
        p = net.port("c0")
        for name, words, mac in (("deleted", "ip neigh del %s dev wan", rt.MACS["s0"]),
                                 ("set by hand", "ip neigh replace %s dev wan lladdr 02:00:00:00:02:55 nud permanent", "02:00:00:00:02:55"),
                                 ("no longer set", "ip neigh del %s dev wan", rt.MACS["s0"])):
            net.run("r", words % dst, check=False)
            far, seen, end, n = net.port("s0"), None, time.monotonic() + 10, 0
            while seen != mac and time.monotonic() < end:
                p.send(net.frame(numbered(src, dst, n)))
                n += 1
                got = far.take()
                while got is not None:
                    seen = got[0:6].hex(":") if number_of(got) is not None else seen
                    got = far.take()
            for i in range(3000, 3050):
                p.send(net.frame(numbered(src, dst, i)))
            got = [x for x in arrivals(far, 3049) if x[0] >= 3000]
            net.tell("a neighbour %s, IPv%d" % (name, family), got == [(i, mac) for i in range(3000, 3050)], True)


def kept_fresh(net):
    """A neighbour in use turns stale and is asked for again: nothing is lost, and a dead one is noticed."""
    for family, src, dst in rt.FAMILIES:
        for key, value in (("base_reachable_time_ms", 400), ("delay_first_probe_time", 1)):
            net.bed.sysctl("r", "net/ipv%d/neigh/wan/%s" % (family, key), value)
        p, far = net.port("c0"), net.port("s0")
        net.run("r", "ip neigh del %s dev wan" % dst, check=False)
        got, n, end = [], 0, time.monotonic() + 2.4  # stale after 0.6 s at the latest, asked a second later
        while time.monotonic() < end:
            p.send(net.frame(numbered(src, dst, n)))
            n += 1
            time.sleep(0.005)
        got = [x for x, _ in arrivals(far, n - 1)]
        net.tell("a flow while its neighbour turns stale and fresh, IPv%d" % family, got == list(range(n)), True)
        state = w.wait_for(lambda: [s for s in ("REACHABLE", "DELAY", "PROBE", "STALE") if s in net.run("r", "ip neigh show %s dev wan" % dst)])
        net.tell("it is still there, IPv%d" % family, bool(state), True)
        # it goes away without a word
        net.run("s", "ip addr del %s dev s0" % (dst + ("/24" if family == 4 else "/64")))
        words = "error %s from %s to c" % ("3/1" if family == 4 else "1/3", (rt.R4 if family == 4 else rt.R6)["lan"])
        net.tell("and when it has gone away, the sender hears, IPv%d" % family, net.eventually(rt.datagram(src, dst), words, 25), words)
        net.run("s", "ip addr add %s dev s0" % (dst + ("/24 brd +" if family == 4 else "/64 nodad")))
        net.run("s", "ip %s route replace default via %s dev s0" % ("-4" if family == 4 else "-6", (rt.R4 if family == 4 else rt.R6)["wan"]))
        net.tell("and when it is back, it goes on, IPv%d" % family, net.eventually(rt.datagram(src, dst), "to s"), "to s")


def test(tap, bed):
    rt.both(tap, bed, (first_packets, nobody_there, moves, own_address, forgotten, kept_fresh))


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rtnb"))
