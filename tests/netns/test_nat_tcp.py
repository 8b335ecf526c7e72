#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: TCP from end to end in all tiers: short and long, half closed, reset, opened from both ends at once (RFC 5382, RFC 7857)."""
import os
import struct
import time

import nat
import wire as w
from nat import A, S, T

HERE = os.path.dirname(os.path.abspath(__file__))


def conversations(net, far, cnt, name, size=0, threads=8, client="a"):
    script = os.path.join(HERE, "conversations.py")
    with net.bed.spawn(far[0], ["/usr/bin/python3", script, "serve", far[1], 8000], "server") as server:
        server.wait_for("serving")
        said = net.bed.run(client, ["/usr/bin/python3", script, "call", far[1], 8000, cnt, threads, size], timeout_s=60).strip()
    net.same(said, str(cnt), "%s: %d connections, each answered byte for byte" % (name, cnt))


def end_to_end(tap, bed, watch, mode, top=""):
    with nat.Nat(tap, bed, watch, "", "TCP, %s%s" % (mode, ", two workers" if top else ""), mode=mode, top=top) as net:
        conversations(net, ("s", S), 600, "short")
        conversations(net, ("t", T), 300, "short, another host", client="b")
        conversations(net, ("s", S), 2, "long", 12 << 20, 2)
        state = {f["state"] for f in net.flows("--proto", "tcp", "--addr", S)}
        net.ok("established" not in state, "none of them is left established", state)


def two_workers(tap, bed, watch, mode):
    """What one of them has opened the other one meets."""
    end_to_end(tap, bed, watch, mode, "workers: { cores: 0-1 }")


def pair(net, sport=5100, dport=7100):
    listener = net.listen("s", S, dport)
    inner = net.tcp("a", A, sport)
    got = net.connects(inner, (S, dport), listener)
    if not got:
        raise nat.Failed("%s: TCP does not connect; %s" % (net.name, net.drops()))
    return inner, got[0], got[1]


def closing(tap, bed, watch, mode):
    """Half close in each direction; RST; a connection opened again at once."""
    with nat.Nat(tap, bed, watch, "", "closing, " + mode, mode=mode) as net:
        for first in (0, 1):
            inner, outer, _ = pair(net, 5100 + first, 7100 + first)
            ends = (inner, outer) if not first else (outer, inner)
            ends[0].sendall(b"question")
            ends[0].shutdown(w.socket.SHUT_WR)
            net.same(ends[1].recv(100), b"question", "half closed from %s" % ("inside", "outside")[first])
            net.same(ends[1].recv(100), b"", "its end arrives")
            for n in range(20):
                ends[1].sendall(b"%1000d" % n)
                time.sleep(0.01)
            ends[1].shutdown(w.socket.SHUT_WR)
            got = b"".join(iter(lambda: ends[0].recv(65536), b""))
            net.same(len(got), 20000, "20 answers follow over the half that is open")
        # RST by each end is seen by the other at once
        for n, (who, name) in enumerate(((0, "inside"), (1, "outside"))):
            ends = pair(net, 5200 + n, 7200 + n)[:2]
            ends[who].setsockopt(w.socket.SOL_SOCKET, w.socket.SO_LINGER, struct.pack("ii", 1, 0))
            ends[who].close()
            try:
                got = ends[1 - who].recv(100)
            except ConnectionResetError:
                got = "reset"
            net.same(got, "reset", "RST from %s" % name)
        # from the same ports again
        listener = net.listen("s", S, 7300)
        for n in range(5):
            inner = net.tcp("a", A, 5300)
            got = net.connects(inner, (S, 7300), listener)
            if not net.ok(got, "the same ports, connection %d" % (n + 1)):
                break
            inner.setsockopt(w.socket.SOL_SOCKET, w.socket.SO_LINGER, struct.pack("ii", 1, 0))
            inner.close()


def blind(tap, bed, watch, mode):
    """RFC 7857 section 2.2: a RST that fits no sequence is passed on and the session stays for those that go on."""
    with nat.Nat(tap, bed, watch, "timeouts: { tcp_closed: 1s, tcp_transitory: 1s }", "blind RST, " + mode, mode=mode) as net:
        inner, outer, seen = pair(net)
        for n in range(10):
            outer.sendall(b"x" * 100)
            inner.recv(100)
        for _ in range(3):  # somebody who knows the ends and not the sequence numbers
            net.send(w.ip4(S, seen[0], w.TCP, w.tcp(S, seen[0], 7100, seen[1], w.RST, seq=0x70000000)), "s0")
            net.send(w.ip4(A, S, w.TCP, w.tcp(A, S, 5100, 7100, w.RST, seq=0x60000000)), "a0")
        ok = True
        for n in range(16):  # longer than tcp_closed
            outer.sendall(b"y" * 50)
            inner.sendall(b"z" * 50)
            ok = ok and inner.recv(50) and outer.recv(50)
            time.sleep(0.15)
        net.ok(ok, "both ends go on for longer than tcp_closed")
        net.same(outer.getpeername(), seen, "with the same outside address and port")
        time.sleep(2.5)  # quiet now: an established one stays
        outer.sendall(b"still")
        net.same(inner.recv(50), b"still", "and after a pause longer than that from outside")


def both_at_once(tap, bed, watch, mode):
    """RFC 5382 REQ-2a: simultaneous open, by frames; and a SYN from outside that nobody asked for (REQ-4)."""
    with nat.Nat(tap, bed, watch, "", "simultaneous open, " + mode, mode=mode) as net:
        def flags(p, want):
            return p[9] == w.TCP and p[33] == want

        def tcp(src, dst, sport, dport, bits, seq, ack=0):
            return w.ip4(src, dst, w.TCP, w.tcp(src, dst, sport, dport, bits, seq=seq, ack=ack))
        got = net.over(tcp(A, S, 5000, 80, w.SYN, 100), "a0", "s0", lambda p: flags(p, w.SYN))
        x = w.socket.inet_ntoa(got[12:16]), struct.unpack("!H", got[20:22])[0]
        got = net.over(tcp(S, x[0], 80, x[1], w.SYN, 900), "s0", "a0", lambda p: flags(p, w.SYN))
        net.same(got and got.hex(), w.ip4(S, A, w.TCP, w.tcp(S, A, 80, 5000, w.SYN, seq=900), ttl=63).hex(), "the SYN of the other end comes in")
        for way, sent, dev, to in (("out", tcp(A, S, 5000, 80, w.SYN | w.ACK, 100, 901), "a0", "s0"), ("in", tcp(S, x[0], 80, x[1], w.SYN | w.ACK, 900, 101), "s0", "a0")):
            net.ok(net.over(sent, dev, to, lambda p: flags(p, w.SYN | w.ACK)), "SYN with ACK %s" % way)
        net.ok(net.over(tcp(A, S, 5000, 80, w.ACK | w.PSH, 101, 901), "a0", "s0", lambda p: flags(p, w.ACK | w.PSH)), "and data")
        state = [f["state"] for f in net.flows("--addr", A, "--port", "5000")]
        net.same(state, ["established"], "the session is established")
        # what can open nothing
        for bits, name in ((w.RST, "RST"), (w.SYN | w.ACK, "SYN with ACK")):
            net.silent(tcp(A, S, 5999, 80, bits, 1), "a0", "s0", lambda p: p[9] == w.TCP, "a %s of no connection does not leave" % name)
        for bits, name in ((w.SYN, "SYN"), (w.RST, "RST"), (w.ACK, "ACK")):
            net.silent(tcp(S, x[0], 80, 1025 if x[1] != 1025 else 1026, bits, 1), "s0", "a0", lambda p: p[9] == w.TCP, "a %s to a port nobody has does not come in" % name)
        net.silent(tcp(S, x[0], 80, 1025 if x[1] != 1025 else 1026, w.SYN, 1), "s0", "s0", lambda p: p[9] == w.ICMP, "and is not answered (REQ-4a)")


def unsolicited(tap, bed, watch, mode):
    """RFC 5382 REQ-4: answered after 6 s, unless the connection is opened from inside meanwhile."""
    with nat.Nat(tap, bed, watch, "unsolicited: answer\nport_choice: preserve", "unsolicited, " + mode, mode=mode, outside="203.0.113.64") as net:
        began = time.monotonic()
        net.port("s0"), net.port("a0")
        kept, opened = (w.ip4(S, nat.OUT % 64, w.TCP, w.tcp(S, nat.OUT % 64, 80, p)) for p in (5000, 5001))
        net.send(kept, "s0")
        net.send(opened, "s0")
        time.sleep(0.5)
        out = w.ip4(A, S, w.TCP, w.tcp(A, S, 5001, 80))
        net.send(out, "a0")
        first = net.catch("s0", lambda p: p[9] == w.TCP or p[9] == w.ICMP, 2)
        net.ok(first and first[9] == w.TCP and first[20:22] == struct.pack("!H", 5001), "the inside end opens it, by the same port", first and first.hex())
        got = net.catch("s0", lambda p: p[9] == w.ICMP, 20)
        took = time.monotonic() - began
        net.ok(got and got[20:22] == b"\3\3" and got[28:] == kept[:len(got) - 28], "port unreachable for the other SYN, quoting it", got and got.hex())
        net.ok(took >= 6, "after 6 s", took)
        net.same(net.catch("s0", lambda p: p[9] == w.ICMP, 1), None, "none for the one that was opened")
        net.silent(w.ip4(S, nat.OUT % 64, w.UDP, w.udp(S, nat.OUT % 64, 80, 5000)), "s0", "s0", lambda p: p[9] == w.ICMP, "UDP is not answered")


def test(tap, bed):
    nat.build(bed, queues=2)
    wanted = nat.modes("never", "established", "always")
    nat.cases(tap, bed, (end_to_end,), wanted)
    if len(os.sched_getaffinity(0)) > 1:
        nat.cases(tap, bed, (two_workers,), wanted[-1:])
    else:
        tap.skip("two workers", "there is one processor")
    nat.cases(tap, bed, (closing, blind, nat.with_deaf(both_at_once)), [m for m in wanted if m != "established"] or wanted)
    nat.cases(tap, bed, (nat.with_deaf(unsolicited),), wanted[-1:])


if __name__ == "__main__":
    w.sys.exit(w.main(test, "nattcp"))
