#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: how long a mapping lives, and what keeps it alive (RFC 4787 REQ-5, REQ-6, RFC 5382 REQ-5, RFC 5508 REQ-2, REQ-6, RFC 7857)."""
import struct
import time

import nat
import wire as w
from nat import A, S, T

SHORT = "timeouts: { udp: 2s, udp_unreplied: 1s, icmp: 1s, tcp_established: 4s, tcp_transitory: 1s, tcp_closed: 1s, other: 1s }"


def datagram(src, sport, dst, dport, **kw):
    return w.ip4(src, dst, w.UDP, w.udp(src, dst, sport, dport, b"timer"), **kw)


def lives(net, outside, dport=9, who=S, dev="s0"):
    """A packet from outside still finds the mapping."""
    return net.over(datagram(who, dport, *outside), dev, "a0", lambda p: p[9] == w.UDP and p[28:33] == b"timer", 0.3) is not None


class Gap:
    """The longest time this process did not run between two rounds of a loop: what a busy machine does to packets that shall keep something."""

    def __init__(self):
        self.last, self.longest = time.monotonic(), 0.0

    def round(self):
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now

    def ok(self, net, good, what):
        if self.longest > 1.5:
            net.tap.skip(net.name + ": " + what, "this process was held up for %.1f s" % self.longest)
        else:
            net.ok(good(), what)


def defaults(tap, bed, watch, mode):
    """The values the RFCs ask for, as the sessions have them."""
    with nat.Nat(tap, bed, watch, "", "defaults, " + mode, mode=mode) as net:
        for proto, name, least, most in ((w.UDP, "udp", 299, 300), (w.TCP, "tcp", 239, 240)):
            out = net.outside_of("a0", A, 5000, S, 9, proto)
            f = net.flows("--proto", name, "--addr", A)[0]
            net.ok(least * 1000 <= f["remaining_ms"] <= most * 1000, "%s that just began: %d s" % (name, most), f)
            if proto == w.UDP:
                lives(net, out)
                net.ok(299000 <= net.flows("--proto", name, "--addr", A)[0]["remaining_ms"] <= 300000, "udp, answered: 300 s")
        inner = net.tcp("a", A, 5100)
        net.ok(net.connects(inner, (S, 7100), net.listen("s", S, 7100)), "TCP connects")
        net.ok(w.wait_for(lambda: 7430000 <= net.flows("--proto", "tcp", "--port", "5100")[0]["remaining_ms"] <= 7440000, 3), "tcp established: 7440 s", net.flows("--port", "5100"))
        net.over(w.ip4(A, S, w.ICMP, w.echo(A, S, 8, 12)), "a0", "s0", lambda p: p[9] == w.ICMP)
        net.ok(59000 <= net.flows("--proto", "icmp")[0]["remaining_ms"] <= 60000, "an ICMP query: 60 s", net.flows("--proto", "icmp"))


def udp(tap, bed, watch, mode):
    with nat.Nat(tap, bed, watch, SHORT, "UDP, " + mode, mode=mode) as net:
        began = time.monotonic()
        ends = {n: net.outside_of("a0", A, 5000 + n, S, 9) for n in range(5)}
        answered = [lives(net, ends[n]) for n in (1, 2, 3, 4)]
        net.ok(all(answered) and None not in ends.values(), "five mappings, four of them answered", (ends, answered))
        ended, gap = {}, Gap()
        while time.monotonic() - began < 5:
            for n in (0, 1):
                if n not in ended and not net.flows("--addr", A, "--port", str(5000 + n)):
                    ended[n] = time.monotonic() - began
            net.send(datagram(A, 5002, S, 9), "a0")
            net.send(datagram(S, 9, *ends[3]), "s0")
            net.send(datagram(A, 5004, T, 9), "a0")
            gap.round()
            time.sleep(0.2)
        net.ok(ended.get(0, 0) > 0.85, "not answered: ends after udp_unreplied, 1 s", ended)
        net.ok(ended.get(1, 0) > 1.85 and ended[1] > ended.get(0, 9), "answered: after udp, 2 s", ended)
        for n in (0, 1):
            net.ok(not lives(net, ends[n]), "then nobody is let in, %d" % n)
        gap.ok(net, lambda: net.flows("--addr", A, "--port", "5002"), "packets from inside keep one (REQ-6)")
        gap.ok(net, lambda: lives(net, ends[3]), "packets from outside too (REQ-6a)")
        gap.ok(net, lambda: lives(net, ends[4], 99), "one session keeps the mapping when another of it has ended (RFC 4787 section 4.3)")


def inbound(tap, bed, watch, mode):
    """RFC 4787 REQ-6, RFC 7857 section 7."""
    with nat.Nat(tap, bed, watch, SHORT + "\ninbound_refresh: false", "inbound_refresh: false, " + mode, mode=mode) as net:
        began = time.monotonic()
        ends = [net.outside_of("a0", A, 5000 + n, S, 9) for n in range(2)]
        net.ok(lives(net, ends[0]) and lives(net, ends[1]), "answered")
        ended, gap = None, Gap()
        while time.monotonic() - began < 5:
            gap.round()
            if not ended and not lives(net, ends[0]):
                ended = time.monotonic() - began
            net.send(datagram(A, 5001, S, 9), "a0")
            net.send(datagram(S, 77, *ends[1]), "s0")
            time.sleep(0.1)
        net.ok(ended and ended > 1.85, "packets from outside do not keep one", ended)
        gap.ok(net, lambda: lives(net, ends[1]), "packets from inside do")
        net.same([f for f in net.flows("--port", "77") if f["age_ms"] > 4500], [], "a session opened from outside is not kept by its own packets")


def others(tap, bed, watch, mode):
    with nat.Nat(tap, bed, watch, SHORT, "ICMP, TCP, others, " + mode, mode=mode) as net:
        began = time.monotonic()
        net.over(w.ip4(A, S, w.ICMP, w.echo(A, S, 8, 12)), "a0", "s0", lambda p: p[9] == w.ICMP)
        net.over(w.ip4(A, S, 47, b"\0\0\x08\0gre"), "a0", "s0", lambda p: p[9] == 47)
        net.outside_of("a0", A, 5000, S, 9, w.TCP)
        inner = net.tcp("a", A, 5100)
        got = net.connects(inner, (S, 7100), net.listen("s", S, 7100))
        net.ok(got, "TCP connects")
        quick = net.tcp("a", A, 5101)
        ended = net.connects(quick, (S, 7100), net.socks[1])
        if ended:
            quick.close(), ended[0].close()
        left = w.wait_for(lambda: [f.get("source_port") for f in net.flows()] == [5100], 8)
        net.ok(left and time.monotonic() - began > 0.9, "a query, GRE, a SYN and a connection that was closed are gone; the established one is not", net.flows())
        # what an ICMP error is about is not kept by it (RFC 5508 REQ-6, RFC 7857 section 7.1)
        out = net.outside_of("a0", A, 5200, S, 9)
        lives(net, out)
        began = time.monotonic()
        quotes = (w.ip4(out[0], S, w.UDP, w.udp(out[0], S, out[1], 9, b"timer")), w.ip4(S, A, w.UDP, w.udp(S, A, 9, 5200, b"timer")))
        while net.flows("--port", "5200") and time.monotonic() - began < 6:
            for src, dst, quote, dev in ((S, out[0], quotes[0], "s0"), (A, S, quotes[1], "a0")):
                body = struct.pack("!BBHI", 3, 3, 0, 0) + quote
                net.send(w.ip4(src, dst, w.ICMP, body[:2] + struct.pack("!H", w.checksum(body)) + body[4:]), dev)
            time.sleep(0.1)
        net.ok(not net.flows("--port", "5200") and time.monotonic() - began > 1.7, "errors in both directions do not keep a session", time.monotonic() - began)
        if got:
            got[0].sendall(b"late")
            got = nat.hear(inner)
            net.same(got and got[0], b"late", "TCP established: alive")


def test(tap, bed):
    wanted = nat.modes("never", "always")
    nat.build(bed)
    nat.cases(tap, bed, (defaults,), wanted[:1])
    nat.cases(tap, bed, (nat.with_deaf(udp), nat.with_deaf(inbound), others), wanted)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "nattmo"))
