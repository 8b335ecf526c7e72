#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44 with the box's own address (leftover: kernel): what the box itself sends and serves is unharmed; announced addresses."""
import os
import random

import nat
import wire as w
from nat import A, S

OWN = nat.BOX["wan"]
OPTIONS = "ports: 40000-65535\nleftover: kernel"


def box_itself(tap, bed, watch, mode):
    bed.sysctl("r", "net/ipv4/ip_local_port_range", "'32768 39999'")  # the ports below are the kernel's, the others the stage's
    with nat.Nat(tap, bed, watch, OPTIONS, "the box's own address, " + mode, mode=mode, outside=OWN) as net:
        www = os.path.join(bed.dir, "www")
        os.makedirs(www, exist_ok=True)
        with open(www + "/file", "wb") as f:
            f.write(os.urandom(300000))
        with bed.spawn("s", ["/usr/bin/python3", "-m", "http.server", "8080", "--bind", S, "--directory", www], "http"), \
                bed.spawn("r", ["/usr/bin/python3", "-m", "http.server", "8081", "--bind", OWN, "--directory", www], "http"):
            def get(space, url):
                return bed.run(space, ["curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", url], check=False)
            w.wait_for(lambda: get("s", "http://%s:8080/file" % S).startswith("200"), 10)
            net.same(get("r", "http://%s:8080/file" % S), "200 300000", "the box fetches from outside by its own address")
            net.same(get("a", "http://%s:8080/file" % S), "200 300000", "an inside host fetches through it")
            net.same(get("s", "http://%s:8081/file" % OWN), "200 300000", "an outside host fetches from the box")
            net.same(get("a", "http://%s:8081/file" % OWN), "200 300000", "an inside host fetches from the box by its outside address")
            for n in range(5):
                both = get("r", "http://%s:8080/file" % S), get("a", "http://%s:8080/file" % S)
                if both != ("200 300000",) * 2:
                    net.ok(False, "by turns", both)
                    break
            else:
                net.ok(True, "by turns, five times")
        for space, far in (("r", S), ("s", OWN), ("a", S), ("a", OWN), ("t", OWN)):
            out = bed.run(space, ["ping", "-n", "-c", "10", "-i", "0.02", "-W", "3", far], check=False)
            net.ok("10 packets transmitted, 10 received" in out, "%s pings %s" % (space, far), out)
        out = bed.run("r", ["traceroute", "-n", "-q", "1", "-w", "2", "-m", "3", S], check=False)
        net.ok(S in out.splitlines()[-1], "the box's own traceroute", out)
        closed = w.enter(bed, "r", w.socket.socket, w.socket.AF_INET, w.socket.SOCK_DGRAM)
        closed.settimeout(3)
        closed.connect((S, 9999))
        closed.send(b"x")
        try:
            got = closed.recv(10)
        except ConnectionRefusedError:
            got = "refused"
        net.same(got, "refused", "an error about the box's own packet reaches the box")
        closed.close()
        outer = net.udp("s", S, 7000)
        out = [net.mapped(net.udp("a", A, 5000 + n), outer) for n in range(20)]
        net.ok(all(o and o[0] == OWN and 40000 <= o[1] <= 65535 for o in out), "mappings have the box's address and ports of the range", out)
        net.ok(net.reaches(outer, (OWN, 123), net.udp("r", OWN, 123)) == (S, 7000), "a datagram to a port of the box is the box's")


def box_elsewhere(tap, bed, watch, mode):
    """Addresses of the box that are no outside addresses: nothing to translate, the stack has them."""
    with nat.Nat(tap, bed, watch, "", "the box's other addresses, " + mode, mode=mode) as net:
        for far in (nat.BOX["wan"], nat.BOX["wan2"], nat.BOX["lan2"], nat.BOX["lan"]):
            out = bed.run("a", ["ping", "-n", "-c", "5", "-i", "0.05", "-W", "3", far], check=False)
            net.ok("5 packets transmitted, 5 received" in out, "a pings %s" % far, out)
        box = net.udp("r", nat.BOX["wan"], 7000)
        net.same(net.mapped(net.udp("a", A, 5000), box), (A, 5000), "a datagram to the box is as it was sent")
        asks = w.enter(bed, "r", w.socket.socket, w.socket.AF_INET, w.socket.SOCK_DGRAM)
        asks.settimeout(3)
        asks.bind((nat.BOX["wan"], 0))
        asks.connect((A, 9999))
        asks.send(b"x")
        try:
            got = asks.recv(10)
        except OSError as e:
            got = type(e).__name__
        net.same(got, "ConnectionRefusedError", "an error of an inside host about the box's own packet reaches the box")
        asks.close()


def odd(rng, n):
    """A frame from an inside address that something is odd about, most of the time."""
    dst = rng.choice((S, nat.T, S, "198.51.100.77", nat.OUT % 64, "203.0.113.200", "224.0.0.5", "255.255.255.255", nat.BOX["wan"]))
    proto = rng.choice((w.UDP, w.TCP, w.ICMP, w.ICMP, 47, 50, 132, 2, 0, 255, rng.randrange(256)))
    body = {w.UDP: lambda: w.udp(A, dst, rng.randrange(65536), rng.randrange(65536), bytes(rng.randrange(40))),
            w.TCP: lambda: w.tcp(A, dst, rng.randrange(65536), 9, rng.randrange(64), bytes(rng.randrange(40))),
            w.ICMP: lambda: w.echo(A, dst, rng.randrange(20), rng.randrange(65536), data=w.ip4(S, A, w.UDP, w.udp(S, A, 9, 9)))}.get(proto, lambda: bytes(rng.randrange(60)))()
    more = {}
    for key, share, value in (("frag", 0.2, lambda: rng.choice((0x2000, 0x2001, 1, 185, 0x4000, 0x1FFF))), ("options", 0.15, lambda: rng.choice((b"\x94\4\0\0", b"\7\7\4\0\0\0\0\0", b"\x83\7\4" + w.address(S) + b"\0"))),
                              ("ttl", 0.15, lambda: rng.choice((0, 1, 2, 255))), ("total", 0.05, lambda: rng.randrange(60)), ("vihl", 0.03, lambda: rng.choice((0x44, 0x4F, 0x55)))):
        if rng.random() < share:
            more[key] = value()
    ip = w.ip4(A, dst, proto, body[:rng.randrange(len(body) + 1)] if rng.random() < 0.1 else body, ident=n % 50, **more)
    if rng.random() < 0.05:
        ip = ip[:10] + b"\xba\xad" + ip[12:]
    mac = rng.choice((nat.MACS["lan"],) * 8 + ("ff:ff:ff:ff:ff:ff", "02:00:00:00:99:99", "01:00:5e:00:00:05"))
    return w.eth(ip, dst=mac, src=nat.MACS["a0"], tags=rng.choice(((),) * 12 + ((7,), (0,), (7, 8))))


def odd_packets(tap, bed, watch, mode):
    """Whatever comes from inside: nothing leaves with its address, though the kernel would forward it."""
    rng = random.Random(6)
    with nat.Nat(tap, bed, watch, "leftover: kernel" if mode == "never" else "", "odd packets, " + mode, mode=mode) as net:
        p = net.port("a0")
        for n in range(3000):
            p.send(odd(rng, n))
        d = w.settle(bed, net.m)
        net.ok(d["totals"]["received_packets"] > 1500 and d["totals"]["forwarded_packets"] > 200, "packets of all sorts came and went", d["totals"])


def leftover_drop(tap, bed, watch, mode):
    """The default: what nobody wants is dropped, though the box has the address."""
    bed.run("r", "ip addr add 203.0.113.64/32 dev lo")
    try:
        with nat.Nat(tap, bed, watch, "", "leftover: drop, " + mode, mode=mode) as net:
            for proto, body, name in ((w.UDP, w.udp(S, nat.OUT % 64, 7000, 9999), "UDP"), (w.TCP, w.tcp(S, nat.OUT % 64, 7000, 9999), "TCP"), (w.ICMP, w.echo(S, nat.OUT % 64), "an echo request"), (89, b"\0" * 20, "another protocol")):
                net.silent(w.ip4(S, nat.OUT % 64, proto, body), "s0", "s0", lambda p: p[12:16] == w.address(nat.OUT % 64), name + " nobody wants is dropped", "nat44-unwanted")
    finally:
        bed.run("r", "ip addr del 203.0.113.64/32 dev lo")


def announced(tap, bed, watch, mode):
    """Outside addresses of the network between r and s: somebody has to answer ARP for them."""
    outside = "198.51.100.100-198.51.100.101"
    text = nat.config("", mode=mode, outside=outside)
    said = bed.run("r", [nat.find_millrace(), "check", bed.file("quiet.yaml", text)], check=False)
    tap.ok("198.51.100.100" in said and "ARP" in said, "check says that nobody answers ARP for the address", said[-1500:])
    with nat.Nat(tap, bed, watch, "announce: true", "announced, " + mode, mode=mode, outside=outside) as net:
        outer = net.udp("s", S, 7000)
        out = net.mapped(net.udp("a", A, 5000), outer)
        net.ok(out and out[0] in ("198.51.100.100", "198.51.100.101"), "it is mapped", out)
        if out:
            net.same(net.reaches(outer, out, net.socks[1]), (S, 7000), "the answer finds its way: ARP was answered")
            net.ok(nat.MACS["wan"] in bed.run("s", "ip neigh show %s" % out[0]), "with the MAC address of wan", bed.run("s", "ip neigh"))
        shown = bed.run("r", "ip addr show")
        net.ok("198.51.100.100" in shown or "198.51.100.100" in bed.run("r", "ip neigh show proxy"), "the kernel has the addresses while it runs", shown)
    shown = bed.run("r", "ip addr show") + bed.run("r", "ip neigh show proxy")
    tap.ok("198.51.100.10" not in shown.replace("198.51.100.1/", ""), "announced: and no longer when it has ended", shown)


def test(tap, bed):
    nat.build(bed)
    wanted = nat.modes("never", "always")
    nat.cases(tap, bed, (box_itself, box_elsewhere, leftover_drop, nat.with_deaf(odd_packets)), wanted)
    nat.cases(tap, bed, (announced,), wanted[:1])


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natown"))
