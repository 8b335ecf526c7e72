#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Datagrams in pieces through a bump in the wire with a port filter: what the far kernel puts together is what was let through.

Every order of the pieces, both families, sizes up to 60 000 bytes, large pings and their answers; then the same with two queues and two
workers, each piece coming in by another queue than the one before.
"""
import itertools
import os
import random
import socket
import struct
import threading

import wire as w

CPUS = sorted(os.sched_getaffinity(0))
PAIRS = (("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2"))
OPEN, SHUT = 9000, 9001

GUARD = """stages:
  guard:
    type: filter
    default: drop
    rules:
      - { name: resolution, action: accept, ethertype: arp }
      - { name: neighbours, action: accept, icmp: [ 135, 136 ] }
      - { name: pings, action: accept, icmp: [ 8, 0, 128, 129 ] }
      - { name: open, action: accept, proto: udp, dport: %d }
      - { name: answers, action: accept, proto: udp, sport: %d }
""" % (OPEN, OPEN)
PORTS = """version: 1
%(top)s
memory: { huge_pages: never }
interfaces:
  lan: { device: lan, on_exit: pass }
  wan: { device: wan, on_exit: pass }
pipelines:
  out: { from: [ lan ], match: [ { proto: udp, dport: %(open)d } ], stages: [], to: wan }
"""


def pieces(src, dst, ident, segment, cuts, proto=w.UDP):
    """Frames of a datagram cut at those bytes (multiples of 8)."""
    ends = list(cuts) + [len(segment)]
    out = []
    for at, end in zip([0] + list(cuts), ends):
        more = end < len(segment)
        if ":" in src:
            out.append(w.packet(src, dst, 44, struct.pack("!BBHI", proto, 0, at | more, ident) + segment[at:end]))
        else:
            out.append(w.packet(src, dst, proto, segment[at:end], ident=ident, frag=at // 8 | more << 13))
    return out


class Far:
    """A socket at the server; what it got, as numbers of datagrams that were whole."""

    def __init__(self, bed, dst, port):
        family = socket.AF_INET6 if ":" in dst else socket.AF_INET
        self.sock = w.enter(bed, "s", socket.socket, family, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
        w.enter(bed, "s", self.sock.bind, (dst, port))

    def take(self, cnt, wait_s=5):
        got = []
        self.sock.settimeout(wait_s if cnt else 0.4)
        while True:
            try:
                data = self.sock.recv(65536)
            except socket.timeout:
                return sorted(got, key=str)
            number = struct.unpack("!I", data[:4])[0]
            got.append(number if data == load(number, len(data)) else "damaged %d" % number)
            if len(got) >= cnt:
                self.sock.settimeout(0.4)


    def close(self):
        self.sock.close()


def load(number, size):
    return (struct.pack("!I", number) + bytes((i * 31 + number) & 0xFF for i in range(251)) * (size // 251 + 1))[:size]


class Near:
    """The client's device; with several queues every frame is sent by another CPU, and so comes in by another queue."""

    def __init__(self, port, queues):
        self.port, self.queues, self.cnt = port, queues, 0

    def send(self, frame):
        if self.queues > 1:
            os.sched_setaffinity(0, {CPUS[self.cnt % len(CPUS)]})
        self.cnt += 1
        self.port.send(frame)

    def rest(self):
        os.sched_setaffinity(0, set(CPUS))


def every_order(tap, near, bed, name):
    for src, dst in PAIRS:
        far, shut = Far(bed, dst, OPEN), Far(bed, dst, SHUT)
        ident = random.Random(src).randrange(1, 60000)
        sent = []
        for cnt in (2, 3, 4):
            for order in itertools.permutations(range(cnt)):
                number = len(sent)
                size = 60 * cnt + number
                for port in (OPEN, SHUT):
                    ident += 1
                    p = pieces(src, dst, ident, w.udp(src, dst, 5000, port, load(number, size)), [64 * (k + 1) for k in range(cnt - 1)])
                    for i in order:
                        near.send(p[i])
                sent.append(number)
        near.rest()
        tap.same(far.take(len(sent)), sorted(sent, key=str), "%s: pieces in each of %d orders arrive, %s" % (name, len(sent), src))
        tap.same(shut.take(0), [], "%s: none of those whose port is shut, %s" % (name, src))
        far.close()
        shut.close()


def bad_ones(tap, near, bed, m, name):
    for src, dst in PAIRS:
        far = Far(bed, dst, OPEN)
        before = w.drops(w.settle(bed, m))
        make = lambda ident, number: pieces(src, dst, ident, w.udp(src, dst, 5001, OPEN, load(number, 200)), (64, 128))  # noqa: E731
        whole = w.udp(src, dst, 5001, OPEN, load(3, 200))
        a, b, c = make(61001, 1), make(61002, 2), make(61003, 3)
        for f in (a[0], a[1], a[1], a[2]):  # a duplicate made on the way harms nothing
            near.send(f)
        for f in (b[1], b[2]):  # no first one
            near.send(f)
        near.send(c[0])
        near.send(c[1])
        overlap = pieces(src, dst, 61003, whole, (120, 136))[1]  # some bytes again
        near.send(overlap)
        near.send(c[2])
        near.rest()
        tap.same(far.take(1), [1], "%s: a duplicate is dropped alone, an overlap takes the datagram along, %s" % (name, src))
        gone = lambda: w.drops(w.show(bed, m)).get("fragment-timeout", 0) - before.get("fragment-timeout", 0)  # noqa: E731
        tap.ok(w.wait_for(lambda: gone() == 2), "%s: without the first one the others are dropped in time, %s" % (name, src), gone())
        d = w.account(tap, bed, m, name)
        tap.same(w.drops(d).get("fragment-overlap", 0) - before.get("fragment-overlap", 0), 3, "%s: overlaps are counted, %s" % (name, src))
        far.close()


def sizes(tap, bed, name):
    """Datagrams of the kernel's own cutting, both ways: an echo server at the far end."""
    for src, dst in PAIRS:
        family = socket.AF_INET6 if ":" in dst else socket.AF_INET
        near = w.enter(bed, "c", socket.socket, family, socket.SOCK_DGRAM)
        far = w.enter(bed, "s", socket.socket, family, socket.SOCK_DGRAM)
        w.enter(bed, "s", far.bind, (dst, OPEN))

        far.settimeout(0.2)
        over = threading.Event()

        def answer():
            while not over.is_set():
                try:
                    data, who = far.recvfrom(65536)
                    far.sendto(data, who)
                except socket.timeout:
                    pass

        server = threading.Thread(target=answer, daemon=True)
        server.start()
        wanted, got = [100, 1472, 1473, 2961, 4000, 9000, 20000, 60000], []
        near.settimeout(5)
        for size in wanted:
            near.sendto(load(size, size), (dst, OPEN))
            try:
                data = near.recv(65536)
                got.append(len(data) if data == load(size, size) else "damaged")
            except socket.timeout:
                got.append("lost")
        tap.same(got, wanted, "%s: datagrams of all sizes go and are answered, %s" % (name, src))
        over.set()
        server.join(5)
        far.close()


def pings(tap, bed, name):
    for _, dst in PAIRS:
        out = bed.run("c", "ping -c 5 -i 0.05 -W 5 -s 4000 " + dst, check=False)
        tap.ok(" 5 received" in out, "%s: ping -s 4000 %s" % (name, dst), out)


def test_guard(tap, bed, near, queues, name):
    top = "flows: { capacity: 4k }" + ("\nworkers: { cores: %d-%d }" % (CPUS[0], CPUS[1]) if queues > 1 else "")
    text = w.plain(top=top, stages=GUARD, out=", stages: [ guard ]", into=", stages: [ guard ]")
    with bed.millrace("r", bed.file("guard%d.yaml" % queues, text)) as m:
        pings(tap, bed, name)
        sizes(tap, bed, name)
        every_order(tap, near, bed, name)
        bad_ones(tap, near, bed, m, name)
        crossed = sum(x["handoff_out_packets"] for x in w.show(bed, m)["workers"])
        tap.ok((crossed > 0) == (queues > 1), "%s: pieces cross to the worker of their datagram" % name, crossed)
        tap.same(m.stop(), 0, name + ": ends with 0")


def test_ports(tap, bed, near, queues, name):
    """Steered by port: what the pipeline wants crosses; the pieces of other ports are the appliance's own kernel's, whole and in order."""
    top = "workers: { cores: %d-%d }" % (CPUS[0], CPUS[1]) if queues > 1 else ""
    bed.run("r", "ip addr replace 10.9.7.1/24 dev lan")
    with bed.millrace("r", bed.file("ports%d.yaml" % queues, PORTS % dict(top=top, open=OPEN))) as m:
        src, dst = "10.9.0.1", "10.9.0.2"
        far = Far(bed, dst, OPEN)
        here = w.enter(bed, "r", socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        w.enter(bed, "r", here.bind, ("10.9.7.1", SHUT))
        here.settimeout(5)
        lan = [d for d in w.json.loads(bed.run("r", "ip -j link show dev lan"))][0]["address"]
        orders = list(itertools.permutations(range(3)))
        for n, order in enumerate(orders):
            theirs = pieces(src, dst, 500 + n, w.udp(src, dst, 5002, OPEN, load(n, 300)), (80, 160))
            ours = pieces("10.9.7.2", "10.9.7.1", 600 + n, w.udp("10.9.7.2", "10.9.7.1", 5002, SHUT, load(n, 300)), (80, 160))
            for i in order:
                near.send(theirs[i])
                near.send(w.mac(lan) + ours[i][6:])
        near.rest()
        in_order = sorted if name.startswith("2") else list  # datagrams of different workers may overtake each other
        tap.same(in_order(far.take(len(orders))), list(range(len(orders))), "%s: those of the port steered" % name)
        got = []
        try:
            while len(got) < len(orders):
                got.append(struct.unpack("!I", here.recv(4096)[:4])[0])
        except socket.timeout:
            pass
        tap.same(in_order(got), list(range(len(orders))), "%s: those of another port reach the kernel" % name)
        w.account(tap, bed, m, name)
        tap.same(m.stop(), 0, name + ": ends with 0")
    bed.run("r", "ip addr del 10.9.7.1/24 dev lan")


def everything(tap, bed, queues):
    w.wire(bed, hosts=True, queues=(queues, queues))
    bed.run("c", "ip neigh replace 10.9.7.1 lladdr 02:00:00:00:09:09 dev c0")
    bed.run("r", "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.lan.rp_filter=0")
    near = Near(w.Port(bed, "c", "c0"), queues)
    name = "%d queue%s" % (queues, "s" if queues > 1 else "")
    test_guard(tap, bed, near, queues, name)
    test_ports(tap, bed, near, queues, name + ", by port")


def both(tap, bed):
    everything(tap, bed, 1)
    if len(CPUS) < 2:
        tap.skip("two queues", "one CPU")
        return
    with w.Bed("mrf2") as other:
        everything(tap, other, 2)


if __name__ == "__main__":
    w.sys.exit(w.main(both, "mrf"))
