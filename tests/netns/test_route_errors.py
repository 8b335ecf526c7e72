#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel: routes that lead nowhere, time exceeded, what may not be forwarded, and the bytes of what is."""
import struct
import time

import router as rt
import wire as w


def error_words(code, family, dev="lan"):
    return "error %s from %s to c" % (code, (rt.R4 if family == 4 else rt.R6)[dev])


def nowhere(net):
    """Routes that lead nowhere: the same error, the same silence."""
    for family, src, via, to, nul in ((4, rt.C4, rt.S4, "10.66.%d.1", "10.66.%d.0/24"), (6, rt.C6, rt.S6, "fd00:66:%d::1", "fd00:66:%d::/64")):
        ipv, one, v = ["ip", "-%d" % family, "route"], "/32" if family == 4 else "/128", ", IPv%d" % family
        asks = [("no route" + v, rt.datagram(src, "198.51.100.1" if family == 4 else "2001:db8::1"), error_words("3/0" if family == 4 else "1/0", family))]
        for n, (kind, code4, code6) in enumerate((("blackhole", None, None), ("unreachable", "3/1", "1/0"), ("prohibit", "3/13", "1/1"),
                                                  ("throw", "3/0", "1/0"))):
            net.run("r", ipv + ["add", kind, nul % n])
            code = code4 if family == 4 else code6
            want = error_words(code, family) if code else "silence"
            asks += [("%s route, UDP" % kind + v, rt.datagram(src, to % n, b"data"), want),
                     ("%s route, ping" % kind + v, rt.ping_packet(src, to % n), want)]
        net.changed(asks)
        net.counted("no-route", "route-blackhole", "route-unreachable", "route-prohibit")
        # a longer prefix inside, and the same prefix again with another kind
        net.run("r", ipv + ["add", (to % 0) + one, "via", via])
        net.changed([("a host route inside a blackhole" + v, rt.datagram(src, to % 0), "to s")])
        net.run("r", ipv + ["del", (to % 0) + one, "via", via])
        net.changed([("and without it" + v, rt.datagram(src, to % 0), "silence")])
        net.run("r", ipv + ["add", nul % 1, "via", via, "metric", 5])
        want = error_words("3/1", 4) if family == 4 else "to s"  # without a metric: 0 of IPv4, 1024 of IPv6
        net.changed([("another metric beside unreachable" + v, rt.datagram(src, to % 1), want)])
        for n in (0, 1, 1, 2, 3):
            net.run("r", ipv + ["del", nul % n], check=False)


def tagged(net, vlan):
    """Frames to the router with a VLAN tag."""
    def make(ip):
        f = net.frame(ip)
        return f[:12] + struct.pack("!HH", 0x8100, vlan) + f[12:]
    return make


def to_a_group(family, mac):
    return lambda p: w.eth(p, w.IP4 if family == 4 else w.IP6, dst=mac, src=rt.MACS["c0"])


def quoted_error(src, dst, family, mark):
    """An ICMP error of src about a packet of dst."""
    head = struct.pack("!BBHI", 3 if family == 4 else 1, 3 if family == 4 else 4, 0, 0) + rt.ip(dst, src, w.UDP, mark + bytes(8))
    if family == 6:
        return w.with_sum(src, dst, w.ICMP6, head, 2)
    return head[:2] + struct.pack("!H", w.checksum(head)) + head[4:]


def piece(src, dst, offset, more, mark, ttl):
    """A fragment that has the mark where ports are."""
    body = mark + struct.pack("!HH", 2000, 0) + b"y" * 16
    if ":" not in src:
        return w.ip4(src, dst, w.UDP, body, ttl=ttl, ident=7, frag=offset | more << 13)
    return w.ip6(src, dst, 44, struct.pack("!BBHI", w.UDP, 0, offset << 3 | more, 99) + body, hops=ttl)


def ttl(net):
    """Time exceeded: what is answered, and what is not."""
    for family, src, dst in rt.FAMILIES:
        yes, v = error_words("11/0" if family == 4 else "3/0", family), ", IPv%d" % family
        proto = w.ICMP if family == 4 else w.ICMP6
        group, mac = ("239.3.3.3", "01:00:5e:03:03:03") if family == 4 else ("ff0e::3", "33:33:00:00:00:03")
        net.fates([
            ("TTL 1" + v, rt.datagram(src, dst, b"x" * 32, ttl=1), yes),
            ("TTL 0" + v, rt.datagram(src, dst, b"x" * 32, ttl=0), yes),
            ("TTL 1, an echo" + v, rt.ping_packet(src, dst, ttl=1), yes),
            ("TTL 1, a first fragment" + v, lambda m: piece(src, dst, 0, 1, m, 1), yes),
            ("TTL 2" + v, rt.datagram(src, dst, b"x" * 32, ttl=2), "to s"),
            ("an ICMP error that is forwarded" + v, lambda m: rt.ip(src, dst, proto, quoted_error(src, dst, family, m), ttl=9),
             "error %s from %s to s" % ("3/3" if family == 4 else "1/4", src)),
        ])
        none = "0.0.0.0" if family == 4 else "::"
        net.fates([
            ("TTL 1, an ICMP error" + v, lambda m: rt.ip(src, dst, proto, quoted_error(src, dst, family, m), ttl=1), "silence"),
            # of IPv6 the kernel does answer later fragments
            ("TTL 1, a later fragment" + v, lambda m: piece(src, dst, 100, 0, m, 1), "silence" if family == 4 else None),
            ("TTL 1, from nobody" + v, lambda m: rt.ip(none, dst, w.UDP, m + struct.pack("!HH", 8, 0), ttl=1), "silence"),
            ("TTL 1, to a group" + v, rt.datagram(src, group, ttl=1), "silence", to_a_group(family, mac)),
            ("TTL 1, in a broadcast frame" + v, rt.datagram(src, dst, ttl=1), "silence", to_a_group(family, "ff:ff:ff:ff:ff:ff")),
        ])
        net.counted("ttl")
        for size in (0, 100, 1200):
            net.tell("the error to %d bytes, IPv%d" % (size, family), anatomy(net, rt.ip(src, dst, w.UDP, w.udp(src, dst, 31000 + size, 9, bytes(size)), ttl=1)))


def anatomy(net, packet):
    """Addresses, TTL, kind and quote of the error a packet causes."""
    p = net.port("c0")
    for _ in range(5):
        p.send(net.frame(packet))
        end = time.monotonic() + 1
        while time.monotonic() < end:
            f = p.take()
            e = rt.icmp_error(f) if f else None
            # the quote is of the packet as it came: addresses and ports are at the same place
            if e and e.quote[20:24] == packet[20:24] and e.quote[12:20] == packet[12:20]:
                return {"from": e.src, "to": e.dst, "kind": (e.kind, e.code), "TTL": e.ttl, "bytes": e.bytes, "quote as sent": packet.startswith(e.quote)}
    return None


def sources(net):
    """Addresses that may not be forwarded, or may."""
    asks = []
    for src, dst, name in (("127.0.0.1", rt.S4, "from 127.0.0.1"), ("224.1.1.1", rt.S4, "from a group"), ("0.0.0.0", rt.S4, "from 0.0.0.0"),
                           ("255.255.255.255", rt.S4, "from broadcast"), (rt.R4["wan"], rt.S4, "from an address of the box"),
                           ("240.0.0.9", rt.S4, "from class E"), ("169.254.7.7", rt.S4, "from an IPv4 link-local address"),
                           ("10.2.0.255", rt.S4, "from the broadcast address of another network"),
                           (rt.C4, "127.0.0.1", "to 127.0.0.1"), (rt.C4, "0.0.0.0", "to 0.0.0.0"), (rt.C4, "0.1.2.3", "to network 0"),
                           (rt.C4, "240.0.0.1", "to class E"), (rt.C4, "255.255.255.255", "to broadcast, in a frame to the box"),
                           (rt.C4, "10.2.0.255", "to the broadcast address of another network"), (rt.C4, "10.2.0.0", "to the network's own address"),
                           (rt.C4, "224.0.0.5", "to a group, in a frame to the box"), (rt.C4, "169.254.1.1", "to an IPv4 link-local address"),
                           ("::", rt.S6, "from ::"), ("::1", rt.S6, "from ::1"), ("ff0e::1", rt.S6, "from an IPv6 group"),
                           ("fe80::77", rt.S6, "from a link-local address"), (rt.R6["wan"], rt.S6, "from an IPv6 address of the box"),
                           (rt.C6, "::1", "to ::1"), (rt.C6, "::", "to ::"), (rt.C6, "ff0e::99", "to an IPv6 group, in a frame to the box"),
                           ("::ffff:10.1.0.2", rt.S6, "from a mapped address"), (rt.C6, "fd00:2::", "to the anycast address of another network")):
        want = {"0.1.2.3": error_words("3/0", 4), "240.0.0.1": error_words("3/0", 4), "169.254.1.1": error_words("3/0", 4),
                "10.2.0.0": error_words("3/1", 4)}.get(dst)  # the kernel sends few of these a second: asked until they come
        asks.append(("a packet " + name, rt.datagram(src, dst, b"odd"), want))
    net.fates(asks[:14])
    net.fates(asks[14:])
    net.fates([
        ("a packet for another station", rt.datagram(rt.C4, rt.S4), "silence", to_a_group(4, "02:00:00:00:99:99")),
        ("an IPv6 packet for another station", rt.datagram(rt.C6, rt.S6), "silence", to_a_group(6, "02:00:00:00:99:99")),
        ("a packet in a broadcast frame", rt.datagram(rt.C4, rt.S4), "silence", to_a_group(4, "ff:ff:ff:ff:ff:ff")),
        ("an IPv6 packet in a broadcast frame", rt.datagram(rt.C6, rt.S6), "silence", to_a_group(6, "ff:ff:ff:ff:ff:ff")),
        ("a packet of a VLAN the router is not in", rt.datagram(rt.C4, rt.S4), "silence", tagged(net, 99)),
        ("an IPv6 packet of a VLAN the router is not in", rt.datagram(rt.C6, rt.S6), "silence", tagged(net, 99)),
    ])
    net.fates([("a later fragment whose first one never comes", lambda m: piece(rt.C4, rt.S4, 100, 0, m, 9)),
               ("a later IPv6 fragment whose first one never comes", lambda m: piece(rt.C6, rt.S6, 100, 0, m, 9))])
    net.run("r", "ip route add 10.88.0.0/24 via %s" % rt.C4)
    net.run("r", "ip route add fd00:88::/64 via %s" % rt.C6)
    net.changed([("out where it came in", rt.datagram(rt.C4, "10.88.0.1"), "to c"), ("IPv6 out where it came in", rt.datagram(rt.C6, "fd00:88::1"), "to c")])


def virtual_router(net):
    """An address on a macvlan device over an interface, as keepalived has it for VRRP: another MAC address than the interface's."""
    net.run("r", "ip link add vrrp link lan address 00:00:5e:00:01:07 type macvlan mode private")
    net.run("r", "ip link set vrrp up")
    net.run("r", "ip addr add 10.1.0.254/32 dev vrrp")
    net.run("r", "ip addr add fd00:1::fe/128 dev vrrp nodad")
    net.run("c", "ip neigh replace 10.1.0.254 lladdr 00:00:5e:00:01:07 dev c0 nud permanent")
    net.run("c", "ip neigh replace fd00:1::fe lladdr 00:00:5e:00:01:07 dev c0 nud permanent")
    for address in ("10.1.0.254", "fd00:1::fe"):
        net.tell("%s answers, at a MAC address of its own" % address, net.ping("c", "-c", 3, address), (3, 3))
    net.run("r", "ip link del vrrp")


def redirects(net):
    """A packet that leaves by the interface it came in on: the kernel tells the sender of the shorter way (of IPv4 it was told not to)."""
    net.run("r", "ip route replace fd00:88::/64 via fe80::77 dev lan")
    net.run("r", "ip neigh replace fe80::77 lladdr 02:00:00:00:01:77 dev lan nud permanent")
    told, p = False, net.port("c0")
    for _ in range(3):
        if told:
            break
        p.send(net.frame(rt.datagram(rt.C6, "fd00:88::2")(b"mark")))
        end = time.monotonic() + 0.5
        while not told and time.monotonic() < end:
            f = p.take()
            told = f is not None and f[12:14] == b"\x86\xdd" and f[20] == w.ICMP6 and f[54] == 137
    net.tell("the sender is told of a shorter way", told)


def byte_for_byte(net):
    """What arrives, whole."""
    def arrives(name, packet, reaches="s0"):
        p = net.port(reaches)
        for _ in range(4):
            net.port("c0").send(net.frame(packet))
            end = time.monotonic() + 1
            while time.monotonic() < end:
                f = p.take()
                if f and f[12:14] == (b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd") and packet[-12:] in f:
                    return net.tell("the bytes of " + name, f.hex())
        return net.tell("the bytes of " + name, None)

    def data(n):
        return bytes([n]) * 3 + b"by-the-byte"
    a, b = rt.C4, rt.S4
    arrives("UDP", w.ip4(a, b, w.UDP, w.udp(a, b, 1, 2, data(1)), tos=0xB8, ident=4711, frag=0x4000))
    arrives("UDP without a checksum", w.ip4(a, b, w.UDP, struct.pack("!HHHH", 1, 2, 22, 0) + data(2)))
    arrives("UDP with a wrong checksum", w.ip4(a, b, w.UDP, struct.pack("!HHHH", 1, 2, 22, 0x1234) + data(3)))
    arrives("TCP", w.ip4(a, b, w.TCP, w.tcp(a, b, 1, 2, w.ACK | w.PSH, data(4))))
    arrives("ICMP nobody knows", w.ip4(a, b, w.ICMP, b"\x63\x01\0\0" + data(5)))
    arrives("a protocol nobody knows", w.ip4(a, b, 200, data(6), ttl=255))
    arrives("ESP", w.ip4(a, b, 50, b"\0\0\1\0\0\0\0\1" + data(7)))
    arrives("no operation in options", w.ip4(a, b, w.UDP, w.udp(a, b, 1, 2, data(8)), options=b"\1\1\1\0"))
    arrives("router alert", w.ip4(a, b, w.UDP, w.udp(a, b, 1, 2, data(9)), options=b"\x94\4\0\0"))
    arrives("record route", w.ip4(a, b, w.UDP, w.udp(a, b, 1, 2, data(10)), options=b"\x07\x07\x04\0\0\0\0\0"))
    arrives("a first fragment", w.ip4(a, b, w.UDP, w.udp(a, b, 1, 2, data(11) + b"12"), ident=9, frag=0x2000))
    net.port("c0").send(net.frame(w.ip4(a, b, w.UDP, w.udp(a, b, 1, 2, b"begin-up" * 3, length=900), ident=10, frag=0x2000)))
    arrives("a later fragment", w.ip4(a, b, w.UDP, data(12), ident=10, frag=77))
    a, b = rt.C6, rt.S6
    arrives("IPv6 UDP", rt.ip(a, b, w.UDP, w.udp(a, b, 1, 2, data(13)), tclass=0xB8))
    flow = bytearray(rt.ip(a, b, w.UDP, w.udp(a, b, 1, 2, data(14))))
    flow[1:4] = b"\x0a\xbc\xde"
    arrives("a flow label", bytes(flow))
    arrives("IPv6 TCP", rt.ip(a, b, w.TCP, w.tcp(a, b, 1, 2, w.ACK, data(15))))
    arrives("destination options", rt.ip(a, b, 60, bytes([w.UDP, 0, 1, 4, 0, 0, 0, 0]) + w.udp(a, b, 1, 2, data(16))))
    arrives("hop-by-hop options", rt.ip(a, b, 0, bytes([w.UDP, 0, 1, 4, 0, 0, 0, 0]) + w.udp(a, b, 1, 2, data(17))))
    net.port("c0").send(net.frame(rt.ip(a, b, 44, struct.pack("!BBHI", w.UDP, 0, 1, 5) + w.udp(a, b, 1, 2, b"begin" * 8))))
    arrives("a later IPv6 fragment", rt.ip(a, b, 44, struct.pack("!BBHI", w.UDP, 0, 77 << 3, 5) + data(18)))
    arrives("no next header", rt.ip(a, b, 59, data(19)))


def hurry(net):
    """Errors have a rate, and what is over it is counted."""
    net.bed.sysctl("r", "net/ipv4/icmp_ratelimit", 1000)
    net.bed.sysctl("r", "net/ipv6/icmp/ratelimit", 1000)
    time.sleep(1.2)  # what redirects have taken from the same allowance comes back, one a second
    for family, src, dst in rt.FAMILIES:
        before = net.m and w.show(net.bed, net.m)["totals"]["own"]["icmp_limited_cnt"]
        p, got = net.port("c0"), 0
        for n in range(200):
            p.send(net.frame(rt.ip(src, dst, w.UDP, w.udp(src, dst, 40000 + n, 9, b"hurry"), ttl=1)))
        end = time.monotonic() + 2
        while time.monotonic() < end:
            f = p.take()
            if f is not None and rt.icmp_error(f):
                got, end = got + 1, time.monotonic() + 0.5
        net.tell("of 200 errors some are sent, not all, IPv%d" % family, 0 < got < 200, True)
        if net.m:
            limited = w.settle(net.bed, net.m)["totals"]["own"]["icmp_limited_cnt"] - before
            net.tap.same((got, limited), (got, 200 - got), "%s: those over the rate are counted, IPv%d" % (net.half, family))
    net.bed.sysctl("r", "net/ipv4/icmp_ratelimit", 0)
    net.bed.sysctl("r", "net/ipv6/icmp/ratelimit", 0)


# Questions whose answer is another one than the kernel's, and why, is in docs/routing.md.
DIFFER = {
    "the sender is told of a shorter way": False,
    "TTL 1, a later fragment, IPv6": "silence",
    "a later fragment whose first one never comes": "silence",
    "a later IPv6 fragment whose first one never comes": "silence",
}


def test(tap, bed):
    rt.both(tap, bed, (nowhere, ttl, sources, virtual_router, redirects, byte_for_byte, hurry), differ=DIFFER,
            # the stack's: what has options, three of IPv4 and one of IPv6, and one from a broadcast address; on a slow machine some are sent twice
            kernel_forwards=12)


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rterr"))
