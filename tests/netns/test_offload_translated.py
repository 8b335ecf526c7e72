#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a stage has translated or put into a tunnel is carried on by XDP: real hosts talk through plugins of tests/plugin/.

relay translates destinations, and the sources of replies back; tunnel puts packets into IP-in-IP or GUE.
"""
import os
import struct

import offload as o
import router as rt
import test_route_tunnel as rtt
import wire as w

PLUGINS = os.path.join(w.build_dir(), "tests", "plugin")
VIP = "10.77.0.1"
RELAY = """  vip: { type: relay, to: %s, port: %d }
"""


def relay(tap, bed, net):
    """Clients ask 10.77.0.1 and are answered by it, although s is who answers."""
    o.targets(bed)
    # handshakes, ends and the first packets come up: of short ones as many as it takes until nothing else waits
    for name, share, talk in (
            ("TCP in bulk", 0.9, lambda name: o.conversations(tap, bed, VIP, 2, name, size=6 << 20, threads=2, serve_at=rt.S4, ask_port=80)),
            ("short ones", 1 << 30, lambda name: o.conversations(tap, bed, VIP, 1000, name, serve_at=rt.S4, ask_port=80))):
        with o.healthy(tap, bed, "translated, " + name):
            with o.carried(tap, bed, net.m, "translated, " + name, least=5000, most_up=share):
                talk("translated")
    with o.Echo(bed, "s", rt.S4, port=8000) as e, o.healthy(tap, bed, "translated UDP"):
        a = o.Asker(bed, "c", rt.C4, VIP, port=90)
        o.goes_over(tap, bed, net.m, a.ask, "translated UDP", "--port", a.port, cnt=2)
        with o.carried(tap, bed, net.m, "translated UDP", least=400):
            tap.same(sum(a.ask(n) for n in range(12, 1412, 7)), 200, "translated UDP: each question is answered by whom it was sent to")
        tap.same(e.senders, {(rt.C4, a.port)}, "and comes from where it was sent")
        found = w.show(bed, net.m, "flows", "--port", a.port)["flows"][0]
        tap.same([found["forward"].get("new_destination"), found["reply"].get("new_source")], [rt.S4, VIP], "the session tells both translations")
        a.close()
    # the bytes of one packet each way
    c, s = net.port("c0"), net.port("s0")
    for zero in (False, True):
        def turn():
            c.send(net.frame(there))
            s.send(net.frame(back, "s0"))
        there = w.ip4(rt.C4, VIP, w.UDP, w.udp(rt.C4, VIP, 1234, 91, b"there"), ttl=9)
        back = w.ip4(rt.S4, rt.C4, w.UDP, w.udp(rt.S4, rt.C4, 8000, 1234, b"back!"), ttl=7)
        if zero:  # no checksum stays none
            there, back = (p[:26] + b"\0\0" + p[28:] for p in (there, back))
        o.goes_over(tap, bed, net.m, turn, "by hand", "--port", "91", cnt=2)
        w.settle(bed, net.m)
        s.take_cnt(0), c.take_cnt(0)
        turn()
        want = (w.ip4(rt.C4, rt.S4, w.UDP, w.udp(rt.C4, rt.S4, 1234, 8000, b"there"), ttl=8), w.ip4(VIP, rt.C4, w.UDP, w.udp(VIP, rt.C4, 91, 1234, b"back!"), ttl=6))
        if zero:
            want = tuple(p[:26] + b"\0\0" + p[28:] for p in want)
        got = [[f[14:14 + len(want[0])] for f in p.take_cnt(1) if f[12:14] == b"\x08\0" and f[23] == w.UDP] for p in (s, c)]
        tap.same(got, [[want[0]], [want[1]]], "each way byte for byte, %s" % ("without a checksum" if zero else "with one"))
    w.account(tap, bed, net.m, "translated")


def test_relay(tap, bed):
    stages = "plugins: [ %s/relay.so ]\nstages:\n%s" % (PLUGINS, RELAY % (rt.S4, 8000))
    text = o.route_config(o.flows("16k"), stages=stages)
    text = text.replace("  out:", '  vip: { from: [ lan ], match: [ { dst: %s } ], stages: [ vip ], to: route }\n'
                        '  pin: { from: [ wan ], match: [ { src: %s, sport: 8000 } ], stages: [ vip ], to: route }\n  out:' % (VIP, rt.S4))
    rt.one_half(tap, bed, "millrace", (lambda net: relay(tap, bed, net),), dict(config=text))


def tunnel(tap, bed, net, outer, gue):
    """Packets to the service go into the tunnel inside XDP; those that do not fit come up and are answered."""
    o.targets(bed)
    net.run("r", "ip neigh replace %s lladdr %s dev wan nud permanent" % (rtt.FAR[outer], rt.MACS["s0"]))
    c, s = net.port("c0"), net.port("s0")
    head = (20 if outer == 4 else 40) + (8 if gue else 0)  # GUE variant 1: the IP packet follows UDP
    for family, src in ((4, rt.C4), (6, rt.C6)):
        name = "IPv%d in %sIPv%d" % (family, "GUE over " if gue else "", outer)
        dst = rtt.SERVICE[family]

        def packet(n, **kw):
            return rt.ip(src, dst, w.UDP, w.udp(src, dst, 4000, 9, struct.pack("!I", n) + bytes(n % 1300)), ttl=33, **kw)

        def turn():
            c.send(net.frame(packet(0)))
        o.goes_over(tap, bed, net.m, turn, name, "--addr", dst, cnt=1)
        w.settle(bed, net.m)
        s.take_cnt(0)
        with o.carried(tap, bed, net.m, name, "lan", least=400):
            for n in range(400):
                c.send(net.frame(packet(n * 3)))
            got = [f for f in s.take_cnt(400) if ours(f, outer, gue)]
        want = [packet(n * 3)[:8] for n in range(400)]
        inner = [f[14 + head:] for f in got]
        aged = [older(packet(n * 3)) for n in range(400)]
        tap.ok([i[:len(a)] for i, a in zip(inner, aged)] == aged and len(inner) == len(want), name + ": what is inside is one hop older and else as sent, in order", len(inner))
        sound = [f[:14].hex() for f in got if not outer_sound(f, outer, gue, head)]
        tap.same(sound, [], name + ": every outer header is right")
        room, overhead = 1500 - head, 28 if family == 4 else 48
        df = dict(frag=0x4000) if family == 4 else {}
        box = (rt.R4 if family == 4 else rt.R6)["lan"]
        error = "error %s mtu %d from %s to c" % ("3/4" if family == 4 else "2/0", room, box)

        def sized(n):
            return lambda mark: rt.ip(src, dst, w.UDP, w.udp(src, dst, 4000, 9, mark + bytes(n - overhead - 4)), ttl=33, **df)
        tap.same(net.fates([("too large", sized(room + 1), error), ("fits", sized(room), "to s")], tell=False), {"too large": error, "fits": "to s"},
                 name + ": of the same flow, what does not fit comes up and is answered")
    w.account(tap, bed, net.m, "tunnel")


def older(ip):
    import test_offload_totals as totals
    return totals.body(ip, True)


def ours(f, outer, gue):
    proto = f[23] if outer == 4 else f[20]
    return f[12:14] == (b"\x08\0" if outer == 4 else b"\x86\xdd") and proto in ((17,) if gue else (4, 41)) and rtt.FAR[outer] == rt.text(f[30:34] if outer == 4 else f[38:54])


def outer_sound(f, outer, gue, head):
    """Addresses, lengths and checksums of an outer header."""
    inner = 14 + head
    size = struct.unpack("!H", f[inner + 2:inner + 4])[0] if f[inner] >> 4 == 4 else 40 + struct.unpack("!H", f[inner + 4:inner + 6])[0]
    if outer == 4:
        good = rt.text(f[26:30]) == rtt.NEAR[4] and not w.checksum(f[14:34]) and struct.unpack("!H", f[16:18])[0] == size + head and f[22] == 64
    else:
        good = rt.text(f[22:38]) == rtt.NEAR[6] and struct.unpack("!H", f[18:20])[0] == size + head - 40 and f[21] == 64
    if gue:
        at = inner - 8
        sport, dport, length, check = struct.unpack("!HHHH", f[at:at + 8])
        segment = f[at:inner + size]
        good = good and dport == gue and length == size + 8
        if check:  # none, in a tunnel, for IPv6 too (RFC 6935)
            pseudo = (f[26:34] if outer == 4 else f[22:54]) + struct.pack("!II", length, w.UDP)
            good = good and w.checksum(pseudo + segment) == 0
    return good


def test_tunnel(tap, bed):
    for outer, gue in ((4, 0), (6, 0), (4, 6080), (6, 6080)):
        config = rtt.CONFIG.replace('dst: "%(dst)s"', 'dst: "%(dst)s"' + (", gue: %d" % gue if gue else "")).replace("flows: { capacity: 4k }", o.flows())
        config = config % dict(plugin=PLUGINS + "/tunnel.so", src=rtt.NEAR[outer], dst=rtt.FAR[outer])
        rt.one_half(tap, bed, "millrace", (lambda net: tunnel(tap, bed, net, outer, gue),), dict(config=config))


def test(tap, bed):
    for plugin, part in (("relay", test_relay), ("tunnel", test_tunnel)):
        if os.path.exists("%s/%s.so" % (PLUGINS, plugin)):
            part(tap, bed)
        else:
            tap.skip(plugin, "the plugin tests/plugin/%s.so is not built" % plugin)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offxla"))
