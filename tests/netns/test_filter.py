#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every packet gets the verdict the rules give that packet, whatever its flow was told before.

Packets of one flow that differ in length, DSCP, TCP flags, fragment, VLAN tag and TTL cross in random order again and again; what
arrives is compared byte for byte with what the rules let through.
"""
import random

import wire as w

FIELDS = """stages:
  guard:
    type: filter
    rules:
      - { name: long, action: drop, length: [ 500-600 ] }
      - { name: expedited, action: drop, dscp: 46 }
      - { name: pieces, action: drop, fragment: true }
      - { name: tagged, action: drop, vlan: 7 }
      - { name: reset, action: drop, tcp_flags: rst }
      - { name: synfin, action: drop, tcp_flags: syn+fin }
      - { name: closed, action: drop, proto: [ tcp, udp ], dport: 23 }
      - { name: seen, action: accept, proto: udp, dport: 9 }
"""
STATES = """stages:
  door:
    type: filter
    default: drop
    rules:
      - { name: odd, action: drop, state: invalid }
      - { name: replies, action: accept, state: [ established, related ] }
      - { name: opened, action: accept, interface: lan, state: new }
"""


def v6_fragment(proto, offset, more, data, ident=77):
    return w.struct.pack("!BBHI", proto, 0, offset << 3 | more, ident) + data


def fields(src, dst, ident):
    """(rule that drops it or None, frame) of one UDP and one TCP flow; the datagram in pieces has that identification."""
    v6 = ":" in src
    tos, ttl = ("tclass", "hops") if v6 else ("tos", "ttl")
    seg = lambda n: w.udp(src, dst, 1000, 9, bytes(n))  # noqa: E731
    head = 40 if v6 else 20
    yield None, w.packet(src, dst, w.UDP, seg(18))
    yield None, w.packet(src, dst, w.UDP, seg(499 - head - 8))
    yield "long", w.packet(src, dst, w.UDP, seg(500 - head - 8))
    yield "long", w.packet(src, dst, w.UDP, seg(600 - head - 8))
    yield None, w.packet(src, dst, w.UDP, seg(601 - head - 8))
    yield "expedited", w.packet(src, dst, w.UDP, seg(18), **{tos: 46 << 2})
    yield "expedited", w.packet(src, dst, w.UDP, seg(18), **{tos: 46 << 2 | 3})
    yield None, w.packet(src, dst, w.UDP, seg(18), **{tos: 45 << 2})
    yield "tagged", w.packet(src, dst, w.UDP, seg(18), tags=(7,))
    yield "tagged", w.packet(src, dst, w.UDP, seg(18), tags=((7, w.QINQ), 8))
    yield None, w.packet(src, dst, w.UDP, seg(18), tags=(8,))
    yield None, w.packet(src, dst, w.UDP, seg(18), tags=(8, 7))
    yield None, w.packet(src, dst, w.UDP, seg(18), **{ttl: 1})
    yield None, w.packet(src, dst, w.UDP, seg(18), **{ttl: 0})
    yield "closed", w.packet(src, dst, w.UDP, w.udp(src, dst, 1000, 23, b"closed"))
    if v6:
        yield "pieces", w.packet(src, dst, 44, v6_fragment(w.UDP, 0, 1, seg(16), ident))
        yield "pieces", w.packet(src, dst, 44, v6_fragment(w.UDP, 3, 0, bytes(24), ident))
        yield None, w.packet(src, dst, 44, v6_fragment(w.UDP, 0, 0, seg(16)))  # atomic: a whole packet (RFC 6946)
    else:
        yield "pieces", w.packet(src, dst, w.UDP, seg(16), ident=ident, frag=0x2000)
        yield "pieces", w.packet(src, dst, w.UDP, bytes(24), ident=ident, frag=3)
        yield None, w.packet(src, dst, w.UDP, seg(16), frag=0x4000)
    for rule, flags in ((None, w.ACK), (None, w.ACK | w.PSH), ("reset", w.RST), ("reset", w.RST | w.ACK), ("synfin", w.SYN | w.FIN), (None, w.ACK)):
        yield rule, w.packet(src, dst, w.TCP, w.tcp(src, dst, 1000, 80, flags, b"data" * (not flags & 7), seq=5, ack=9))


def handshake(client, server, src, dst, port=80):
    """Opens a TCP session; True when all three segments crossed."""
    crossed = 0
    for a, b, frame in ((client, server, w.packet(src, dst, w.TCP, w.tcp(src, dst, 1000, port, w.SYN, seq=4))),
                        (server, client, w.packet(dst, src, w.TCP, w.tcp(dst, src, port, 1000, w.SYN | w.ACK, seq=8, ack=5))),
                        (client, server, w.packet(src, dst, w.TCP, w.tcp(src, dst, 1000, port, w.ACK, seq=5, ack=9)))):
        a.send(frame)
        crossed += b.take_cnt(1) == [frame]
    return crossed == 3


def by_rule(bed, m, stage):
    stages = w.show(bed, m, "stages")["stages"]
    return {c["name"].split(".")[-1]: c["packets"] for s in stages if s["name"] == stage for c in s["counters"]}


def test_fields(tap, bed, client, server, mode, state):
    name = "%s, state %s" % (mode, state)
    text = w.plain(interface=", mode: " + mode, stages=FIELDS, out=", stages: [ guard ], state: " + state)
    rng = random.Random(7)
    with bed.millrace("r", bed.file("fields.yaml", text)) as m:
        for src, dst in (("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")):
            tap.ok(handshake(client, server, src, dst), "%s: a TCP session opens, %s" % (name, src))
            wanted = {}
            before, dropped = by_rule(bed, m, "guard"), w.drops(w.settle(bed, m)).get("filter-blocked", 0)
            packets = [p for n in range(6) for p in fields(src, dst, 100 + n)]
            rng.shuffle(packets)
            for rule, frame in packets:
                client.send(frame)
                if rule:
                    wanted[rule] = wanted.get(rule, 0) + 1
            let = [f for rule, f in packets if not rule]
            got = server.take_cnt(len(let))
            tap.same(sorted(got), sorted(let), "%s: exactly what the rules let through arrives, %s" % (name, src))
            d = w.account(tap, bed, m, name)
            tap.same(w.drops(d).get("filter-blocked", 0) - dropped, len(packets) - len(let), "%s: the others are dropped by name, %s" % (name, src))
            after = by_rule(bed, m, "guard")
            tap.same({r: after[r] - before[r] for r in wanted}, wanted, "%s: each counted by its rule, %s" % (name, src))
        tap.same(m.stop(), 0, name + ": ends with 0")


def test_states(tap, bed, client, server):
    text = w.plain(stages=STATES, out=", stages: [ door ]", into=", stages: [ door ]")
    with bed.millrace("r", bed.file("states.yaml", text)) as m:
        for src, dst in (("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")):
            there = w.packet(src, dst, w.UDP, w.udp(src, dst, 1000, 53, b"question"))
            back = w.packet(dst, src, w.UDP, w.udp(dst, src, 53, 1000, b"answer"))
            other = w.packet(dst, src, w.UDP, w.udp(dst, src, 54, 1000, b"answer"))
            before = by_rule(bed, m, "door")
            server.send(back)
            w.settle(bed, m)
            tap.same(by_rule(bed, m, "door")["default"] - before["default"], 1, "an answer before the question is dropped by default, " + src)
            client.send(there)
            tap.same(server.take_cnt(1), [there], "the question crosses, " + src)
            for _ in range(3):
                server.send(back)
                server.send(other)
            tap.same(client.take_cnt(3), [back] * 3, "then its answers do, and no others, " + src)
            tap.ok(handshake(client, server, src, dst), "TCP opens from inside, " + src)
            syn = w.packet(dst, src, w.TCP, w.tcp(dst, src, 1000, 80, w.SYN))
            stray = w.packet(dst, src, w.TCP, w.tcp(dst, src, 1001, 80, w.RST))
            server.send(syn)
            server.send(stray)
            fits = w.packet(dst, src, w.TCP, w.tcp(dst, src, 80, 1000, w.ACK, b"data", seq=9, ack=5))
            server.send(fits)
            tap.same(client.take_cnt(1), [fits], "and not from outside; a segment of the session does cross, " + src)
            icmp = 1 if ":" in src else 3
            quoted = there[14:]
            body = (w.with_sum(dst, src, w.ICMP6, w.struct.pack("!BBHI", icmp, 4, 0, 0) + quoted, 2) if ":" in src else
                    w.struct.pack("!BBHI", icmp, 3, 0, 0) + quoted)
            body = body if ":" in src else body[:2] + w.struct.pack("!H", w.checksum(body)) + body[4:]
            error = w.packet(dst, src, w.ICMP6 if ":" in src else w.ICMP, body)
            server.send(error)
            tap.same(client.take_cnt(1), [error], "an ICMP error about the session is related, " + src)
            d = w.account(tap, bed, m, "states, " + src)
            tap.same(by_rule(bed, m, "door")["odd"] - before["odd"], 1, "a reset of no session is invalid, " + src)
            tap.ok(set(w.drops(d)) <= {"filter-blocked", "filter-default"}, "every drop has its name", w.drops(d))


def test(tap, bed):
    w.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    for mode, state in (("copy", "sessions"), ("generic", "sessions"), ("copy", "none")):
        test_fields(tap, bed, client, server, mode, state)
    test_states(tap, bed, client, server)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "filter"))
