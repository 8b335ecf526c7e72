#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every packet is counted once, whichever tier it met: by flow, by rule, by limit, by interface and pipeline.

Flows alternate between the tiers: every fourth packet is one that XDP leaves to user space.  Who counts beside Millrace are nftables and
`ip -s link` in the hosts, and what was captured there byte for byte.
"""
import offload as o
import router as rt
import wire as w

STAGES = """stages:
  guard:
    type: filter
    rules:
      - { name: one, action: accept, proto: udp, dport: 2001 }
      - { name: two, action: accept, proto: udp, dport: 2002 }
      - { name: limit, action: limit, proto: udp, dport: 2003, rate: 1pps, burst: 150 }
      - { name: back, action: accept, proto: udp, sport: [ 2001-2003 ] }
"""
STAGED = ", stages: [ guard ]"
PORTS = {"one": 2001, "two": 2002}
HOP_BY_HOP = b"\x11\0\1\4\0\0\0\0"  # in front of UDP: padding


class Sent:
    """Makes the packets and remembers what must become of them."""

    def __init__(self, routed):
        self.routed, self.serial = routed, 0
        self.frames, self.cross, self.too_big, self.expired, self.stack = {}, [], 0, 0, 0  # frames: {(source, sport, dport): [...]}

    def special(self, src, dst, seg, kind):
        """(IP packets, counted for the flow, what becomes of them) of one that comes up."""
        v6 = ":" in src
        ip = w.ip6 if v6 else w.ip4
        if kind == "options":
            packet = ip(src, dst, 0, HOP_BY_HOP + seg(60)) if v6 else ip(src, dst, w.UDP, seg(60), options=b"\1\1\1\0")
            return [packet], "stack" if self.routed else "cross"
        if kind == "ttl":
            return [ip(src, dst, w.UDP, seg(61), **{"hops" if v6 else "ttl": 1})], "expired" if self.routed else "cross"
        if kind == "big":
            return [ip(src, dst, w.UDP, seg(1550), **({} if v6 else dict(frag=0x4000)))], "too_big"
        whole, n = seg(64), self.serial
        if v6:
            head = lambda off, more: w.struct.pack("!BBHI", w.UDP, 0, off | more, n)  # noqa: E731
            return [ip(src, dst, 44, head(0, 1) + whole[:48]), ip(src, dst, 44, head(48, 0) + whole[48:])], "cross"
        return [ip(src, dst, w.UDP, whole[:48], ident=n & 0xFFFF, frag=0x2000), ip(src, dst, w.UDP, whole[48:], ident=n & 0xFFFF, frag=6)], "cross"

    def packets(self, src, dst, sport, dport, n, big):
        """The n-th of a flow: IP packets; every fourth is special."""
        self.serial += 1
        number = b"%08d" % self.serial
        seg = lambda size: w.udp(src, dst, sport, dport, number.ljust(size - 8, b"."))  # noqa: E731
        if n % 4 != 3:
            made, fate = [(w.ip6 if ":" in src else w.ip4)(src, dst, w.UDP, seg(40 + n % 900))], "cross"
        else:
            kinds = ["options", "ttl", "fragments"] + ["big"] * big
            made, fate = self.special(src, dst, seg, kinds[n // 4 % len(kinds)])
        self.frames.setdefault((src, sport, dport), []).extend(made)
        if fate == "cross":
            self.cross.extend(made)
        else:
            setattr(self, fate, getattr(self, fate) + len(made))
        return made


def record_counts(bed, m, pairs):
    """{(source, sport, dport): (packets, bytes)} of the records of both directions."""
    found = {}
    for f in w.show(bed, m, "flows", "--proto", "udp")["flows"]:
        for way, key in (("forward", (f["source"], f["source_port"], f["destination_port"])), ("reply", (f["destination"], f["destination_port"], f["source_port"]))):
            if f[way] and (f["source"] in pairs or f["destination"] in pairs):  # whoever's packet came first
                found[key] = (f[way]["packets"], f[way]["bytes"])
    return found


def length(frames):
    return (len(frames), sum(14 + len(f) for f in frames))


def alternate(tap, bed, m, client, server, heads, name, routed, pairs, big=True):
    """heads: (source and destination Ethernet addresses) of a frame of the client and one of the server."""
    sent = {"c": Sent(routed), "s": Sent(routed)}

    def frame(ip, way):
        return w.eth(ip, w.IP6 if ip[0] >> 4 == 6 else w.IP4, src=heads[way][0], dst=heads[way][1])

    def turn(n):
        for near, far in pairs:
            for port in PORTS.values():
                for p in sent["c"].packets(near, far, 1000 + port, port, n, big):
                    client.send(frame(p, "c"))
                for p in sent["s"].packets(far, near, port, 1000 + port, n, False):
                    server.send(frame(p, "s"))
    third = {"s": o.Counter(bed, "s", "s0", one="udp dport 2001 meta length < 1000", two="udp dport 2002 meta length < 1000"), "c": o.Counter(bed, "c", "c0")}
    rules = stage_counters(bed, m)
    links = {d: bed.counters(d[0], d) for d in ("c0", "s0")}
    before = w.settle(bed, m)
    serial = [0]

    def next_turn():
        turn(serial[0])
        serial[0] += 1
    for _ in range(6):  # sessions are made, and a special packet has come
        next_turn()
        w.settle(bed, m)
    sources = [p[0] for p in pairs]
    o.goes_over(tap, bed, m, next_turn, name, "--proto", "udp", cnt=2 * len(pairs) * len(PORTS))
    d = w.settle(bed, m)
    r0, u0 = o.received(d), o.up(d)
    for _ in range(200):
        next_turn()
    d = w.account(tap, bed, m, name)
    inside = o.received(d) - r0 - (o.up(d) - u0)
    tap.ok((inside == 0) if o.never() else inside >= 200 * 3 // 4 * 4 * len(pairs), name + ": three of four packets inside XDP, the others not", inside)
    want = {k: length(v) for s in sent.values() for k, v in s.frames.items()}
    tap.same(record_counts(bed, m, sources), want, name + ": each record has counted every packet and byte of its direction once")
    t, t0 = d["totals"], before["totals"]
    grown = {k: t[k] - t0[k] for k in t if isinstance(t[k], int)}
    links = {dev: {k: v - links[dev][k] for k, v in bed.counters(dev[0], dev).items()} for dev in links}
    # a veth counts what is behind the Ethernet header
    all_sent = [length(sum(sent[x].frames.values(), [])) for x in "cs"]
    tap.same([(links[x]["tx_packets"], links[x]["tx_bytes"] + 14 * links[x]["tx_packets"]) for x in ("c0", "s0")], all_sent, name + ": (the hosts' devices have sent what was meant)")
    tap.same((grown["received_packets"], grown["received_bytes"]), tuple(map(sum, zip(*all_sent))), name + ": received is what `ip -s link` of the hosts has sent")
    errors = grown_own(t, t0)
    stack = sum(s.stack for s in sent.values())
    arrived = links["c0"]["rx_packets"] + links["s0"]["rx_packets"]
    tap.same((grown["forwarded_packets"] + errors + stack, grown["kernel_packets"]), (arrived, stack), name + ": forwarded is what it has received, and the stack got its own")
    drops = {k: v - t0["dropped"].get(k, 0) for k, v in t["dropped"].items()}
    want = {k: v for k, v in (("too-big", sum(s.too_big for s in sent.values())), ("ttl", sum(s.expired for s in sent.values()))) if v}
    tap.same({k: v for k, v in drops.items() if v}, want, name + ": dropped by name")
    nft = {x: third[x].read() for x in third}
    o.close_all(*third.values())
    tap.same([nft[x]["all"] for x in "cs"], [(links[x + "0"]["rx_packets"], links[x + "0"]["rx_bytes"]) for x in "cs"], name + ": (nftables agrees with the devices)")
    for rule, port in PORTS.items():
        mine = [f for k, v in sent["c"].frames.items() if k[2] == port for f in v]
        tap.same(rule_counts(bed, m, rule, rules), length(mine), "%s: rule %s has counted each once" % (name, rule))
    got = {"s": server.take_cnt(len(sent["c"].cross)), "c": client.take_cnt(len(sent["s"].cross))}
    for x, to in (("c", "s"), ("s", "c")):
        want = sorted(body(p, routed) for p in sent[x].cross)
        mine = sorted(body(f[14:], False) for f in got[to] if not ours(f))
        tap.ok(mine == want if not sent[x].stack else len(mine) == len(want) + sent[x].stack, "%s: %d packets from %s arrive, byte for byte, each once" % (name, len(want), x),
               "missing %s\nmore %s" % (diff(want, mine), diff(mine, want)))


def diff(a, b):
    b = set(b)
    return [x.hex() for x in a if x not in b][:3]


def ours(f):
    return rt.icmp_error(f) is not None


def body(ip, routed):
    """The IP packet as it must arrive: a router takes one from the TTL."""
    if not routed:
        return ip
    if ip[0] >> 4 == 6:
        return ip[:7] + bytes([ip[7] - 1]) + ip[8:]
    size = 4 * (ip[0] & 15)
    head = ip[:8] + bytes([ip[8] - 1]) + ip[9:10] + b"\0\0" + ip[12:size]
    return head[:10] + w.struct.pack("!H", w.checksum(head)) + head[12:] + ip[size:]


def stage_counters(bed, m):
    return w.show(bed, m, "stages")["stages"][0]["counters"]


def rule_counts(bed, m, rule, before):
    """(packets, bytes) a rule has counted since."""
    now, then = (next(c for c in x if c["name"] == "rules." + rule) for x in (stage_counters(bed, m), before))
    return now["packets"] - then["packets"], now["bytes"] - then["bytes"]


def grown_own(t, t0):
    return t["own"]["sent_packets"] - t0["own"]["sent_packets"]


def limited(tap, bed, m, client, server, name):
    """What a limit lets through and what not, in both tiers together."""
    def frame(n, **kw):
        return w.packet(o.C4, o.S4, w.UDP, w.udp(o.C4, o.S4, 3003, 2003, b"%08d" % n), **kw)
    answer = w.swapped(w.packet(o.S4, o.C4, w.UDP, w.udp(o.S4, o.C4, 2003, 3003, b"answer")))
    before, sent = w.settle(bed, m), [0]

    def turn():
        client.send(frame(sent[0]))
        server.send(answer)
        sent[0] += 1
    o.goes_over(tap, bed, m, turn, name, "--port", "3003", cnt=2)
    dropped = w.drops(w.settle(bed, m)).get("meter", 0)
    tap.same(dropped, 0, name + ": nothing is over it yet")
    server.take_cnt(0)
    first = sent[0]
    while sent[0] < first + 600:
        client.send(frame(sent[0], **(dict(options=b"\1\1\1\0") if sent[0] % 5 == 4 else {})))
        sent[0] += 1
    d = w.account(tap, bed, m, name)
    arrived = len(server.take_cnt(1))
    metered = w.drops(d).get("meter", 0)
    tap.same((arrived + metered, arrived > 60, metered > 200), (600, True, True), name + ": what did not arrive is counted as over it")
    rule = next(c for c in stage_counters(bed, m) if c["name"] == "rules.limit")
    record = [f["forward"]["packets"] for f in w.show(bed, m, "flows", "--port", "3003")["flows"]]
    tap.same((rule["packets"], record), (sent[0], [sent[0]]), name + ": rule and record have counted all")
    inside = o.received(d) - o.received(before) - (o.up(d) - o.up(before))
    tap.ok(inside == 0 if o.never() else inside >= 480, name + ": in both tiers", inside)


def test_wire(tap, bed):
    o.wire(bed)
    for space, dev in (("c", "c0"), ("r", "lan")):
        bed.run(space, "ip link set %s mtu 1700" % dev)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    heads = {"c": (w.CLIENT_MAC, w.SERVER_MAC), "s": (w.SERVER_MAC, w.CLIENT_MAC)}
    with bed.millrace("r", bed.file("totals.yaml", w.plain(top=o.flows(), stages=STAGES, out=STAGED, into=STAGED))) as m:
        alternate(tap, bed, m, client, server, heads, "wire", False, [(o.C4, o.S4), (o.C6, o.S6)])
        limited(tap, bed, m, client, server, "limit")
        tap.same(m.stop(), 0, "wire: ends with 0")
    o.close_all(client, server)
    bed.clear()


def test_route(tap, bed):
    def all_of_it(net):
        o.targets(bed)
        o.fixed_neighbours(bed)
        client, server = net.port("c0"), net.port("s0")
        heads = {"c": (rt.MACS["c0"], rt.MACS["lan"]), "s": (rt.MACS["s0"], rt.MACS["wan"])}
        for family, near, far in rt.FAMILIES:
            alternate(tap, bed, net.m, client, server, heads, "route, IPv%d" % family, True, [(near, far)])
    text = o.route_config(stages=STAGES, out=STAGED, into=STAGED)
    rt.one_half(tap, bed, "millrace", (all_of_it,), dict(config=text, mtu=dict(lan=1700), kernel_forwards=1000))


def test(tap, bed):
    test_wire(tap, bed)
    test_route(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offtot"))
