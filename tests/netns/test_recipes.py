#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The recipes with a NAT, as they stand in pipelines/recipes, with hosts on both sides (demo.yaml has `make demo`)."""
import contextlib
import os
import socket

import wire as w
from bed import find_millrace

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def recipe(name):
    with open(os.path.join(ROOT, "pipelines", "recipes", name)) as f:
        return f.read()


def build(bed, inside, box_inside, lan, wan):
    """h ── lan [ r ] wan ── s, with the devices' names and the addresses of a recipe."""
    for space in "hrs":
        bed.ns(space)
        bed.sysctl(space, "net/ipv6/conf/all/disable_ipv6", 1)
    for space, dev, ours in (("h", "h0", lan), ("s", "s0", wan)):
        bed.veth(space, dev, "r", ours)
        bed.host(space, dev)
        bed.accept_redirects(space, dev)
    for address in inside:
        bed.run("h", "ip addr add %s dev h0" % address)
    bed.run("r", "ip addr add %s dev %s" % (box_inside, lan))
    bed.run("r", "ip addr add 198.51.100.2/24 dev " + wan)
    for n in (1, 9):
        bed.run("s", "ip addr add 198.51.100.%d/24 dev s0" % n)
    for address in ("192.0.2.9", "192.168.1.77", "100.64.7.7"):
        bed.run("s", "ip addr add %s/32 dev s0" % address)
    bed.run("h", "ip route add default via " + box_inside.split("/")[0])
    bed.run("r", "ip route add default via 198.51.100.1")
    bed.sysctl("r", "net/ipv4/ip_forward", 1)
    bed.sysctl("r", "net/ipv4/ip_local_port_range", "'16384 32767'")


@contextlib.contextmanager
def sock(bed, space, kind, address, port=0):
    s = w.enter(bed, space, socket.socket, socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.settimeout(5)
    if kind == socket.SOCK_STREAM and port:
        s.listen(5)
    try:
        yield s
    finally:
        s.close()


def visit(bed, space, address, where, listener):
    """Connects, exchanges a line each way.  Whom the listener saw; None: it did not work."""
    with sock(bed, space, socket.SOCK_STREAM, address) as c:
        try:
            c.connect(where)
            conn, who = listener.accept()
            with conn:
                conn.settimeout(5)
                c.sendall(b"there\n")
                there = conn.recv(100)
                conn.sendall(b"back\n")
                return who if (there, c.recv(100)) == (b"there\n", b"back\n") else None
        except OSError:
            return None


def asks(from_, where, listener):
    """A datagram there and one back.  Whom the listener saw; None: it did not work."""
    try:
        from_.sendto(b"there", where)
        got, who = listener.recvfrom(100)
        listener.sendto(b"back", who)
        return who if (got, from_.recvfrom(100)[0]) == (b"there", b"back") else None
    except OSError:
        return None


def pings(bed, space, source, far):
    out = bed.run(space, ["ping", "-n", "-c", "3", "-i", "0.05", "-W", "3", "-I", source, far], check=False)
    return "3 received" in out


def office(tap, bed):
    build(bed, ("192.168.1.2/24", "192.168.1.10/24"), "192.168.1.1/24", "lan", "wan")
    with bed.millrace("r", bed.file("nat.yaml", recipe("nat.yaml"))) as m:
        with sock(bed, "s", socket.SOCK_STREAM, "192.0.2.9", 80) as web, sock(bed, "h", socket.SOCK_STREAM, "192.168.1.10", 8443) as server, \
                sock(bed, "r", socket.SOCK_STREAM, "198.51.100.2", 22) as ssh, sock(bed, "s", socket.SOCK_DGRAM, "192.0.2.9", 53) as dns, \
                sock(bed, "h", socket.SOCK_DGRAM, "192.168.1.2") as host:
            who = visit(bed, "h", "192.168.1.2", ("192.0.2.9", 80), web)
            tap.ok(who and who[0] == "198.51.100.2" and who[1] >= 32768, "nat.yaml: a host inside visits a server, by the box's address", who)
            who = asks(host, ("192.0.2.9", 53), dns)
            tap.ok(who and who[0] == "198.51.100.2" and who[1] >= 32768, "nat.yaml: and asks one by UDP", who)
            tap.ok(pings(bed, "h", "192.168.1.2", "192.0.2.9"), "nat.yaml: and pings it")
            who = visit(bed, "s", "192.0.2.9", ("198.51.100.2", 443), server)
            tap.ok(who and who[0] == "192.0.2.9", "nat.yaml: the forwarded port leads to the server inside", who)
            who = visit(bed, "h", "192.168.1.2", ("198.51.100.2", 443), server)
            tap.ok(who and who[0] == "198.51.100.2", "nat.yaml: from inside as well", who)
            for space, source in (("s", "198.51.100.9"), ("h", "192.168.1.2")):
                who = visit(bed, space, source, ("198.51.100.2", 22), ssh)
                tap.same(who and who[0], source, "nat.yaml: the box's own port is the box's, for %s" % source)
            who = visit(bed, "r", "198.51.100.2", ("192.0.2.9", 80), web)
            tap.ok(who and who[0] == "198.51.100.2" and who[1] < 32768, "nat.yaml: the box itself visits the server", who)
            tap.ok(pings(bed, "r", "198.51.100.2", "192.0.2.9") and pings(bed, "s", "192.0.2.9", "198.51.100.2"), "nat.yaml: the box pings, and is pinged")
            tap.ok(pings(bed, "h", "192.168.1.2", "192.168.1.1"), "nat.yaml: also from inside")
            host.sendto(b"browse", ("192.0.2.9", 137))
            with sock(bed, "s", socket.SOCK_DGRAM, "192.168.1.77") as spoofed:
                spoofed.sendto(b"x", ("198.51.100.2", 40000))
            d = w.account(tap, bed, m, "nat.yaml")
            tap.same(w.drops(d), {"filter-blocked": 2}, "nat.yaml: dropped is what the filters drop")
        tap.same(m.stop(), 0, "nat.yaml: ends with 0")
    bed.run("r", [find_millrace(), "--name", m.instance, "cleanup"])
    bed.clear()


def carrier(tap, bed):
    build(bed, ("100.64.0.2/10", "100.64.0.3/10", "10.66.0.1/32"), "100.64.0.1/10", "access", "core")
    bed.run("s", "ip route add 203.0.113.64/28 via 198.51.100.2")
    bed.run("s", "ip route add 100.64.0.0/10 via 198.51.100.2")
    log = os.path.join(bed.dir, "cgn.log")
    text = recipe("cgn.yaml")
    tap.ok("/var/log/millrace/cgn.log" in text, "cgn.yaml: has a log")
    text = text.replace("/var/log/millrace/cgn.log", log).replace("capacity: 1M", "capacity: 64k")  # as little as is needed
    with bed.millrace("r", bed.file("cgn.yaml", text)) as m:
        with sock(bed, "s", socket.SOCK_STREAM, "192.0.2.9", 80) as web, sock(bed, "s", socket.SOCK_STREAM, "198.51.100.9", 80) as own, \
                sock(bed, "s", socket.SOCK_DGRAM, "192.0.2.9", 53) as dns, sock(bed, "h", socket.SOCK_DGRAM, "100.64.0.3") as host:
            seen = [visit(bed, "h", "100.64.0.2", ("192.0.2.9", 80), web) for _ in range(3)]
            tap.ok(all(s and s[0].startswith("203.0.113.") and 64 <= int(s[0].rsplit(".", 1)[1]) < 80 for s in seen), "cgn.yaml: a subscriber visits", seen)
            tap.same(len({(s[0], s[1] // 512) for s in seen if s}), 1, "cgn.yaml: with one address, and ports of one block")
            who = asks(host, ("192.0.2.9", 53), dns)
            tap.ok(who, "cgn.yaml: another asks by UDP", who)
            tap.ok(pings(bed, "h", "100.64.0.3", "192.0.2.9"), "cgn.yaml: and pings")
            other = visit(bed, "h", "100.64.0.2", ("198.51.100.9", 80), own)
            tap.same(other and other[0], "100.64.0.2", "cgn.yaml: the carrier's own server sees it as it is")
            tap.ok(pings(bed, "s", "198.51.100.9", "100.64.0.3"), "cgn.yaml: and reaches it")
            with sock(bed, "h", socket.SOCK_DGRAM, "10.66.0.1") as spoofed:
                spoofed.sendto(b"x", ("192.0.2.9", 53))
            with sock(bed, "s", socket.SOCK_DGRAM, "100.64.7.7") as spoofed:
                spoofed.sendto(b"x", ("203.0.113.64", 40000))
            d = w.account(tap, bed, m, "cgn.yaml")
            tap.same(w.drops(d), {"filter-blocked": 2}, "cgn.yaml: dropped is what came from no subscriber, or from one outside")
            for s in [x for x in (seen[0], who) if x]:
                inside = "100.64.0.2" if s == seen[0] else "100.64.0.3"
                w.wait_for(lambda: os.path.exists(log) and inside in open(log).read(), 10)
                answer = bed.run("r", [find_millrace(), "nat", "who", "%s:%d" % s, "--log", log], check=False)
                tap.ok(inside in answer, "cgn.yaml: the log says who had %s:%d" % s, answer)
        tap.same(m.stop(), 0, "cgn.yaml: ends with 0")
        with open(log) as f:
            tap.same(sum("block-add" in line for line in f), 2, "cgn.yaml: a line for each block")
    bed.run("r", [find_millrace(), "--name", m.instance, "cleanup"])


def run(tap, bed):
    office(tap, bed)
    carrier(tap, bed)


if __name__ == "__main__":
    raise SystemExit(w.main(run, "recipes"))
