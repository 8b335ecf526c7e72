#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Forwarding between two hosts: IPv4 and IPv6, one and two queues and workers, native and generic mode.

In every combination: TCP in bulk arrives intact, ping answers, many UDP flows cross, and every frame one host's device
sent is found again at the program and at the other host's device.
"""
import hashlib
import json
import random
import socket
import threading

import wire as w

BULK = random.Random(1).randbytes(1 << 20)
FLOWS = 24

NFT = """table inet t {
	counter sent { }
	counter got { }
	chain out { type filter hook postrouting priority 0; oifname "%(dev)s" counter name sent; }
	chain in { type filter hook prerouting priority -500; iifname "%(dev)s" counter name got; }
}"""


def sha(data):
    return hashlib.sha256(data).hexdigest()


def read_all(sock):
    parts = []
    while True:
        part = sock.recv(1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def serve_once(listener, got):
    conn, _ = listener.accept()
    with conn:
        conn.settimeout(40)
        got.append(sha(read_all(conn)))
        conn.sendall(BULK[::-1])


def bulk(bed, host):
    """A megabyte there and another one back; True when both are what was sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = w.enter(bed, "s", socket.create_server, (host, 8000), family=family)
    listener.settimeout(40)
    got = []
    t = threading.Thread(target=serve_once, args=(listener, got), daemon=True)
    t.start()
    try:
        with w.enter(bed, "c", socket.create_connection, (host, 8000), timeout=40) as conn:
            conn.sendall(BULK)
            conn.shutdown(socket.SHUT_WR)
            back = read_all(conn)
    except OSError as e:
        return str(e)
    finally:
        t.join(40)
        listener.close()
    return got == [sha(BULK)] and sha(back) == sha(BULK[::-1])


def datagrams(bed, host):
    """Many flows, so that every queue gets some; returns how many came back."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = w.enter(bed, "s", socket.socket, family, socket.SOCK_DGRAM)
    server.bind((host, 9000))
    server.settimeout(20)
    back = 0
    try:
        for _ in range(FLOWS):
            with w.enter(bed, "c", socket.socket, family, socket.SOCK_DGRAM) as client:
                client.settimeout(20)
                client.sendto(b"there", (host, 9000))
                data, peer = server.recvfrom(100)
                server.sendto(data + b" and back", peer)
                back += client.recv(100) == b"there and back"
    except OSError:
        pass
    server.close()
    return back


def counters(bed, d):
    """What the hosts' devices and their nftables counted, and the program, at one moment."""
    state = {}
    for space, dev, name in (("c", "c0", "lan"), ("s", "s0", "wan")):
        link, port = bed.counters(space, dev), bed.counters("r", name)
        nft = {o["counter"]["name"]: o["counter"]["packets"] for o in json.loads(bed.run(space, "nft -j list counters"))["nftables"] if "counter" in o}
        i = w.interface(d, name)
        # veth counts for the sender what its peer's queue had no room for
        state[name] = dict(host_sent=link["tx_packets"], host_got=link["rx_packets"], host_lost=link["tx_dropped"], host_ip_sent=nft["sent"],
                           host_ip_got=nft["got"], lost=port["tx_dropped"], received=i["received_packets"], steered=i["steer"]["steered_packets"],
                           passed=i["steer"]["passed_packets"] + i["steer"]["no_socket_packets"], tx=i["tx_packets"],
                           forwarded=i["forwarded_packets"], dropped=i["dropped_packets"],
                           kernel_lost=i["kernel_rx_dropped_packets"] + i["kernel_rx_ring_full_packets"])
    return state


def still(bed, m):
    """Counters once neither the program nor a host's device moves."""
    last = None
    for _ in range(40):
        now = counters(bed, w.settle(bed, m))
        if now == last:
            break
        last = now
    return now


def compare(tap, name, before, after):
    d = {i: {k: after[i][k] - before[i][k] for k in after[i]} for i in after}
    for way, (near, far) in (("out", ("lan", "wan")), ("in", ("wan", "lan"))):
        tap.same(d[near]["steered"] + d[near]["passed"], d[near]["host_sent"] - d[near]["host_lost"], "%s, %s: frames the host's device sent = seen by the program" % (name, way))
        tap.same((d[near]["passed"], d[near]["received"] + d[near]["kernel_lost"]), (0, d[near]["steered"]), "%s, %s: all of them taken and received" % (name, way))
        tap.same(d[far]["tx"], d[near]["forwarded"], "%s, %s: forwarded = sent by the other interface" % (name, way))
        tap.same(d[far]["host_got"], d[far]["tx"] - d[far]["lost"], "%s, %s: = what the other host's device received" % (name, way))
        lost = d[near]["host_lost"] + d[near]["kernel_lost"] + d[near]["dropped"] + d[far]["lost"]
        tap.same(d[near]["host_ip_sent"] - d[far]["host_ip_got"], lost, "%s, %s: IP packets nftables saw leave and not arrive = those counted as lost" % (name, way))


def run(tap, bed, mode, queues, workers):
    name = "%s, queues %d and %d, %d worker%s" % (mode, *queues, workers, "s" * (workers > 1))
    w.wire(bed, hosts=True, queues=queues)
    for space, dev in (("c", "c0"), ("s", "s0")):
        bed.run(space, ["nft", "-f", bed.file("nft-" + space, NFT % dict(dev=dev))])
    text = w.plain(interface=", mode: " + mode, top="workers: { count: %d }\nflows: { capacity: 4k }" % workers)
    with bed.millrace("r", bed.file("forward.yaml", text)) as m:
        before = still(bed, m)
        for host in ("10.9.0.2", "fd00:9::2"):
            tap.ok(" 0% packet loss" in bed.run("c", ["ping", "-q", "-c", 3, "-i", "0.1", "-W", 10, host], check=False), "%s: ping %s" % (name, host))
            tap.same(bulk(bed, host), True, "%s: TCP bulk to %s arrives intact" % (name, host))
            tap.same(datagrams(bed, host), FLOWS, "%s: %d UDP flows to %s" % (name, FLOWS, host))
        after = still(bed, m)
        d = w.account(tap, bed, m, name)
        compare(tap, name, before, after)
        tap.same([i["mode"] for i in d["interfaces"]], [mode] * 2, name + ": the mode that was asked for")
        # a veth without native XDP does not say which queue a frame came by: generic mode sees queue 0
        served = list(queues) if mode == "copy" else [1, 1]
        tap.same([sum(q["rx_packets"] > 0 for q in i["queues"]) for i in d["interfaces"]], served, name + ": packets on every queue")
        handed = sum(k["handoff_out_packets"] for k in d["workers"])
        tap.ok((handed > 0) == (workers > min(queues)), name + ": packets cross between workers exactly where queues are fewer", handed)
        tap.ok(w.show(bed, m, "flows")["total_cnt"] >= 2 * FLOWS, name + ": a session for each flow")
        tap.same(m.stop(), 0, name + ": ends with 0")
        tap.same(w.left_behind(bed, "r", m.instance), [], name + ": leaves nothing")


def test(tap, bed):
    # two workers and one queue on one side only: what leaves there is handed to the worker that owns it
    for mode, queues, workers in (("copy", (1, 1), 1), ("generic", (1, 1), 1), ("copy", (2, 2), 2), ("generic", (2, 2), 2), ("copy", (2, 2), 1),
                                  ("copy", (2, 1), 2), ("copy", (1, 2), 2)):
        run(tap, bed, mode, queues, workers)
        bed.clear()


if __name__ == "__main__":
    w.sys.exit(w.main(test, "forward"))
