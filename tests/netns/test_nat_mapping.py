#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: what a mapping depends on, who is let in, which address and port one gets (RFC 4787, RFC 5382, RFC 7857)."""
import nat
import wire as w
from nat import A, A2, A3, B, S, S2, T

KINDS = ("endpoint-independent", "address-dependent", "address-and-port-dependent")


def mapping(tap, bed, watch, mode):
    """RFC 4787 REQ-1, RFC 5382 REQ-1: one inside address and port, three outside ends."""
    for n, kind in enumerate(KINDS):
        with nat.Nat(tap, bed, watch, "mapping: %s" % kind, "mapping %s, %s" % (kind, mode), mode=mode) as net:
            ends = [net.udp("s", S, 7000), net.udp("s", S, 7001), net.udp("t", T, 7000)]
            inside = net.udp("a", A, 5000)
            seen = [net.mapped(inside, e) for e in ends]
            net.ok(None not in seen and all(x[0].startswith("203.0.113.") for x in seen), "UDP arrives from an outside address", seen)
            net.same([seen[1] == seen[0], seen[2] == seen[0], seen[2] == seen[1]], [[True] * 3, [True, False, False], [False] * 3][n], "UDP: same mapping to another port, another address")
            net.same([net.mapped(inside, e) for e in ends], seen, "UDP: the mappings stay (RFC 4787 REQ-11)")
            for e, outside in zip(ends, seen):
                net.same(net.reaches(e, outside, inside), e.getsockname(), "UDP: the answer comes from where the question went")
            tcp_ends = [net.listen("s", S, 7100), net.listen("s", S, 7101), net.listen("t", T, 7100)]
            found = [net.connects(net.tcp("a", A, 5100), e.getsockname(), e) for e in tcp_ends]
            peers = [f and f[1] for f in found]
            net.ok(None not in peers, "TCP connects", peers)
            net.same([peers[1] == peers[0], peers[2] == peers[0], peers[2] == peers[1]], [[True] * 3, [True, False, False], [False] * 3][n], "TCP: same mapping to another port, another address")
            # two inside ends never have the same outside one (RFC 4787 REQ-3, RFC 5382 REQ-7)
            others = [net.mapped(net.udp("a", x, 5000), ends[0]) for x in (A2, A3)] + [net.mapped(net.udp("b", B, 5000), ends[0])]
            net.same(len(set(others + seen)), 3 + len(set(seen)), "no port is given twice")


def filtering(tap, bed, watch, mode):
    """RFC 4787 REQ-8, RFC 5382 REQ-3: who is let in by a mapping made towards S:7000."""
    for n, kind in enumerate(KINDS):
        with nat.Nat(tap, bed, watch, "filtering: %s" % kind, "filtering %s, %s" % (kind, mode), mode=mode) as net:
            spoken, other_port, other_address, other_host = net.udp("s", S, 7000), net.udp("s", S, 7001), net.udp("s", S2, 7000), net.udp("t", T, 7000)
            inside = net.udp("a", A, 5000)
            outside = net.mapped(inside, spoken)
            wanted = ((spoken, True, "the one spoken to"), (other_port, n < 2, "another port of it"), (other_address, n < 1, "another address"), (other_host, n < 1, "another host"))
            for e, let_in, what in wanted:
                got = net.reaches(e, outside, inside, 2 if let_in else 0.4)
                net.same(got, e.getsockname() if let_in else None, "UDP: %s is %s" % (what, "let in" if let_in else "kept out"))
            if n:
                net.dropped("nat44-filtered", 2, "what is kept out is counted")
                net.same(net.mapped(inside, other_host), outside, "UDP: the mapping is the same to another host")
                net.same(net.reaches(other_host, outside, inside), other_host.getsockname(), "UDP: which is let in from then on")
            # TCP from outside through the mapping of a connection
            inner = net.tcp("a", A, 5100)
            conn = net.connects(inner, net.listen("s", S, 7100).getsockname(), net.socks[-1])
            if not net.ok(conn, "TCP connects"):
                continue
            back = net.listen("a", A, 5100) if n == 0 else None
            for e, let_in, what in ((("s", S, 7101), n < 2, "another port of it"), (("t", T, 7101), n < 1, "another host")):
                if back is None:  # there is no listener: seen as a frame
                    dev = e[0] + "0"
                    got = net.over(w.ip4(e[1], conn[1][0], w.TCP, w.tcp(e[1], conn[1][0], e[2], conn[1][1])), dev, "a0", lambda p: p[9] == w.TCP and p[12:16] == w.address(e[1]), 2 if let_in else 0.4)
                    net.same(got is not None, let_in, "TCP: a SYN of %s is %s" % (what, "let in" if let_in else "kept out"))
                else:
                    got = net.connects(net.tcp(*e), conn[1], back)
                    net.same(got and got[1], e[1:], "TCP: %s connects" % what)


def pooling(tap, bed, watch, mode):
    """RFC 4787 REQ-2, RFC 6888 REQ-2, RFC 7857 section 4: one outside address for all of a subscriber; or any."""
    outside = "203.0.113.64/29"
    with nat.Nat(tap, bed, watch, "", "pooling paired, " + mode, mode=mode, outside=outside) as net:
        end, listener = net.udp("s", S, 7000), net.listen("s", S, 7100)
        for src in (A, A2, A3):
            seen = [net.mapped(net.udp("a", src), end) for _ in range(8)]
            conn = net.connects(net.tcp("a", src), (S, 7100), listener)
            ping = net.over(w.ip4(src, S, w.ICMP, w.echo(src, S, ident=77)), "a0", "s0", lambda p: p[9] == w.ICMP and p[20] == 8)
            addresses = {x[0] for x in seen} | {conn[1][0], w.socket.inet_ntoa(ping[12:16])}
            net.same(len(addresses), 1, "all mappings of %s have one outside address, UDP, TCP and ICMP" % src)
        counts = {x["address"]: x["subscribers_cnt"] for x in net.nat("--addresses")["addresses"]}
        net.ok(sum(counts.values()) == 3 and max(counts.values()) == 1, "subscribers are spread over the addresses", counts)
    with nat.Nat(tap, bed, watch, "pooling: arbitrary", "pooling arbitrary, " + mode, mode=mode, outside=outside) as net:
        end = net.udp("s", S, 7000)
        seen = {net.mapped(net.udp("a", A), end)[0] for _ in range(24)}
        net.ok(len(seen) > 1, "mappings of one subscriber have several addresses", seen)


def choice(tap, bed, watch, mode):
    """RFC 4787 REQ-3a, REQ-4, RFC 7857 sections 8 and 9, RFC 6056."""
    with nat.Nat(tap, bed, watch, "", "port_choice random, " + mode, mode=mode) as net:
        end = net.udp("s", S, 7000)
        ports = [net.mapped(net.udp("a", A, 5000 + n), end)[1] for n in range(40)]
        steps = [b - a for a, b in zip(ports, ports[1:])]
        net.ok(len(set(ports)) == 40 and sum(abs(x) <= 2 for x in steps) <= 2 and max(ports) - min(ports) > 20000, "ports are spread, and no step follows from the last", ports)
        net.ok(all(1024 <= p <= 65535 for p in ports), "all from the range")
    with nat.Nat(tap, bed, watch, "port_choice: parity", "port_choice parity, " + mode, mode=mode) as net:
        end = net.udp("s", S, 7000)
        wrong = [(p, net.mapped(net.udp("a", A, p), end)) for p in range(5000, 5030)]
        net.same([x for x in wrong if x[0] % 2 != x[1][1] % 2], [], "an even port gets an even one, an odd an odd")
    with nat.Nat(tap, bed, watch, "port_choice: preserve\nports: 100-65535", "port_choice preserve, " + mode, mode=mode, outside="203.0.113.64") as net:
        end = net.udp("s", S, 7000)
        net.same(net.mapped(net.udp("a", A, 5000), end)[1], 5000, "the port is kept when it is free")
        other = net.mapped(net.udp("a", A2, 5000), end)
        net.ok(other[1] != 5000 and other[1] % 2 == 0, "the next who wants it gets another of its parity", other)
        net.same(net.mapped(net.udp("a", A, 200), end)[1], 200, "a port below 1024 too")
        low = net.mapped(net.udp("a", A2, 200), end)
        net.ok(low[1] != 200, "but not twice", low)


def ranges(tap, bed, watch, mode):
    """RFC 6888 REQ-3: addresses that are no prefix; `ports` says which."""
    with nat.Nat(tap, bed, watch, "ports: 20000-20099\npooling: arbitrary", "ranges, " + mode, mode=mode, outside="203.0.113.9, 203.0.113.64/31, 203.0.113.100-203.0.113.102") as net:
        end = net.udp("s", S, 7000)
        seen = [net.mapped(net.udp("a", "100.64.0.%d" % (2 + n % 8), 6000 + n), end) for n in range(48)]
        net.same(sorted({x[0] for x in seen} - {nat.OUT % n for n in (9, 64, 65, 100, 101, 102)}), [], "only configured addresses are used")
        net.ok(len({x[0] for x in seen}) >= 5, "and nearly all of them", {x[0] for x in seen})
        net.ok(all(20000 <= x[1] <= 20099 for x in seen), "ports of the range only", seen)


def test(tap, bed):
    nat.each(tap, bed, (mapping, filtering, pooling, choice, ranges), nat.modes("never", "always"))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natmap"))
