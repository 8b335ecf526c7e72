#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Which flows XDP carries, and from which packet on: `offload`, `offload_after`, pipelines of their own mind; `to: back`; several workers; and
that no packet overtakes another while a flow goes over, or a configuration is replaced.
"""
import subprocess

import offload as o
import wire as w

STAGES = """stages:
  odd: { type: filter, rules: [ { name: short, action: drop, length: [ 0-20 ] } ] }
"""


def there(sport, data=b"there", dport=9, **kw):
    return w.packet(o.C4, o.S4, w.UDP, w.udp(o.C4, o.S4, sport, dport, data), **kw)


def back(sport, data=b"back", dport=9):
    return w.swapped(w.packet(o.S4, o.C4, w.UDP, w.udp(o.S4, o.C4, dport, sport, data)))


def after(tap, bed, client, server):
    """The packet from which on it is XDP's."""
    for policy in ("established", "always"):
        with bed.millrace("r", bed.file("after.yaml", w.plain(top=o.flows(offload=policy, after=10)))) as m:
            came_up = []
            server.send(back(100))
            w.settle(bed, m)
            for _ in range(14):
                before = o.up(w.settle(bed, m), "lan")
                client.send(there(100))
                came_up.append(o.up(w.settle(bed, m), "lan") - before)
            first = 14 if o.never() else 10 if policy == "established" else 1
            tap.same(came_up, [1] * first + [0] * (14 - first), "%s, offload_after: 10: as many come up as should" % policy)
            tap.ok(o.never() or whys(bed, m, 100)["wan"] == (True, None), "%s: and then XDP has it" % policy, whys(bed, m, 100))
            w.account(tap, bed, m, policy)
        server.take_cnt(0), client.take_cnt(0)


def whys(bed, m, sport):
    """{where from c or s it goes: (offloaded, why not)} of a flow's directions."""
    found = {}
    for f in w.show(bed, m, "flows", "--port", sport)["flows"]:
        for way, here in (("forward", f["source"] == o.C4), ("reply", f["source"] != o.C4)):
            found["wan" if here else "lan"] = (f[way]["offloaded"], f[way].get("offload_why"))
    return found


def pipelines(tap, bed, client, server):
    """Each pipeline may say something else than `flows`, and `show flows` tells why."""
    text = w.plain(top="flows: { capacity: 1k, offload: never }", stages=STAGES, out="")
    text = text.replace("  out: {", "  mine: { from: [ lan ], match: [ { dport: 11 } ], to: wan, offload: always }\n"
                        "  odd: { from: [ lan ], match: [ { dport: 12 } ], stages: [ odd ], to: wan, offload: always }\n"
                        "  two: { from: [ lan ], match: [ { dport: 13 } ], to: wan, offload: established }\n  out: {")
    if o.never():
        tap.skip("pipelines of their own mind", "MR_OFFLOAD=never")
        return
    with bed.millrace("r", bed.file("pipelines.yaml", text)) as m:
        for _ in range(6):
            for port in (9, 11, 12, 13):
                client.send(there(200 + port, dport=port))
            w.settle(bed, m)
        got = {port: whys(bed, m, 200 + port).get("wan") for port in (9, 11, 12, 13)}
        tap.same(got, {9: (False, "off"), 11: (True, None), 12: (False, "undecided"), 13: (False, "state")}, "each pipeline's own word; why the others are not")
        server.send(back(213, dport=13))
        w.settle(bed, m)
        client.send(there(213, dport=13))
        w.settle(bed, m)
        tap.same(whys(bed, m, 213).get("wan"), (True, None), "established, when an answer has come")
        with o.carried(tap, bed, m, "only those", "lan", least=40, most_up=20):
            for _ in range(10):
                for port in (9, 11, 12, 13):
                    client.send(there(200 + port, dport=port))
        w.account(tap, bed, m, "pipelines")
    server.take_cnt(0), client.take_cnt(0)


def turned_back(tap, bed, client, server):
    """Out where it came in: XDP_TX, on a wire byte for byte but for the addresses of the frame."""
    text = w.plain(top=o.flows(offload="always")).replace("match: all, to: wan", "match: all, to: back")
    with bed.millrace("r", bed.file("back.yaml", text)) as m:
        for family, near, far in o.FAMILIES:
            def frame(n):
                return w.packet(near, far, w.UDP, w.udp(near, far, 300, 9, b"%06d" % n + bytes(n * 3)))
            o.goes_over(tap, bed, m, lambda: client.send(frame(0)), "back, IPv%d" % family, "--addr", near, cnt=1)
            w.settle(bed, m)
            client.take_cnt(0)
            with o.carried(tap, bed, m, "back, IPv%d" % family, "lan", least=400):
                for n in range(400):
                    client.send(frame(n))
                got = client.take_cnt(400)
            tap.same(got, [w.swapped(frame(n)) for n in range(400)], "back, IPv%d: every frame returns, in order" % family)
        w.account(tap, bed, m, "back")


def in_order(tap, bed, client, server, name, top):
    """Conversations begin all the time and the configuration is read again and again: nothing is lost, doubled or overtaken."""
    text = w.plain(top=top, interface=", rx_ring: 4096")
    path = bed.file("order.yaml", text)
    with bed.millrace("r", path) as m:
        stream = w.Stream(client, server, pps=4000, flows=40)
        before = w.show(bed, m)
        for turn in range(6):
            n = stream.sent
            for k in range(40):  # some are answered
                server.send(back(7000 + k))
            w.wait_for(lambda: stream.sent > n + 1000)
            subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", m.instance, "reload", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True, timeout=60)
            if turn % 2:
                bed.ask(m, "flows", "delete", "--port", 7000 + turn)
        lost = stream.stop()
        d = w.account(tap, bed, m, name)
        tap.same((lost, stream.behind), ([], 0), "%s: of %d packets none is lost, none comes behind a later one of its flow" % (name, stream.sent))
        tap.same([f for f in stream.others if b"stream" in f], [], name + ": nor twice")
        inside = o.received(d) - o.received(before) - (o.up(d) - o.up(before))
        tap.ok(inside == 0 if o.never() else inside > stream.sent // 2, name + ": most of it by XDP", (inside, stream.sent))
    client.take_cnt(0)


def test(tap, bed):
    o.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    for part in (after, pipelines, turned_back):
        part(tap, bed, client, server)
    in_order(tap, bed, client, server, "always", o.flows(offload="always"))
    in_order(tap, bed, client, server, "established", o.flows(offload="established"))
    o.close_all(client, server)
    bed.clear()
    o.wire(bed, queues=(2, 2))
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    in_order(tap, bed, client, server, "two workers", o.flows(offload="always") + "\nworkers: { count: 2 }")


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offpol"))
