#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The end of a connection that XDP carries: its last segments come up, and nothing of it is lost, doubled or out of order.

Segments are made by hand and captured at the other side; then real stacks close a thousand connections, half and whole.
"""
import hashlib
import socket
import threading

import offload as o
import wire as w

STATES = {"half": ["closing"], "reset": ["closed"], "both": ["closed"]}


class Connection:
    """Two ends made by hand; remembers in order what each has sent."""

    def __init__(self, client, server, near, far, sport, dport=80):
        self.ports, self.near, self.far, self.sport, self.dport = {"c": client, "s": server}, near, far, sport, dport
        self.seq, self.sent = {"c": 1000, "s": 5000}, {"c": [], "s": []}

    def send(self, way, flags=w.ACK, data=b""):
        src, dst, sp, dp = (self.near, self.far, self.sport, self.dport) if way == "c" else (self.far, self.near, self.dport, self.sport)
        f = w.packet(src, dst, w.TCP, w.tcp(src, dst, sp, dp, flags, data, seq=self.seq[way], ack=self.seq["s" if way == "c" else "c"]))
        f = f if way == "c" else w.swapped(f)
        self.seq[way] += len(data) + bool(flags & (w.SYN | w.FIN))
        self.sent[way].append(f)
        self.ports[way].send(f)

    def open(self, settle):
        """The handshake, each segment after the other has crossed."""
        self.send("c", w.SYN)
        settle()
        self.send("s", w.SYN | w.ACK)
        settle()
        self.send("c")
        settle()

    def arrived(self):
        """What came to each side of this connection, in order; others' segments are kept for them."""
        got = {}
        for way, to in (("c", "s"), ("s", "c")):
            mine = b"".join(w.struct.pack("!H", p) for p in ((self.sport, self.dport) if way == "c" else (self.dport, self.sport)))
            at = 54 if ":" in self.near else 34
            got[way] = [f for f in self.ports[to].take_cnt(len(self.sent[way])) if f[at:at + 4] == mine]
        return got


def by_hand(tap, bed, m, client, server):
    sport = 1000
    for near, far in ((o.C4, o.S4), (o.C6, o.S6)):
        for end in ("half", "reset", "both"):
            sport += 1
            name = "%s, IPv%d" % ({"half": "FIN one way", "reset": "RST", "both": "FIN both ways"}[end], 6 if ":" in near else 4)
            k = Connection(client, server, near, far, sport)
            k.open(lambda: w.settle(bed, m))

            def turn():
                k.send("c", w.ACK, b"q" * 10)
                k.send("s", w.ACK, b"a" * 10)
            o.goes_over(tap, bed, m, turn, name, "--port", str(sport), cnt=2)
            # in a burst, so that the end is sent while XDP carries what is before it
            for n in range(40):
                k.send("c", w.ACK | w.PSH, b"%04d" % n * 40)
                k.send("s", w.ACK | w.PSH, b"%04d" % n * 40)
            if end == "reset":
                k.send("c", w.RST | w.ACK)
            else:
                k.send("c", w.FIN | w.ACK)
                if end == "both":
                    k.send("s", w.FIN | w.ACK)
                    w.settle(bed, m)  # who acknowledges has received
                    k.send("c")
                else:
                    with o.carried(tap, bed, m, name + ": the other direction goes on", "wan", least=300, most_up=0 if end == "half" else 1):
                        for n in range(300):
                            k.send("s", w.ACK | w.PSH, b"%04d" % n * 50)
                    k.send("c")  # what is said after a FIN is an acknowledgement
            got = k.arrived()
            for way in "cs":
                tap.ok(got[way] == k.sent[way], "%s: %d segments from %s arrive once, in order, to the last" % (name, len(k.sent[way]), way), difference(k.sent[way], got[way]))
            found = w.show(bed, m, "flows", "--port", str(sport))["flows"]
            tap.same([f["state"] for f in found], STATES[end], name + ": the session is " + STATES[end][0])
            if end != "half":
                tap.ok(not any(s["offloaded"] for s in o.sides(bed, m, "--port", str(sport))), name + ": and in XDP no more", found)
            w.account(tap, bed, m, name)


def difference(want, got):
    n = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
    return "%d sent, %d arrived; from number %d on:\n%s\n%s" % (len(want), len(got), n, [f[34:].hex() for f in want[n:n + 3]], [f[34:].hex() for f in got[n:n + 3]])


def bursts(tap, bed, m, client, server):
    """Many connections whose FIN follows at once on what XDP carries: the last segments of none are overtaken."""
    wrong, cnt, inside = [], 60, 0
    before = w.settle(bed, m)
    for sport in range(3000, 3000 + cnt):
        k = Connection(client, server, o.C4, o.S4, sport)
        for way, flags in (("c", w.SYN), ("s", w.SYN | w.ACK), ("c", w.ACK)):
            k.send(way, flags)
            if k.ports["s" if way == "c" else "c"].take() != k.sent[way][-1]:
                wrong.append("%d: the handshake does not cross" % sport)
        for n in range(12):
            k.send("c", w.ACK, b"question")
            client_got = server.take()
            k.send("s", w.ACK, b"answer")
            server_got = client.take()
            if client_got != k.sent["c"][-1] or server_got != k.sent["s"][-1]:
                wrong.append("%d: number %d does not cross" % (sport, n))
        k.sent = {"c": [], "s": []}
        for n in range(30):
            k.send("c", w.ACK, b"%05d" % n)
        k.send("c", w.FIN | w.ACK)
        for n in range(30):
            k.send("s", w.ACK, b"%05d" % n)
        k.send("s", w.FIN | w.ACK)
        k.send("c")
        got = {"c": [server.take() for _ in range(32)], "s": [client.take() for _ in range(31)]}
        wrong += ["%d from %s: %s" % (sport, way, difference(k.sent[way], [f or b"" for f in got[way]])) for way in "cs" if got[way] != k.sent[way]]
    d = w.account(tap, bed, m, "bursts")
    inside = o.received(d) - o.received(before) - (o.up(d) - o.up(before))
    tap.ok(not wrong, "%d connections that end in a burst: every segment once and in order" % cnt, "\n".join(wrong[:5]))
    tap.ok(inside == 0 if o.never() else inside > cnt * 40, "most of it inside XDP", inside)


def half_closed_for_real(tap, bed, m):
    """A client that has nothing more to say gets megabytes."""
    for family, near, far in o.FAMILIES:
        listener = w.enter(bed, "s", socket.create_server, (far, 0), family=socket.AF_INET6 if family == 6 else socket.AF_INET)
        data = bytes(range(256)) * (8 << 12)

        def serve():
            conn, _ = listener.accept()
            with conn:
                while conn.recv(4096):
                    pass
                conn.sendall(data)
        t = threading.Thread(target=serve, daemon=True)
        t.start()
        name = "half closed, IPv%d" % family
        with o.healthy(tap, bed, name), o.carried(tap, bed, m, name, "wan", least=5000, most_up=0.9):
            with w.enter(bed, "c", socket.create_connection, listener.getsockname()[:2], timeout=30) as conn:
                conn.sendall(b"go")
                conn.shutdown(socket.SHUT_WR)
                got = hashlib.sha256()
                while True:
                    part = conn.recv(1 << 16)
                    if not part:
                        break
                    got.update(part)
            tap.same(got.hexdigest(), hashlib.sha256(data).hexdigest(), name + ": 8 MB come to one who has closed his side")
            t.join(10)
        listener.close()


def test(tap, bed):
    o.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    timeouts = ", timeouts: { tcp_closed: 1h, tcp_transitory: 1h }"
    with bed.millrace("r", bed.file("closing.yaml", w.plain(top=o.flows(more=timeouts)))) as m:
        by_hand(tap, bed, m, client, server)
        bursts(tap, bed, m, client, server)
        tap.same(m.stop(), 0, "ends with 0")
    o.close_all(client, server)
    bed.clear()
    o.wire(bed, hosts=True)
    with bed.millrace("r", bed.file("closes.yaml", w.plain(top=o.flows("64k")))) as m:
        half_closed_for_real(tap, bed, m)
        for family, near, far in o.FAMILIES:
            name = "closes, IPv%d" % family
            with o.healthy(tap, bed, name):
                o.conversations(tap, bed, far, 2500, name)
        d = w.account(tap, bed, m, "closes")
        tap.same(d["totals"]["dropped_packets"], 0, "nothing was dropped")
        tap.same(w.show(bed, m, "flows", "--state", "established", "--proto", "tcp")["flows"], [], "no connection is left open")
        tap.same(m.stop(), 0, "ends with 0 again")


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offclo"))
