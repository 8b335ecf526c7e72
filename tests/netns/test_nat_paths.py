#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: what hosts find out about the path, and what depends on it: traceroute, path MTU with TCP in bulk, MSS, fragments."""
import hashlib
import os
import re
import struct
import threading

import nat
import wire as w
from nat import A, S, T

FAR = "10.50.0.2"  # u, behind s
UNTIL = 6 << 20


def behind(bed):
    """A host behind s, over a link with an MTU of 1300."""
    bed.ns("u")
    bed.veth("s", "s1", "u", "u0")
    bed.host("s", "s1")
    bed.host("u", "u0")
    for space, dev, host in (("s", "s1", 1), ("u", "u0", 2)):
        bed.run(space, "ip addr add 10.50.0.%d/24 dev %s" % (host, dev))
    bed.run("s", "ip link set s1 mtu 1300")
    bed.run("u", "ip link set u0 mtu 1300")
    bed.run("u", "ip route add default via 10.50.0.1 advmss 1460")  # as if its network were wider
    bed.run("r", "ip route add 10.50.0.0/24 via " + S)
    bed.sysctl("s", "net/ipv4/ip_forward", 1)
    bed.sysctl("s", "net/ipv4/conf/all/send_redirects", 0)


def traceroute(tap, bed, watch, mode):
    """UDP, ICMP and TCP probes show every hop (RFC 5508 REQ-4, REQ-10a)."""
    with nat.Nat(tap, bed, watch, "", "traceroute, " + mode, mode=mode) as net:
        for words in ((), ("-I",), ("-T", "-p", "9")):
            out = bed.run("a", ["traceroute", "-n", "-q", "1", "-w", "3", "-m", "5", *words, FAR], check=False, timeout_s=40)
            hops = re.findall(r"^\s*(\d+)\s+(\S+)", out, re.M)
            net.same(hops, [("1", nat.BOX["lan"]), ("2", S), ("3", FAR)], "traceroute %s" % (" ".join(words) or "by UDP"))


def ends_here(tap, bed, watch, mode):
    """Errors of the NAT itself about what comes from outside, or goes over the hairpin: they quote the packet as it was sent."""
    with nat.Nat(tap, bed, watch, "", "time exceeded, " + mode, mode=mode, outside="203.0.113.64") as net:
        x = {n: net.outside_of(dev, src, 5000, S, 9) for n, dev, src in (("a", "a0", A), ("b", "b0", nat.B))}
        for name, dev, src, to, box in (("from outside", "s0", S, x["a"], "wan"), ("over the hairpin", "b0", nat.B, x["a"], "lan2"), ("from inside", "a0", A, (T, 9), "lan")):
            for times in range(2):  # the first one opens a session or not; the next one meets what there is
                sent = w.ip4(src, to[0], w.UDP, w.udp(src, to[0], 7777, to[1], b"short"), ttl=1, ident=3)
                got = net.over(sent, dev, dev, lambda p: p[9] == w.ICMP)
                net.same(got and got[12:22].hex() + got[28:].hex(), (w.address(nat.BOX[box]) + w.address(src)).hex() + "0b00" + sent.hex(), "%s, %d" % (name, times))


def bulk(net, from_, to, name, port=8000, cnt=UNTIL):
    """Data in one direction over one connection, all of it the same at the end.  from_, to: (space, address); the client is `a` always."""
    client, server = (from_, to) if from_[0] == "a" else (to, from_)
    listener = net.listen(server[0], server[1], port)
    c = net.tcp("a", client[1])
    found = net.connects(c, (server[1], port), listener)
    if not net.ok(found, name + ": connects"):
        return None
    conn = found[0]
    src, dst = (c, conn) if from_[0] == "a" else (conn, c)
    data, got = os.urandom(1 << 16), hashlib.sha256()
    want = hashlib.sha256()
    for s in (src, dst):
        s.settimeout(15)

    def push():
        try:
            for _ in range(cnt >> 16):
                src.sendall(data)
            src.shutdown(w.socket.SHUT_WR)
        except OSError:
            pass
    t = threading.Thread(target=push, daemon=True)
    t.start()
    size = 0
    try:
        while True:
            part = dst.recv(1 << 16)
            if not part:
                break
            got.update(part)
            size += len(part)
    except OSError:
        pass
    t.join(15)
    for _ in range(cnt >> 16):
        want.update(data)
    net.ok(size == cnt and got.digest() == want.digest(), "%s: %d MB arrive as sent" % (name, cnt >> 20), "%d bytes of %d" % (size, cnt))
    return src.getsockopt(w.socket.IPPROTO_TCP, 2) if src.fileno() >= 0 else None  # TCP_MAXSEG: what the path turned out to take


def pmtu(tap, bed, watch, mode):
    """RFC 4787 REQ-13, RFC 5508 REQ-4: DF and too large, behind the NAT and at it."""
    with nat.Nat(tap, bed, watch, "", "path MTU, " + mode, mode=mode) as net:
        bed.run("a", "ip route flush cache")
        mss = bulk(net, ("a", A), ("u", FAR), "TCP up, a link of 1300 behind the NAT")
        net.ok(mss and mss <= 1260, "the sender has learnt the path's MTU by the error that was translated", mss)
        net.ok("mtu 1300" in bed.run("a", ["ip", "route", "get", FAR]), "its route says so", bed.run("a", ["ip", "route", "get", FAR]))
        # at the NAT itself: the way out is narrow, and its error says what fits
        bed.run("r", "ip link set wan2 mtu 1200")
        bed.run("t", "ip link set t0 mtu 1200")
        try:
            mss = bulk(net, ("a", A), ("t", T), "TCP up, the NAT's own way out of 1200", 8001)
            probe = w.ip4(A, T, w.UDP, w.udp(A, T, 4000, 9, bytes(1300)), frag=0x4000, ident=9)
            got = net.over(probe, "a0", "a0", lambda p: p[9] == w.ICMP)
            net.ok(got and got[20:22] == b"\3\4" and got[26:28] == struct.pack("!H", 1200) and got[28:] == probe[:len(got) - 28] and got[12:16] == w.address(nat.BOX["lan"]),
                   "DF: 3/4 with the MTU, quoting the packet as it was sent (RFC 4787 REQ-13)", got and got.hex())
            small = w.ip4(A, T, w.UDP, w.udp(A, T, 4000, 9, bytes(1300)), ident=9)
            net.port("t0")
            net.send(small, "a0")
            pieces = [p for p in (net.catch("t0", lambda p: p[9] == w.UDP, 2) for _ in range(2)) if p]
            at = [(struct.unpack("!H", p[6:8])[0] & 0x1FFF) * 8 for p in pieces]
            net.ok(len(pieces) == 2 and at == sorted(at) and at[0] == 0 and sum(len(p) - 20 for p in pieces) == 1308 and not any(nat.inside(p[12:16]) for p in pieces),
                   "no DF: fragments, in order (REQ-13a)", [p.hex()[:80] for p in pieces])
        finally:
            bed.run("r", "ip link set wan2 mtu 1500")
            bed.run("t", "ip link set t0 mtu 1500")
        # the way in is narrow: the error goes to the outside host and quotes what it sent
        bed.run("r", "ip link set lan mtu 1280")
        bed.run("a", "ip link set a0 mtu 1500")
        bed.run("a", "ip route change default via %s advmss 1460" % nat.BOX["lan"])
        try:
            mss = bulk(net, ("s", S), ("a", A), "TCP down, a link of 1280 inside", 8002)
            net.ok(mss and mss <= 1240, "the outside sender has learnt the MTU", mss)
        finally:
            bed.run("r", "ip link set lan mtu 1500")
            bed.run("a", "ip route change default via %s" % nat.BOX["lan"])


def mss_of(p):
    return struct.unpack("!H", p[42:44])[0] if p and p[40:42] == b"\2\4" else None


def syn(src, dst, sport, dport, mss, flags=w.SYN, ack=0):
    head = struct.pack("!HHIIBBHHH", sport, dport, 1, ack, 6 << 4, flags, 8192, 0, 0) + b"\2\4" + struct.pack("!H", mss)
    return w.ip4(src, dst, w.TCP, w.with_sum(src, dst, w.TCP, head, 16))


def mss(tap, bed, watch, mode):
    for option, up, down in (("", 1460, 1460), ("mss: 1200", 1200, 1200), ("mss: auto", 1160, 1160)):
        bed.run("r", "ip link set wan mtu 1200")
        try:
            with nat.Nat(tap, bed, watch, option, "%s, %s" % (option or "no mss", mode), mode=mode) as net:
                def is_syn(p):
                    return p[9] == w.TCP and p[33] & w.SYN
                got = net.over(syn(A, S, 5000, 80, 1460), "a0", "s0", is_syn)
                net.ok(got and mss_of(got) == up and w.checksum(got[12:20] + struct.pack("!II", w.TCP, len(got) - 20) + got[20:]) == 0, "SYN out: %d, its checksum right" % up, got and (mss_of(got), got.hex()))
                if got:
                    ends = w.socket.inet_ntoa(got[12:16]), struct.unpack("!H", got[20:22])[0]
                    back = net.over(syn(S, ends[0], 80, ends[1], 1460, w.SYN | w.ACK, 2), "s0", "a0", is_syn)
                    net.same(mss_of(back), down, "SYN with ACK in: %d" % down)
                net.same(mss_of(net.over(syn(A, S, 5001, 80, 900), "a0", "s0", is_syn)), 900, "a smaller one stays")
        finally:
            bed.run("r", "ip link set wan mtu 1500")


def pieces_of(ip, size):
    """The packet in fragments of that many bytes of data."""
    data, parts = ip[20:], []
    for at in range(0, len(data), size):
        more = 0x2000 if at + size < len(data) else 0
        head = ip[:2] + struct.pack("!H", 20 + len(data[at:at + size])) + ip[4:6] + struct.pack("!H", more | at >> 3) + ip[8:10] + b"\0\0" + ip[12:20]
        parts.append(head[:10] + struct.pack("!H", w.checksum(head)) + head[12:] + data[at:at + size])
    return parts


def fragments(tap, bed, watch, mode):
    """RFC 4787 REQ-14: in order and out of order, both ways; nothing untranslated."""
    with nat.Nat(tap, bed, watch, "", "fragments, " + mode, mode=mode) as net:
        data = os.urandom(3000)
        outside = net.outside_of("a0", A, 5000, S, 9)
        if not net.ok(outside, "a session opens", net.drops()):
            return
        ends = (("out", "a0", "s0", (A, 5000, S, 9), outside + (S, 9)), ("in", "s0", "a0", (S, 9) + outside, (S, 9, A, 5000)))
        orders = ((0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1))
        serial = 100
        for way, dev, to, (src, sport, dst, dport), (src2, sport2, dst2, dport2) in ends:
            for order in orders:
                serial += 1
                sent = pieces_of(w.ip4(src, dst, w.UDP, w.udp(src, dst, sport, dport, data), ident=serial), 800)
                want = sorted(pieces_of(w.ip4(src2, dst2, w.UDP, w.udp(src2, dst2, sport2, dport2, data), ident=serial, ttl=63), 800))
                net.port(to)
                for n in order:
                    net.send(sent[n], dev)
                got = []
                while len(got) < 4:
                    p = net.catch(to, lambda p: p[9] == w.UDP and p[4:6] == struct.pack("!H", serial), 2)
                    if not p:
                        break
                    got.append(p)
                net.ok(sorted(got) == want, "%s, order %s: translated byte for byte" % (way, order), "%d arrived" % len(got))
        # by the stacks of both, with the first packet of a session in pieces
        far, near = net.udp("s", S, 7000), net.udp("a", A, 5005)
        for n in range(4):
            nat.send(near, data * 3, (S, 7000))
            got = nat.hear(far)
            net.ok(got and got[0] == data * 3, "a datagram of 9000 bytes out, %d" % n)
            if got:
                nat.send(far, data * 3, got[1])
                back = nat.hear(near)
                net.ok(back and back[0] == data * 3, "and back, %d" % n)
        lonely = pieces_of(w.ip4(A, S, w.UDP, w.udp(A, S, 5000, 9, data), ident=4242), 800)[1]
        net.silent(lonely, "a0", "s0", lambda p: p[4:6] == struct.pack("!H", 4242), "a later fragment alone never leaves")


def test(tap, bed):
    nat.build(bed)
    behind(bed)
    nat.cases(tap, bed, (traceroute, nat.with_deaf(ends_here), pmtu, nat.with_deaf(mss), fragments), nat.modes("never", "always"))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natpth"))
