#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Malformed traffic through the running program: no crash, a named outcome for each frame, and good packets cross afterwards."""
import os
import random
import struct

import wire as w

V4, V6 = ("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")
L4_BYTES = {w.TCP: 20, w.ICMP: 8, w.ICMP6: 8, 47: 4, 50: 8, 132: 12}  # what must be there; of UDP the length says it all


def segment(src, dst, proto, data=b"0123456789"):
    if proto == w.UDP:
        return w.udp(src, dst, 1000, 9, data)
    if proto == w.TCP:
        return w.tcp(src, dst, 1000, 80, w.SYN, data)
    if proto in (w.ICMP, w.ICMP6):
        return w.echo(src, dst, 128 if ":" in src else 8, data=data)
    return bytes(L4_BYTES[proto]) + data


def family(src):
    return (w.IP6, w.ip6) if ":" in src else (w.IP4, w.ip4)


def protos(src):
    return (w.UDP, w.TCP, w.ICMP6 if ":" in src else w.ICMP, 47, 50, 132)


def wrapped(src, dst, proto, body, tags=(), **ip):
    kind, head = family(src)
    return w.eth(head(src, dst, proto, body, **ip), kind, tags=tags)


def chain(cnt, last, body, kind=60):
    """A chain of IPv6 extension headers of 8 bytes before a transport."""
    return b"".join(struct.pack("!BB6x", last if n == cnt - 1 else kind, 0) for n in range(cnt)) + body


def cut(tags, pair):
    """Whole frames cut at every length: the IP header promises more than there is."""
    for proto in protos(pair[0]):
        frame = wrapped(*pair, proto, segment(*pair, proto), tags=tags)
        for length in range(14, len(frame)):
            yield frame[:length]


def cut_mended(pair):
    """The transport cut at every length, with IP lengths that agree: (is it forwarded, frame)"""
    for proto in protos(pair[0]):
        whole = segment(*pair, proto)
        for length in range(len(whole)):
            yield proto in L4_BYTES and length >= L4_BYTES[proto], wrapped(*pair, proto, whole[:length])


def extensions(pair):
    body = segment(*pair, w.UDP)
    for cnt in range(1, 30):
        yield cnt <= 8, wrapped(*pair, 60, chain(cnt, w.UDP, body))
    yield True, wrapped(*pair, 0, chain(1, w.UDP, body))
    yield False, wrapped(*pair, 60, chain(1, 0, chain(1, w.UDP, body)))  # hop-by-hop stands first (RFC 8200 section 4.1)
    yield False, wrapped(*pair, 60, struct.pack("!BB6x", w.UDP, 255) + body)  # longer than the packet
    yield False, wrapped(*pair, 44, struct.pack("!BBHI", 44, 0, 1, 7) + struct.pack("!BBHI", w.UDP, 0, 1, 7) + body)  # two fragment headers
    for length in range(8):
        yield False, wrapped(*pair, 43, bytes([w.UDP, 0]).ljust(8, b"\0")[:length])


def bad_ip4(pair):
    body = segment(*pair, w.UDP)
    for vihl in [v << 4 | 5 for v in range(16) if v != 4] + [0x40 | n for n in range(5)]:
        yield wrapped(*pair, w.UDP, body, vihl=vihl)
    yield wrapped(*pair, w.UDP, bytes(40), vihl=0x4F, total=59)  # a total length below the header's
    for total in list(range(20)) + [20 + len(body) + 1, 1500, 65535]:
        yield wrapped(*pair, w.UDP, body, total=total)


def bad_ip6(pair):
    body = segment(*pair, w.UDP)
    for version in range(16):
        if version != 6:
            frame = wrapped(*pair, w.UDP, body)
            yield frame[:14] + bytes([version << 4]) + frame[15:]
    for length in (len(body) + 1, 1500, 65535):
        yield wrapped(*pair, w.UDP, body, length=length)


def bad_l4(pair):
    src, dst = pair
    for offset in (0, 1, 2, 3, 4, 8, 15):
        yield wrapped(*pair, w.TCP, w.tcp(src, dst, 1000, 80, w.SYN, b"12345678", offset=offset))
    for length in list(range(8)) + [19, 1000, 65535]:
        yield wrapped(*pair, w.UDP, w.udp(src, dst, 1000, 9, b"0123456789", length=length))


def tiny_fragments():
    for proto in (w.TCP, w.UDP):
        for length in range(8 if proto == w.UDP else 20):
            yield wrapped(*V4, proto, segment(*V4, proto)[:length], frag=0x2000)
            yield wrapped(*V6, 44, struct.pack("!BBHI", proto, 0, 1, 7) + segment(*V6, proto)[:length])


def wrong_sums():
    for pair in (V4, V6):
        for proto in (w.UDP, w.TCP):
            frame = wrapped(*pair, proto, segment(*pair, proto))
            yield frame[:-1] + bytes([frame[-1] ^ 1])
    frame = wrapped(*V4, w.UDP, segment(*V4, w.UDP))
    yield frame[:24] + b"\xbe\xef" + frame[26:]


def garbage(rng, cnt):
    """Good frames with bytes changed, pieces of frames, and noise."""
    good = [wrapped(*pair, proto, segment(*pair, proto, rng.randbytes(rng.randrange(60))), tags=tags)
            for pair in (V4, V6) for proto in protos(pair[0]) for tags in ((), (7,), ((7, w.QINQ), 9))]
    good += [wrapped(*V6, 60, chain(n, w.TCP, segment(*V6, w.TCP))) for n in range(1, 10)]
    for _ in range(cnt):
        frame = bytearray(rng.choice(good))
        how = rng.randrange(4)
        if how == 0:
            frame = bytearray(rng.randbytes(rng.randrange(14, 1500)))
            frame[12:14] = struct.pack("!H", rng.choice((w.IP4, w.IP6, w.VLAN, w.QINQ, w.ARP, rng.randrange(65536))))
        else:
            for _ in range(rng.randrange(1, 6)):
                frame[rng.randrange(12, len(frame))] = rng.randrange(256)
            if how == 2:
                frame = frame[:rng.randrange(14, len(frame) + 1)]
            elif how == 3:
                frame += rng.randbytes(rng.randrange(200))
        yield bytes(frame)


class Run:
    """Sends a class of frames and judges what became of them."""

    def __init__(self, tap, bed, m, client, server, mode):
        self.tap, self.bed, self.m, self.client, self.server, self.mode = tap, bed, m, client, server, mode
        self.before = w.settle(bed, m)

    def judge(self, name, frames, reasons, let=None):
        """All of frames end under one of the reasons, but those of `let`, which arrive as they are."""
        let = let or []
        name = "%s: %s (%d frames)" % (self.mode, name, len(frames))
        for f in frames:
            self.client.send(f)
        got = self.server.take_cnt(len(let))
        now, before = w.settle(self.bed, self.m), self.before
        self.before = now
        dropped = {r: n - w.drops(before).get(r, 0) for r, n in w.drops(now).items() if n != w.drops(before).get(r, 0)}
        received = now["totals"]["received_packets"] - before["totals"]["received_packets"]
        good = received == len(frames) and sorted(got) == sorted(let) and set(dropped) <= set(reasons) and sum(dropped.values()) == len(frames) - len(let)
        self.tap.ok(good and not w.wrong_sums(now), name, "received %d, arrived %d of %d, dropped %s, wanted %s\n%s" %
                    (received, len(got), len(let), dropped, reasons, "\n".join(w.wrong_sums(now))))

    def pairs(self, name, frames, reasons):
        frames = list(frames)
        self.judge(name, [f for _, f in frames], reasons, [f for let, f in frames if let])


def classes(run):
    for name, tags in (("", ()), (", tagged", (7,)), (", tagged twice", ((7, w.QINQ), 9))):
        run.judge("IPv4 cut at every length" + name, list(cut(tags, V4)), ["short-ethernet", "short-ip", "truncated"])
        run.judge("IPv6 cut at every length" + name, list(cut(tags, V6)), ["short-ethernet", "short-ip", "truncated"])
    run.pairs("IPv4 transports cut at every length", cut_mended(V4), ["short-l4", "bad-l4"])
    run.pairs("IPv6 transports cut at every length", cut_mended(V6), ["short-l4", "bad-l4"])
    run.pairs("IPv6 extension headers without end", extensions(V6), ["ext-chain"])
    run.judge("impossible IPv4 headers", list(bad_ip4(V4)), ["bad-ip", "truncated"])
    run.judge("impossible IPv6 headers", list(bad_ip6(V6)), ["bad-ip", "truncated"])
    run.judge("impossible lengths of TCP and UDP", list(bad_l4(V4)) + list(bad_l4(V6)), ["bad-l4"])
    run.judge("first fragments too short for their ports", list(tiny_fragments()), ["short-l4"])
    deep = [wrapped(*V4, w.UDP, segment(*V4, w.UDP), tags=(1, 2, 3))]
    run.judge("three VLAN tags cross a wire without stages", deep, [], deep)
    sums = list(wrong_sums())
    run.judge("wrong checksums cross as they are", sums, [], sums)
    large = [wrapped(*p, w.UDP, w.udp(*p, 1000, 9, bytes(n))) for p in (V4, V6) for n in (1280, 1400)]
    run.judge("over the MTU of the way out", large, ["too-big"])
    fits = [wrapped(*V4, w.UDP, w.udp(*V4, 1000, 9, bytes(1300 - 28)))]
    run.judge("exactly the MTU crosses", fits, [], fits)


def oversize(tap, bed, m, client, mode):
    """The device's MTU grows behind the program's back: what fits no frame is the kernel's to drop, and counted."""
    def resize(mtu):
        bed.run("c", "ip link set c0 mtu %d" % mtu)
        bed.run("r", "ip link set lan mtu %d" % mtu)
    try:
        resize(4000)
    except w.Failed:
        tap.skip(mode + ": frames over the size of a frame", "the driver does not let the MTU grow in this mode")
        bed.run("c", "ip link set c0 mtu 1500")
        return
    before = w.interface(w.settle(bed, m), "lan")
    for n in (2100, 3000, 3900):
        client.send(wrapped(*V4, w.UDP, w.udp(*V4, 1000, 9, bytes(n))))
    d = w.account(tap, bed, m, mode + ": oversize")
    now = w.interface(d, "lan")
    lost = sum(now[k] - before[k] for k in ("kernel_rx_dropped_packets", "rx_too_long_packets", "dropped_packets"))
    tap.same(lost, 3, mode + ": frames over the size of a frame are counted as dropped")
    resize(1500)


def test_mode(tap, bed, client, server, mode):
    with bed.millrace("r", bed.file("malformed.yaml", w.plain(interface=", mode: " + mode))) as m:
        classes(Run(tap, bed, m, client, server, mode))
        oversize(tap, bed, m, client, mode)
        tap.same(m.stop(), 0, mode + ": ends with 0")
    # of garbage only that each frame has its outcome; narrow matches leave some of it to the kernel
    narrow = w.plain(interface=", mode: " + mode, stages="stages: { guard: { type: filter, rules: [ { action: drop, length: [ 0-90 ] }, { action: accept, state: established } ] } }",
                     out=", stages: [ guard ]").replace("match: all", "match: [ { proto: [ tcp, udp ], dst: [ 10.9.0.0/24, \"fd00:9::/64\" ] }, { vlan: 7 } ], except: [ { dport: 80 } ]", 1)
    for name, text in (("everything matched", w.plain(interface=", mode: " + mode)), ("some matched", narrow)):
        with bed.millrace("r", bed.file("garbage.yaml", text)) as m:
            frames = list(garbage(random.Random(20), 4000))
            for f in frames:
                client.send(f)
            d = w.account(tap, bed, m, "%s, garbage, %s" % (mode, name))
            s = w.interface(d, "lan")["steer"]
            tap.same(s["steered_packets"] + s["passed_packets"] + s["no_socket_packets"], len(frames), "%s, garbage, %s: each frame was seen once" % (mode, name))
            lan = w.interface(d, "lan")
            tap.same(s["steered_packets"], lan["received_packets"] + lan["kernel_rx_dropped_packets"] + lan["kernel_rx_ring_full_packets"], "%s, garbage, %s: what was taken was received" % (mode, name))
            server.take_cnt(0)
            probe = w.packet(*V4, w.UDP, w.udp(*V4, 4000, 4000, bytes(100)))
            client.send(probe)
            tap.same(server.take_cnt(1), [probe], "%s, garbage, %s: a good packet crosses afterwards" % (mode, name))
            tap.same(m.stop(), 0, "%s, garbage, %s: ends with 0" % (mode, name))


def test(tap, bed):
    w.wire(bed)
    for space, dev in (("r", "wan"), ("s", "s0")):
        bed.run(space, "ip link set %s mtu 1300" % dev)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    for mode in ("copy",) if os.environ.get("MR_ONCE") else ("copy", "generic"):
        test_mode(tap, bed, client, server, mode)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "malformed"))
