#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: ICMP queries and ICMP errors, byte for byte (RFC 5508)."""
import struct

import nat
import wire as w
from nat import A, A2, B, S, T

ROUTER = "198.51.100.9"  # somebody on the way, outside; inside it is 100.64.0.9
INNER_ROUTER = "100.64.0.9"
OPTIONS = b"\x94\x04\0\0\x01\x01\x01\x01"  # router alert, and padding


def icmp(kind, code, rest, quote, good=True):
    body = struct.pack("!BBHI", kind, code, 0, rest) + quote
    value = w.checksum(body) if good else w.checksum(body) ^ 0x1234
    return body[:2] + struct.pack("!H", value) + body[4:]


def error(src, dst, quote, kind=3, code=1, rest=0, ttl=64, good=True):
    return w.ip4(src, dst, w.ICMP, icmp(kind, code, rest, quote, good), ttl=ttl)


def is_error(p):
    return p[9] == w.ICMP and p[20] in (3, 4, 5, 11, 12)


class Session:
    """One conversation through the NAT: inside end, outside address and number, remote end; and its packets as each side sees them."""

    def __init__(self, net, proto, src=A, sport=5000, dst=S, dport=9, dev="a0", far="s0"):
        self.net, self.proto, self.src, self.sport, self.dst, self.dport, self.dev, self.far = net, proto, src, sport, dst, dport, dev, far
        self.outside = None
        got = net.over(self.packet(True, 64), dev, far, lambda p: p[9] == proto and p[16:20] == w.address(dst))
        if not got:
            raise nat.Failed("%s: no session opens, protocol %d; drops: %s" % (net.name, proto, net.drops()))
        at = 24 if proto == w.ICMP else 20
        self.outside = (w.socket.inet_ntoa(got[12:16]), struct.unpack("!H", got[at:at + 2])[0])
        self.back()

    def segment(self, src, sport, dst, dport, out):
        if self.proto == w.UDP:
            return w.udp(src, dst, sport, dport, b"quoted datagram 0123456789")
        if self.proto == w.TCP:
            return w.tcp(src, dst, sport, dport, w.SYN if out else w.SYN | w.ACK, seq=100, ack=0 if out else 101)
        return w.echo(src, dst, 8 if out else 0, sport if out else dport, 1, b"quoted echo 0123456789")

    def packet(self, inside, ttl=1, out=True, **kw):
        """A packet of it: out or back, as seen inside or outside."""
        here, port = (self.src, self.sport) if inside else self.outside
        ends = (here, port, self.dst, self.dport) if out else (self.dst, self.dport, here, port)
        return w.ip4(ends[0], ends[2], self.proto, self.segment(*ends, out), ttl=ttl, ident=77, **kw)

    def back(self):
        """The answer arrives inside, byte for byte."""
        got = self.net.over(self.packet(False, 64, out=False), self.far, self.dev, lambda p: p[9] == self.proto and p[12:16] == w.address(self.dst))
        return got == self.packet(True, 63, out=False)


def same_or_none(net, sent, dev, to, want, name):
    got = net.over(sent, dev, to, is_error)
    net.ok(got == want, name, "expected\n%s, got\n%s" % (want.hex(), got and got.hex()))


NAMES = {w.UDP: "UDP", w.TCP: "TCP", w.ICMP: "echo"}


def from_outside(tap, bed, watch, mode):
    """RFC 5508 REQ-3, REQ-4; RFC 4787 REQ-12; RFC 5382 REQ-9, REQ-10."""
    with nat.Nat(tap, bed, watch, "", "errors from outside, " + mode, mode=mode) as net:
        for proto in (w.UDP, w.TCP, w.ICMP):
            s = Session(net, proto)
            name = NAMES[proto]
            for kind, code, rest, who in ((3, 1, 0, ROUTER), (3, 3, 0, S), (3, 4, 1300, ROUTER), (3, 13, 0, ROUTER), (11, 0, 0, ROUTER), (11, 1, 0, S), (12, 0, 0x14000000, ROUTER)):
                same_or_none(net, error(who, s.outside[0], s.packet(False), kind, code, rest), "s0", "a0", error(who, A, s.packet(True), kind, code, rest, 63),
                             "%s: %d/%d from %s, the packet it quotes as A sent it (REQ-4)" % (name, kind, code, who))
            for size, what in ((28, "8 bytes of it"), (40, "20 bytes of it")):
                same_or_none(net, error(ROUTER, s.outside[0], s.packet(False)[:size]), "s0", "a0", error(ROUTER, A, s.packet(True)[:size], ttl=63), "%s: %s quoted" % (name, what))
            same_or_none(net, error(ROUTER, s.outside[0], s.packet(False, options=OPTIONS)), "s0", "a0", error(ROUTER, A, s.packet(True, options=OPTIONS), ttl=63),
                         name + ": options in the quoted header are passed over (REQ-3b)")
            quotes = [s.packet(x)[:120] + bytes(128 - len(s.packet(x)[:120])) for x in (False, True)]
            ext = b"\x20\0" + b"\0\0" + b"\0\x08\x01\x01\x12\x34\x51\xff"  # RFC 4884, 4950: a label
            ext = ext[:2] + struct.pack("!H", w.checksum(ext)) + ext[4:]
            same_or_none(net, error(ROUTER, s.outside[0], quotes[0] + ext, 11, 0, 32 << 16), "s0", "a0", error(ROUTER, A, quotes[1] + ext, 11, 0, 32 << 16, 63),
                         name + ": an extension behind it stays as it is (REQ-3d)")
            net.ok(s.back(), name + ": the session is there as before (REQ-6; RFC 4787 REQ-12, RFC 5382 REQ-10)")
            for sent, reason, what in ((error(ROUTER, s.outside[0], s.packet(False), good=False), None, "an error with a wrong checksum is dropped (REQ-3)"),
                                       (error(ROUTER, s.outside[0], s.packet(False)[:10] + b"\xde\xad" + s.packet(False)[12:]), None, "one that quotes a header with a wrong checksum is dropped (REQ-3a)"),
                                       (error(ROUTER, s.outside[0], s.packet(False)[:24]), None, "one that quotes too little is dropped"),
                                       (error(ROUTER, s.outside[0], w.ip4(s.outside[0], S, w.UDP, w.udp(s.outside[0], S, 999, 9))), None, "one that quotes nobody's packet is dropped (REQ-4)")):
                net.silent(sent, "s0", "a0", is_error, "%s: %s" % (name, what), reason)
        # the transport's checksum is not looked at (REQ-3c): what was wrong is as wrong as before, none stays none
        u = Session(net, w.UDP, sport=5010)
        plain, zero = u.packet(False), u.packet(False)[:26] + b"\0\0" + u.packet(False)[28:]
        same_or_none(net, error(ROUTER, u.outside[0], zero), "s0", "a0", error(ROUTER, A, u.packet(True)[:26] + b"\0\0" + u.packet(True)[28:], ttl=63), "UDP: no checksum stays none")
        wrong = plain[:26] + struct.pack("!H", (struct.unpack("!H", plain[26:28])[0] + 0x0101) % 0xFFFF or 1) + plain[28:]
        got = net.over(error(ROUTER, u.outside[0], wrong), "s0", "a0", is_error)
        off = [(struct.unpack("!H", x[26:28])[0] - struct.unpack("!H", y[26:28])[0]) % 0xFFFF for x, y in ((wrong, plain), (got[28:] if got else plain, u.packet(True)))]
        net.ok(got is not None and off[0] == off[1] != 0, "UDP: a wrong checksum stays as wrong as it was (REQ-3c)", off)


def from_inside(tap, bed, watch, mode):
    """RFC 5508 REQ-5."""
    with nat.Nat(tap, bed, watch, "", "errors from inside, " + mode, mode=mode) as net:
        for proto in (w.UDP, w.TCP, w.ICMP):
            s = Session(net, proto)
            name = NAMES[proto]
            for who, kind, code in ((A, 3, 3), (A, 11, 1), (INNER_ROUTER, 11, 0), (INNER_ROUTER, 3, 1)):
                same_or_none(net, error(who, S, s.packet(True, out=False), kind, code), "a0", "s0", error(s.outside[0], S, s.packet(False, out=False), kind, code, ttl=63),
                             "%s: %d/%d of %s about the answer leaves with the outside address (REQ-5c)" % (name, kind, code, who))
            same_or_none(net, error(A, S, s.packet(True, out=False)[:28]), "a0", "s0", error(s.outside[0], S, s.packet(False, out=False)[:28], ttl=63), name + ": 8 bytes of it quoted")
            net.ok(s.back(), name + ": the session is there as before")
        for quote, what in ((w.ip4(S, A, w.UDP, w.udp(S, A, 9, 999)), "an error about nobody's packet never leaves (REQ-5)"), (w.ip4(S, A, w.UDP, b"\0\x09"), "nor one that quotes too little")):
            net.silent(error(A, S, quote), "a0", "s0", is_error, what)
        net.silent(w.ip4(A, S, w.ICMP, w.echo(A, S, 8, 9)[:4]), "a0", "s0", lambda p: p[9] == w.ICMP, "nor an ICMP packet that is cut off")
        net.silent(w.ip4(A, S, w.ICMP, icmp(9, 0, 0, b"")), "a0", "s0", lambda p: p[9] == w.ICMP, "nor a router advertisement (REQ-11)")


def queries(tap, bed, watch, mode):
    """RFC 5508 REQ-1, REQ-2; identifiers are mapped as ports are."""
    with nat.Nat(tap, bed, watch, "", "queries, " + mode, mode=mode, outside="203.0.113.64") as net:
        def ask(src, dst, ident, dev="a0", kind=8, to="s0"):
            body = w.echo(src, dst, kind, ident, 3, b"data" * 4)
            return net.over(w.ip4(src, dst, w.ICMP, body), dev, to, lambda p: p[9] == w.ICMP and p[20] == kind and p[16:20] == w.address(dst))

        def ident(p):
            return struct.unpack("!H", p[24:26])[0] if p else None
        seen = [ask(A, S, 700), ask(A, T, 700, to="t0"), ask(A2, S, 700), ask(B, S, 700, "b0"), ask(A, S, 701)]
        ids = [ident(p) for p in seen]
        net.ok(None not in ids and all(w.checksum(p[20:]) == 0 and w.checksum(p[:20]) == 0 for p in seen), "echo requests go out, with right checksums", ids)
        net.ok(ids[0] == ids[1], "the identifier is the same to another host (REQ-1a)", ids)
        net.same(len({ids[0], ids[2], ids[3], ids[4]}), 4, "one's identifier is nobody else's")
        for n, (src, dst, dev, far) in enumerate(((A, S, "a0", "s0"), (A, T, "a0", "t0"), (A2, S, "a0", "s0"), (B, S, "b0", "s0"))):
            got = net.over(w.ip4(dst, nat.OUT % 64, w.ICMP, w.echo(dst, A, 0, ids[n], 3, b"data" * 4)), far, dev, lambda p: p[9] == w.ICMP and p[20] == 0)
            net.same(got and got.hex(), w.ip4(dst, src, w.ICMP, w.echo(dst, src, 0, 700, 3, b"data" * 4), ttl=63).hex(), "the reply to %s of %s arrives as its own" % (dst, src))
        stamp = ask(A, S, 702, kind=13)
        net.ok(stamp and ident(stamp) != 0, "a timestamp request goes out", net.drops())
        if stamp:
            got = net.over(w.ip4(S, nat.OUT % 64, w.ICMP, w.echo(S, A, 14, ident(stamp), 3, b"data" * 4)), "s0", "a0", lambda p: p[9] == w.ICMP and p[20] == 14)
            net.same(got and ident(got), 702, "and its reply comes back")
        net.silent(w.ip4(S, nat.OUT % 64, w.ICMP, w.echo(S, A, 0, 5, 3)), "s0", "a0", lambda p: p[9] == w.ICMP, "a reply nobody asked for is dropped")
        out = bed.run("a", ["ping", "-n", "-c", "20", "-i", "0.01", "-W", "5", S], check=False)
        net.ok("20 packets transmitted, 20 received" in out, "ping", out)


def hairpin_errors(tap, bed, watch, mode):
    """RFC 5508 REQ-7: errors about what goes from inside to inside by outside addresses."""
    with nat.Nat(tap, bed, watch, "", "hairpinned errors, " + mode, mode=mode, outside="203.0.113.64") as net:
        b = Session(net, w.UDP, src=B, sport=6000, dev="b0")
        a = Session(net, w.UDP, sport=5000)

        def packet(src, dst, sport, dport, ttl=1):
            return w.ip4(src, dst, w.UDP, w.udp(src, dst, sport, dport, b"hairpin"), ttl=ttl, ident=5)
        got = net.over(packet(A, b.outside[0], 5000, b.outside[1], 64), "a0", "b0", lambda p: p[9] == w.UDP)
        net.same(got and got.hex(), packet(a.outside[0], B, a.outside[1], 6000, 63).hex(), "b sees the outside address and port of a (RFC 4787 REQ-9a)")
        same_or_none(net, error(B, a.outside[0], packet(a.outside[0], B, a.outside[1], 6000), 3, 3), "b0", "a0",
                     error(b.outside[0], A, packet(A, b.outside[0], 5000, b.outside[1]), 3, 3, ttl=63), "the port unreachable of b reaches a, from b's outside address, quoting what a sent (REQ-7a)")
        same_or_none(net, error("100.64.1.9", a.outside[0], packet(a.outside[0], B, a.outside[1], 6000), 11, 0), "b0", "a0",
                     error(b.outside[0], A, packet(A, b.outside[0], 5000, b.outside[1]), 11, 0, ttl=63), "that of a router before b too")
        got = net.over(packet(B, a.outside[0], 6000, a.outside[1], 64), "b0", "a0", lambda p: p[9] == w.UDP)
        net.same(got and got.hex(), packet(b.outside[0], A, b.outside[1], 5000, 63).hex(), "and b answers")


def test(tap, bed):
    nat.each(tap, bed, (queries,) + tuple(nat.with_deaf(c) for c in (from_outside, from_inside, hairpin_errors)), nat.modes("never", "always"))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natcmp"))
