#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: all ports in use, quarantine, limits of a subscriber, blocks of ports; refusals are answered (RFC 6888, RFC 7422)."""
import struct
import time

import nat
import wire as w
from nat import A, A2, A3, B, S, T


def syn(src, sport, dst=S, dport=9):
    return w.ip4(src, dst, w.UDP, w.udp(src, dst, sport, dport, b"port"))


def fill(net, src, ports, dev="a0", dst=S, dport=9):
    """Opens mappings by frames; {inside port: (outside address, port)} of those that left."""
    net.port("s0")
    found = {}
    for n, port in enumerate(ports):
        net.send(syn(src, port, dst, dport), dev)
        if n % 32 == 31:
            collect(net, found, 0.02)
    collect(net, found, 0.3)
    return found


def collect(net, found, wait_s):
    while True:
        p = net.catch("s0", lambda p: p[9] == w.UDP and p[28:32] == b"port", wait_s)
        if not p:
            return
        # whose it was: nothing in the packet says, so they are told apart by the count; the pair is what is unique
        found[len(found)] = (w.socket.inet_ntoa(p[12:16]), struct.unpack("!H", p[20:22])[0])


def refused(net, src, sport, name, reason, dev="a0", dst=S):
    """Dropped, counted, and its sender is told 3/1 (RFC 6888 REQ-11 A and B)."""
    before = net.drops().get(reason, 0)
    sent = syn(src, sport, dst)
    net.port("s0")
    got = net.over(sent, dev, dev, lambda p: p[9] == w.ICMP)
    net.ok(got and got[20:22] == b"\3\1" and got[16:20] == w.address(src) and got[28:48] == sent[:20] and w.checksum(got[20:]) == 0,
           name + ": host unreachable comes back, quoting it", got and got.hex())
    net.same(net.catch("s0", lambda p: p[28:32] == b"port", 0.1), None, name + ": nothing leaves")
    net.ok(w.wait_for(lambda: net.drops().get(reason, 0) > before, 3), "%s: counted as %s" % (name, reason), net.drops())


def exhaustion(tap, bed, watch, mode):
    """RFC 6888 REQ-11, REQ-13, REQ-8; RFC 4787 REQ-3."""
    with nat.Nat(tap, bed, watch, "ports: 20000-20199\nquarantine: 2s\ntimeouts: { udp: 300s, udp_unreplied: 300s }", "exhaustion, " + mode, mode=mode, outside="203.0.113.64") as net:
        found = fill(net, A, range(5000, 5200))
        net.same(sorted(p for _, p in found.values()), list(range(20000, 20200)), "every one of 200 ports is given, each once (REQ-13)")
        refused(net, A, 5200, "the 201st", "nat44-ports")
        refused(net, A2, 5000, "another subscriber", "nat44-ports")
        for _ in range(5):
            net.send(syn(A3, 5300), "a0")
        again = net.over(syn(A, 5000), "a0", "s0", lambda p: p[9] == w.UDP and p[28:32] == b"port")
        net.ok(again is not None, "those that have a mapping go on (REQ-11 D)")
        other = net.over(w.ip4(A, T, w.UDP, w.udp(A, T, 5001, 9, b"port")), "a0", "t0", lambda p: p[28:32] == b"port")
        net.ok(other and 20000 <= struct.unpack("!H", other[20:22])[0] <= 20199, "to other ends too: a mapping needs no other port")
        tcp = net.over(w.ip4(A, S, w.TCP, w.tcp(A, S, 5000, 9)), "a0", "s0", lambda p: p[9] == w.TCP)
        net.ok(tcp is not None, "TCP has ports of its own")
        # a freed port rests
        bed.run("r", [nat.find_millrace(), "--name", net.m.instance, "flows", "delete", "--proto", "udp", "--addr", A], check=False)
        left = w.wait_for(lambda: not net.flows("--proto", "udp", "--addr", A), 5)
        net.ok(left, "the sessions end")
        freed = time.monotonic()
        if time.monotonic() - freed < 1:
            refused(net, A2, 5001, "while they rest (REQ-8)", "nat44-ports")
        got = w.wait_for(lambda: net.over(syn(A2, 5001), "a0", "s0", lambda p: p[28:32] == b"port", 0.2), 20)
        net.ok(got and time.monotonic() - freed > 1.9, "afterwards they are given again", time.monotonic() - freed)
        found = fill(net, A3, range(6000, 6199))
        net.ok(len(found) >= 199 or w.wait_for(lambda: len(fill(net, A3, range(6000, 6199))) >= 199, 5), "all of them", len(found))


def limits(tap, bed, watch, mode):
    """RFC 6888 REQ-4, REQ-5."""
    with nat.Nat(tap, bed, watch, "limits: { mappings: 10 }", "limit of mappings, " + mode, mode=mode) as net:
        net.same(len(fill(net, A, range(5000, 5010))), 10, "ten ports")
        refused(net, A, 5010, "the eleventh", "nat44-mapping-limit")
        net.same(len(fill(net, A2, range(5000, 5010))), 10, "others have theirs")
        net.ok(net.over(syn(A, 5003, S, 10), "a0", "s0", lambda p: p[28:32] == b"port") is not None, "a session more of a mapping is no mapping more")
    with nat.Nat(tap, bed, watch, "limits: { sessions: 10 }", "limit of sessions, " + mode, mode=mode) as net:
        net.same(len([1 for n in range(10) if net.over(syn(A, 5000, S, 10 + n), "a0", "s0", lambda p: p[28:32] == b"port")]), 10, "ten sessions of one mapping")
        refused(net, A, 5000, "the eleventh", "nat44-session-limit", dst=S[:-1] + "3")
        net.same(len(fill(net, A2, range(5000, 5010))), 10, "others have theirs")
        # what is let in from outside counts too, and is not answered
        first = net.outside_of("a0", A3, 5000, S, 9)
        for n in range(12):
            net.send(w.ip4(S, first[0], w.UDP, w.udp(S, first[0], 2000 + n, first[1])), "s0")
        net.dropped("nat44-session-limit", 2, "sessions from outside count as well")


def blocks(tap, bed, watch, mode):
    """RFC 7422, RFC 6888 REQ-14."""
    with nat.Nat(tap, bed, watch, "ports: 20032-20287\nport_block: 64\nlimits: { blocks: 2 }\nquarantine: 1s", "blocks, " + mode, mode=mode, outside="203.0.113.64") as net:
        first = fill(net, A, range(5000, 5064))
        spans = {p // 64 for _, p in first.values()}
        net.ok(len(first) == 64 and len(spans) == 1, "64 ports are one block", sorted(p for _, p in first.values()))
        more = fill(net, A, range(5064, 5128))
        net.ok(len(more) == 64 and len({p // 64 for _, p in more.values()}) == 1 and not spans & {p // 64 for _, p in more.values()}, "the next 64 another", len(more))
        refused(net, A, 5128, "a third is over the limit", "nat44-block-limit")
        net.ok(len(fill(net, A2, range(5000, 5008))) == 8, "another subscriber gets one of its own")
        usage = net.nat("--addresses")["addresses"][0]
        net.same([usage["blocks_taken_cnt"], usage["blocks_cnt"], usage["udp"]["taken_cnt"]], [3, 4, 136], "`show nat` counts them")
        fill(net, A3, range(5000, 5002))
        refused(net, B, 5000, "when none is left", "nat44-blocks", dev="b0")


def answers(tap, bed, watch, mode):
    """Refusals are answered no faster than ICMP may be (RFC 1812 section 4.3.2.8); errors and later fragments never."""
    with nat.Nat(tap, bed, watch, "ports: 20000-20003", "answers, " + mode, mode=mode, outside="203.0.113.64") as net:
        fill(net, A, range(5000, 5004))
        net.port("a0")
        for n in range(4000):
            net.send(syn(A2, 1024 + n), "a0")
        heard = 0
        while net.catch("a0", lambda p: p[9] == w.ICMP, 0.3):
            heard += 1
        d = net.drops()
        # what a slow worker's ring did not take was not refused
        net.ok(1000 < d.get("nat44-ports", 0) <= 4000 and 0 < heard < 1000, "4000 refused at once: answered, but not all", (d, heard))


def test(tap, bed):
    nat.each(tap, bed, tuple(nat.with_deaf(c) for c in (exhaustion, limits, blocks, answers)), nat.modes("never", "always"))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natlim"))
