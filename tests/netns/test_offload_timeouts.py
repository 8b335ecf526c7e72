#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""One session model: what XDP carries keeps its session alive although nothing of it comes up, and ends when it stops.

"""
import time

import offload as o
import wire as w

TIMEOUTS = ", timeouts: { udp: 800ms, udp_unreplied: 800ms, tcp_established: 800ms, icmp: 800ms, other: 800ms }"


def frames(near, far, proto):
    """A packet each way of a conversation."""
    if proto == "udp":
        there, back = (w.packet(a, b, w.UDP, w.udp(a, b, p, q, b"on and on")) for a, b, p, q in ((near, far, 4000, 9), (far, near, 9, 4000)))
    elif proto == "icmp":
        v6 = ":" in near
        there, back = (w.packet(a, b, w.ICMP6 if v6 else w.ICMP, w.echo(a, b, kind, 77)) for a, b, kind in
                       ((near, far, 128 if v6 else 8), (far, near, 129 if v6 else 0)))
    elif proto == "tcp":
        there, back = (w.packet(a, b, w.TCP, w.tcp(a, b, p, q, w.ACK, b"on", seq=s, ack=t)) for a, b, p, q, s, t in ((near, far, 4000, 80, 5, 9), (far, near, 80, 4000, 9, 5)))
    else:
        there, back = (w.packet(a, b, 47, bytes(30)) for a, b in ((near, far), (far, near)))
    return there, w.swapped(back)


def handshake(client, server, near, far):
    client.send(w.packet(near, far, w.TCP, w.tcp(near, far, 4000, 80, w.SYN, seq=4)))
    server.take_cnt(1)
    server.send(w.swapped(w.packet(far, near, w.TCP, w.tcp(far, near, 80, 4000, w.SYN | w.ACK, seq=8, ack=5))))
    client.take_cnt(1)


def keep_on(client, packets):
    """One direction only, for three times the time-out.  Returns the longest pause there was: this program may be stopped too."""
    end, last, longest = time.monotonic() + 2.4, time.monotonic(), 0
    while time.monotonic() < end:
        for p in packets:
            client.send(p)
        time.sleep(0.02)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


def sessions(tap, bed, client, server):
    with bed.millrace("r", bed.file("timeouts.yaml", w.plain(top=o.flows(more=TIMEOUTS)))) as m:
        pairs = [(near, far, proto) for near, far in ((o.C4, o.S4), (o.C6, o.S6)) for proto in ("udp", "icmp", "tcp", "gre")]
        there, back = zip(*(frames(*p) for p in pairs))
        for _ in range(5):
            for near, far, proto in pairs:
                if proto == "tcp":
                    handshake(client, server, near, far)

            def turn():
                for a, b in zip(there, back):
                    client.send(a)
                    server.send(b)
            o.goes_over(tap, bed, m, turn, "UDP, ICMP, TCP and GRE", cnt=2 * len(pairs))
            w.settle(bed, m)
            first = w.show(bed, m, "flows")["flows"]
            with o.carried(tap, bed, m, "nothing comes up", "lan", least=8 * 40):
                pause_s = keep_on(client, there)
                last = w.show(bed, m, "flows")["flows"]
            if pause_s < 0.4:
                break
            w.wait_for(lambda: not w.show(bed, m, "flows")["flows"], 10)
        tap.same(sorted((f["id"], f["proto"], f["family"]) for f in last), sorted((f["id"], f["proto"], f["family"]) for f in first), "all sessions live on while packets come")
        tap.same(len(last), len(pairs), "there are as many as were made")
        tap.ok(all(f["age_ms"] > 2000 for f in last), "the same ones", last)
        tap.ok(all(min(idle) < 1000 and max(idle) > 1500 for idle in ((f["forward"]["idle_ms"], f["reply"]["idle_ms"]) for f in last)), "each direction knows when its last packet came",
               [(f["proto"], f["family"], f["forward"]["idle_ms"], f["reply"]["idle_ms"]) for f in last])
        tap.ok(w.wait_for(lambda: not w.show(bed, m, "flows")["flows"], 10), "and they end when the packets stop")
        u = w.account(tap, bed, m, "time-outs")["flows"]
        tap.same((u["live_cnt"], u["expired_cnt"]), (0, u["created_cnt"]), "all sessions have expired")
        server.take_cnt(0), client.take_cnt(0)
        tap.same(m.stop(), 0, "ends with 0")


def after_the_end(tap, bed, client, server):
    """A record that is gone carries nothing: the next packet makes a session anew, in a slot that may be another's by then."""
    with bed.millrace("r", bed.file("anew.yaml", w.plain(top=o.flows(capacity=64, more=TIMEOUTS)))) as m:
        ids = set()
        for turn in range(4):
            sent = []

            def both():
                for n in range(24):
                    port = 5000 + turn * 24 + n
                    for f, port_to in ((w.packet(o.C4, o.S4, w.UDP, w.udp(o.C4, o.S4, port, 9, b"%08d" % port)), client),
                                       (w.swapped(w.packet(o.S4, o.C4, w.UDP, w.udp(o.S4, o.C4, 9, port, b"%08d" % port))), server)):
                        port_to.send(f)
                        sent.append(f)
            o.goes_over(tap, bed, m, both, "round %d" % turn, cnt=48)
            w.settle(bed, m)
            now = {f["id"] for f in w.show(bed, m, "flows")["flows"]}
            ids |= now
            got = server.take_cnt(len(sent) // 2) + client.take_cnt(len(sent) // 2)
            tap.same(sorted(got), sorted(sent), "round %d: each packet of 24 flows leaves as it came" % turn)
            tap.ok(w.wait_for(lambda: not w.show(bed, m, "flows")["flows"], 10), "round %d: they end" % turn)
        w.account(tap, bed, m, "anew")


def test(tap, bed):
    o.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    sessions(tap, bed, client, server)
    after_the_end(tap, bed, client, server)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offtim"))
