#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel: datagrams in pieces, in every order, with pieces missing, doubled and overlapping.

What counts is what a socket at the far end gets.
"""
import itertools
import os
import socket
import struct

import router as rt
import wire as w

PORT = 6100
PIECES = 4
CPUS = sorted(os.sched_getaffinity(0))


def cut(src, dst, ident, data, sport, dport=PORT, cnt=PIECES, more_at_end=False):
    """The IP packets of a UDP datagram in cnt pieces of 64 bytes, in order; what is over is in the last."""
    whole = w.udp(src, dst, sport, dport, data)
    parts = [whole[n * 64:(n + 1) * 64] for n in range(cnt - 1)] + [whole[(cnt - 1) * 64:]]
    return [piece(src, dst, ident, n * 64, n < cnt - 1 or more_at_end, part) for n, part in enumerate(parts)]


def piece(src, dst, ident, offset, more, part):
    if ":" not in src:
        return w.ip4(src, dst, w.UDP, part, ident=ident, frag=offset // 8 | more << 13)
    return w.ip6(src, dst, 44, struct.pack("!BBHI", w.UDP, 0, offset | more, ident) + part)


class Sender:
    """c's device; with several queues each packet is sent by another CPU, and so comes in by another queue."""

    def __init__(self, net):
        self.net, self.port, self.cnt = net, net.port("c0"), 0

    def __call__(self, packet):
        if self.net.queues > 1:
            os.sched_setaffinity(0, {CPUS[self.cnt % len(CPUS)]})
        self.cnt += 1
        self.port.send(self.net.frame(packet))


def load(n):
    """What a datagram carries: its number and something that differs from byte to byte."""
    return struct.pack("!I", n) + bytes((i * 7 + n) & 0xFF for i in range(246))


def delivered(net, sock, sent, wait_s=5):
    """The numbers of the datagrams a socket gets, all intact; those of `sent` are waited for."""
    os.sched_setaffinity(0, set(CPUS))
    got, left = [], set(sent)
    sock.settimeout(wait_s if left else 0.5)
    while True:
        try:
            data = sock.recv(65536)
        except socket.timeout:
            return got
        n = struct.unpack("!I", data[:4])[0]
        got.append(n if data == load(n) else "damaged")
        left.discard(n)
        if not left:
            sock.settimeout(0.3)


def orders(net):
    for family, src, dst in rt.FAMILIES:
        sock = rt.udp_socket(net, "s", dst, PORT)
        send = Sender(net)
        every = list(itertools.permutations(range(PIECES)))
        for n, order in enumerate(every):
            p = cut(src, dst, 1000 + n, load(n), 7000 + n)
            for i in order:
                send(p[i])
        got = delivered(net, sock, range(len(every)))
        net.tell("pieces in each of %d orders, IPv%d" % (len(every), family), sorted(got), list(range(len(every))))
        # all datagrams of one flow, their pieces shuffled together
        packets = [x for n in range(8) for x in cut(src, dst, 2000 + n, load(n), 7100)]
        for i in range(len(packets)):
            send(packets[i * 13 % len(packets)])
        net.tell("eight datagrams of a flow, shuffled, IPv%d" % family, sorted(delivered(net, sock, range(8))), list(range(8)))
        # the same identification from another sender, at the same time
        other = "10.1.0.77" if family == 4 else "fd00:1::77"
        a, b = cut(src, dst, 3000, load(1), 7200), cut(other, dst, 3000, load(2), 7200)
        for x, y in zip(a, reversed(b)):
            send(x)
            send(y)
        net.tell("two senders with one identification, IPv%d" % family, sorted(delivered(net, sock, (1, 2))), [1, 2])
        sock.close()


def missing(net):
    for family, src, dst in rt.FAMILIES:
        sock = rt.udp_socket(net, "s", dst, PORT)
        send = Sender(net)
        for lost in range(PIECES):
            for i, x in enumerate(cut(src, dst, 4000 + lost, load(lost), 7300 + lost)):
                if i != lost:
                    send(x)
        for x in cut(src, dst, 4100, load(9), 7309):
            send(x)
        net.tell("one piece of each lost, then a whole one, IPv%d" % family, delivered(net, sock, (9,)), [9])
        # the lost first one comes at last
        p = cut(src, dst, 4200, load(10), 7310)
        for x in p[1:]:
            send(x)
        w.time.sleep(0.3)
        send(p[0])
        net.tell("the first one 0.3 s late, IPv%d" % family, delivered(net, sock, (10,)), [10])
        sock.close()


def odd(net):
    """Doubled and overlapping pieces."""
    for family, src, dst in rt.FAMILIES:
        sock = rt.udp_socket(net, "s", dst, PORT)
        send = Sender(net)

        cases = []

        def case(name, packets, want, n):
            """want: how often the datagram n arrives."""
            for x in packets:
                send(x)
            cases.append((name, n, want))

        whole = w.udp(src, dst, 7400, PORT, load(20))
        p = cut(src, dst, 5000, load(20), 7400)
        case("every piece twice", [x for x in p for _ in (0, 1)][:-1], 1, 20)
        p = cut(src, dst, 5001, load(21), 7401)
        case("the first piece twice", [p[0]] + p, 1, 21)
        p = cut(src, dst, 5002, load(22), 7402)
        bad = w.udp(src, dst, 7402, PORT, load(22))
        case("a piece that overlaps two", [p[0], p[1], piece(src, dst, 5002, 96, True, bad[96:160]), p[2], p[3]], 0, 22)
        p = cut(src, dst, 5003, load(23), 7403)
        case("another first piece", [p[0], piece(src, dst, 5003, 0, True, struct.pack("!HHHH", 7999, PORT + 1, 258, 0) + bytes(64)), p[1], p[2], p[3]], 0, 23)
        p = cut(src, dst, 5004, load(24), 7404)
        case("a tiny first piece, then one over it", [piece(src, dst, 5004, 0, True, whole[:8]), piece(src, dst, 5004, 0, True, whole[:64])] + p[1:], 0, 24)
        # a first piece of eight bytes alone is odd and right
        whole = w.udp(src, dst, 7405, PORT, load(25))
        case("a first piece of eight bytes", [piece(src, dst, 5005, 0, True, whole[:8]), piece(src, dst, 5005, 8, False, whole[8:])], 1, 25)
        if family == 6:
            whole = w.udp(src, dst, 7406, PORT, load(26))
            case("an atomic fragment", [piece(src, dst, 5006, 0, False, whole)], 1, 26)
        case("a whole one after them", cut(src, dst, 5007, load(27), 7407), 1, 27)
        # one after the other, and listened to together
        got = delivered(net, sock, [n for _, n, want in cases if want])
        for name, n, want in cases:
            net.tell("%s, IPv%d" % (name, family), got.count(n), want)
        net.tell("and nothing else, IPv%d" % family, sorted(got), sorted(n for _, n, want in cases if want))
        sock.close()


def with_a_filter(net):
    """A port rule counts for all pieces of a datagram: Millrace alone, the kernel without a firewall lets all pass."""
    for family, src, dst in rt.FAMILIES:
        opened, closed = rt.udp_socket(net, "s", dst, PORT), rt.udp_socket(net, "s", dst, PORT + 1)
        send = Sender(net)
        for n, order in enumerate(itertools.permutations(range(PIECES))):
            p, q = cut(src, dst, 6000 + n, load(n), 7500 + n), cut(src, dst, 6500 + n, load(n), 7500 + n, PORT + 1)
            for i in order:
                send(p[i])
                send(q[i])
        net.tap.same(sorted(delivered(net, opened, range(24))), list(range(24)), "%s: an open port, pieces in every order, IPv%d" % (net.half, family))
        net.tap.same(delivered(net, closed, []), [], "%s: a closed port, not one, IPv%d" % (net.half, family))
        opened.close()
        closed.close()


GUARD = """stages:
  guard: { type: filter, default: drop, rules: [ { name: open, action: accept, proto: udp, dport: %d },
                                                 { name: answers, action: accept, state: established },
                                                 { name: control, action: accept, proto: icmp6 } ] }""" % PORT

OPEN = rt.config(stages=GUARD, out=", stages: [ guard ]").replace("{ device: lan }", "{ device: lan, on_exit: pass }")


def test(tap, bed):
    if len(CPUS) > 1:
        variants = {"two workers": rt.TWO_WORKERS}
    else:
        tap.skip("pieces that come in by several queues", "one CPU")
        variants = {}
    rt.both(tap, bed, (orders, missing, odd), variants=variants)
    if "millrace" in rt.halves():
        rt.one_half(tap, bed, "a filter", (with_a_filter,), dict(config=OPEN))
        if variants:
            rt.one_half(tap, bed, "a filter, two workers", (with_a_filter,),
                        dict(rt.TWO_WORKERS, config=OPEN.replace("interfaces:", "workers: { cores: 0-1 }\ninterfaces:")))


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rtfrag"))
