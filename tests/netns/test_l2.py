#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every Ethernet frame that `match: all` takes crosses a bump in the wire as it is, both ways; `match: vlan`; VLAN ids as zones."""
import struct

import wire as w

V4, V6 = ("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")
MTU = 1500


def llc(dst, payload):
    """An 802.3 frame: a length where the type would be, padded to the least size of Ethernet."""
    return (w.mac(dst) + w.mac(w.CLIENT_MAC) + struct.pack("!H", len(payload)) + payload).ljust(60, b"\0")


def udp(pair=V4, dport=53, data=b"x" * 20, tags=(), **ip):
    return w.packet(*pair, w.UDP, w.udp(*pair, 1000, dport, data), tags=tags, **ip)


def frames():
    """(name, frame): protocols that hosts, switches and routers speak beside IP, and IP in all wrappings."""
    arp = struct.pack("!HHBBH", 1, w.IP4, 6, 4, 1) + w.mac(w.CLIENT_MAC) + w.address(V4[0]) + bytes(6) + w.address(V4[1])
    bpdu = b"\x42\x42\x03" + bytes(35)
    yield "ARP", w.eth(arp, w.ARP, dst="ff:ff:ff:ff:ff:ff").ljust(60, b"\0")
    yield "gratuitous ARP, tagged", w.eth(arp, w.ARP, dst="ff:ff:ff:ff:ff:ff", tags=(7,))
    yield "STP", llc("01:80:c2:00:00:00", bpdu)
    yield "PVST+ (SNAP, tagged)", w.eth(b"\xaa\xaa\x03\x00\x00\x0c\x01\x0b" + bpdu, 50, dst="01:00:0c:cc:cc:cd", tags=(9,))
    yield "IS-IS", llc("01:80:c2:00:00:14", b"\xfe\xfe\x03\x83" + bytes(1400))
    yield "LLC of the largest length", llc("01:80:c2:00:00:14", b"\xfe\xfe\x03" + bytes(1497))
    yield "LLDP", w.eth(bytes.fromhex("0207040200000001020403656e3006020078") + bytes(42), 0x88CC, dst="01:80:c2:00:00:0e")
    yield "LACP", w.eth(b"\x01\x01" + bytes(108), 0x8809, dst="01:80:c2:00:00:02")
    yield "PAUSE", w.eth(b"\x00\x01\xff\xff" + bytes(42), 0x8808, dst="01:80:c2:00:00:01")
    yield "802.1X", w.eth(b"\x02\x01\x00\x00" + bytes(42), 0x888E, dst="01:80:c2:00:00:03")
    yield "MACsec", w.eth(bytes(60), 0x88E5)
    yield "PTP", w.eth(bytes(50), 0x88F7, dst="01:1b:19:00:00:00")
    yield "MPLS", w.eth(struct.pack("!I", 100 << 12 | 1 << 8 | 64) + udp()[14:], 0x8847)
    yield "MPLS, three labels", w.eth(struct.pack("!III", 100 << 12 | 64, 200 << 12 | 64, 300 << 12 | 1 << 8 | 64) + udp()[14:], 0x8847)
    yield "PPPoE discovery", w.eth(struct.pack("!BBHH", 0x11, 9, 0, 0) + bytes(40), 0x8863, dst="ff:ff:ff:ff:ff:ff")
    yield "PPPoE session", w.eth(struct.pack("!BBHHH", 0x11, 0, 5, 2 + len(udp()) - 14, 0x21) + udp()[14:], 0x8864)
    yield "Wake-on-LAN", w.eth(b"\xff" * 6 + w.mac(w.SERVER_MAC) * 16, 0x0842)
    yield "an unknown type without data", w.eth(b"", 0x88B5)
    yield "an unknown type with one byte", w.eth(b"\x01", 0x88B5)
    yield "an unknown type, length 1501 to 1535", w.eth(bytes(46), 0x05FF)
    for name, tags in (("", ()), (", tagged", (7,)), (", priority tag", (0xE000,)), (", QinQ", ((7, w.QINQ), 9)), (", two 802.1Q tags", (7, 9))):
        yield "IPv4" + name, udp(tags=tags)
        yield "IPv6" + name, udp(V6, tags=tags)
        room = MTU - 4 * len(tags) + 4 * (tags[:1] == (7,) or tags[:1] == (0xE000,))  # a raw socket takes one 802.1Q tag more than the MTU
        yield "IPv4 of the MTU" + name, udp(data=bytes(room - 28), tags=tags)
        yield "OSPF" + name, w.packet(V4[0], "224.0.0.5", 89, bytes(44), tags=tags, ttl=1)
        yield "an unknown type of the MTU" + name, w.eth(bytes(room), 0x88B5, tags=tags)
    for tags in (((7, w.QINQ), 9, 11), (1, 2, 3), (1, 2, 3, 4, 5, 6)):
        yield "%d VLAN tags" % len(tags), udp(tags=tags)
    yield "three VLAN tags and nothing else", w.eth(b"", 0x88B5, tags=(1, 2, 3))
    yield "multicast", w.eth(udp()[14:], w.IP4, dst="01:00:5e:00:00:05")
    yield "for a MAC address that is nobody's", w.eth(udp(dport=54)[14:], w.IP4, dst="02:de:ad:be:ef:00")
    yield "from a MAC address that is the receiver's", w.eth(udp(dport=55)[14:], w.IP4, src=w.SERVER_MAC)
    yield "IPv4 followed by a trailer", udp(dport=56) + b"trailer"


def cross(tap, bed, name, mode):
    w.wire(bed)
    text = w.plain(interface=", mode: " + mode)
    with bed.millrace("r", bed.file("l2.yaml", text)) as m:
        ports = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
        for way, (tx, rx) in (("out", ports), ("in", ports[::-1])):
            for what, frame in frames():
                sent = frame if way == "out" else w.swapped(frame)
                tx.send(sent)
                got = rx.take()
                tap.ok(got == sent, "%s, %s: %s crosses as it is" % (name, way, what), "" if got == sent else "%s\n%s" % (sent.hex(), got and got.hex()))
        d = w.account(tap, bed, m, name)
        tap.same(w.drops(d), {}, name + ": nothing is dropped")
        tap.same([i["steer"]["passed_packets"] for i in d["interfaces"]], [0, 0], name + ": nothing was left to the kernel")
        for p in ports:
            p.close()
    bed.clear()


STAGES = "stages: { guard: { type: filter, default: accept } }"


def guarded(tap, bed):
    """A filter cannot look behind three tags: such frames end there, the others cross."""
    w.wire(bed)
    with bed.millrace("r", bed.file("guard.yaml", w.plain(stages=STAGES, out=", stages: [ guard ]", interface=""))) as m:
        client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
        sent = [f for name, f in frames() if "VLAN tags" not in name]
        for f in sent:
            client.send(f)
        tap.ok(sorted(server.take_cnt(len(sent))) == sorted(sent), "behind a filter that accepts: %d frames cross as they are" % len(sent))
        client.send(udp(tags=(1, 2, 3)))
        tap.ok(server.take() is None, "behind a filter: three VLAN tags do not cross")
        tap.same(w.drops(w.account(tap, bed, m, "guarded")), {"vlan-depth": 1}, "and are counted")
        client.close()
        server.close()
    bed.clear()


def matched(tap, bed):
    """match: vlan looks at the outer id."""
    w.wire(bed)
    text = w.plain().replace("match: all, to: wan", "match: [ { vlan: [ 7, 100-199 ] } ], to: wan")
    with bed.millrace("r", bed.file("vlan.yaml", text)) as m:
        client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
        for name, tags, wanted in (("no tag", (), False), ("id 7", (7,), True), ("id 7 with priority", (0xA007,), True), ("id 8", (8,), False),
                                   ("outer 7 of two", ((7, w.QINQ), 8), True), ("outer 8 of two, inner 7", ((8, w.QINQ), 7), False),
                                   ("id 100", (100,), True), ("id 199 of two 802.1Q tags", (199, 5), True), ("id 200", (200,), False),
                                   ("outer 7 of three", (7, 8, 9), True), ("priority tag", (0xE000,), False)):
            frame = udp(tags=tags)
            client.send(frame)
            got = server.take()
            tap.ok(got == (frame if wanted else None), "match: vlan, %s: %s" % (name, "crosses" if wanted else "is left to the kernel"), got and got.hex())
        d = w.account(tap, bed, m, "match: vlan")
        tap.same(w.interface(d, "lan")["steer"]["passed_packets"], 5, "match: vlan: the kernel has the others")
        client.close()
        server.close()
    bed.clear()


GUARD = "stages: { guard: { type: filter, default: drop, rules: [ { action: accept, state: established }, { action: accept, dport: 53 } ] } }"


def zones(tap, bed):
    w.wire(bed)
    text = w.plain(interface=", vlan_zones: true", stages=GUARD, out=", stages: [ guard ]", into=", stages: [ guard ]")
    with bed.millrace("r", bed.file("zones.yaml", text)) as m:
        client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
        for tags in ((), (7,), (8,), ((9, w.QINQ), 7)):
            client.send(udp(tags=tags))
        tap.same(len(server.take_cnt(4)), 4, "vlan_zones: the same addresses on four VLANs cross")
        flows = w.show(bed, m, "flows")["flows"]
        tap.same(sorted((f["zone"], f["vlan"]) for f in flows), [("default", v) for v in (0, 7, 8, 9)], "vlan_zones: four flows, each with its VLAN id")
        answer = w.swapped(w.packet(V4[1], V4[0], w.UDP, w.udp(V4[1], V4[0], 53, 1000, b"y")))
        for tags, wanted in (((7,), True), ((10,), False), ((), True), ((9,), True)):
            frame = answer[:12] + b"".join(struct.pack("!HH", w.VLAN, t) for t in tags) + answer[12:]
            server.send(frame)
            tap.ok((client.take() == frame) == wanted, "vlan_zones: an answer on %s %s" % (tags or "no VLAN", "belongs to the flow" if wanted else "belongs to none"))
        tap.same([f["vlan"] for f in w.show(bed, m, "flows", "--vlan", 7)["flows"]], [7], "show flows --vlan 7")
        tap.same(w.show(bed, m, "flows", "--zone", "default")["total_cnt"], 4, "show flows --zone default")
        tap.same(bed.ask(m, "flows", "delete", "--vlan", 8)["data"]["deleted_cnt"], 1, "flows delete --vlan 8")
        tap.same(sorted(f["vlan"] for f in w.show(bed, m, "flows")["flows"]), [0, 7, 9], "and the others are there")
        w.account(tap, bed, m, "vlan_zones")
        client.close()
        server.close()
    bed.clear()


def test(tap, bed):
    for mode in ("copy", "generic"):
        cross(tap, bed, mode, mode)
    guarded(tap, bed)
    matched(tap, bed)
    zones(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "l2"))
