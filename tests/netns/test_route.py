#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel's own forwarding: ping, traceroute, the box itself, what is sent to many."""
import re
import socket
import struct
import threading
import time

import router as rt
import wire as w


def ping(net):
    for family, near, far in rt.FAMILIES:
        for size in (0, 56, 1400, 5000):
            net.tell("ping of %d bytes, IPv%d" % (size, family), net.ping("c", "-c", 5, "-s", size, far), (5, 5))
        out = net.run("c", ["ping", "-n", "-c", 1, far])
        net.tell("TTL of the reply, IPv%d" % family, re.search(r"ttl=(\d+)", out).group(1), "63")
        net.tell("ping the other way, IPv%d" % family, net.ping("s", "-c", 5, near), (5, 5))
        net.tell("ping with TTL 2, IPv%d" % family, net.ping("c", "-c", 2, "-t", 2, far), (2, 2))
        net.tell("a flood of 200, IPv%d" % family, net.ping("c", "-c", 200, "-i", "0.002", far), (200, 200))


def hops(out):
    return [l.split()[1] for l in out.splitlines() if re.match(r"\s*\d+\s", l)]


def traces(net):
    """The box is a hop, with the address of the interface the probe came in by."""
    for space, family, far, box in (("c", 4, rt.S4, rt.R4["lan"]), ("c", 6, rt.S6, rt.R6["lan"]), ("s", 4, rt.C4, rt.R4["wan"]),
                                    ("s", 6, rt.C6, rt.R6["wan"]), ("c", 4, rt.ANY4, rt.R4["lan"])):
        for way, name in (("", "UDP"), ("-I", "ICMP"), ("-T", "TCP")):
            for attempt in range(3):
                out = net.run(space, ["traceroute", "-n", "-q", 1, "-w", 2, "-m", 5] + way.split() + [far], check=False)
                if "*" not in out:
                    break
                time.sleep(1)  # errors have a rate
            net.tell("traceroute by %s from %s to %s" % (name, space, far), hops(out), [box, far])
    for far in (rt.S4, rt.S6):
        out = net.run("c", ["tracepath", "-n", "-m", 5, far], check=False)
        net.tell("tracepath to %s" % far, [" ".join(l.split()[:2]).replace("?:", ":") for l in out.splitlines() if re.match(r"\s*\d+:", l)],)
        net.tell("tracepath's end, %s" % far, re.findall(r"pmtu \d+ hops \d+|too many", out)[-1:], ["pmtu 1500 hops 2"])
        out = net.run("c", ["mtr", "-n", "-r", "-c", 3, "-i", "0.3", "-G", "2", far], check=False)
        net.tell("mtr to %s" % far, re.findall(r"\|-- (\S+)\s+(\S+)", out), [(rt.R4["lan"] if "." in far else rt.R6["lan"], "0.0%"), (far, "0.0%")])


def the_box_itself(net):
    for family, _, far in rt.FAMILIES:
        boxes = rt.R4 if family == 4 else rt.R6
        for dev in ("lan", "wan2"):
            net.tell("ping %s of the box, IPv%d" % (dev, family), net.ping("c", "-c", 3, boxes[dev]), (3, 3))
            net.tell("with TTL 1, IPv%d %s" % (family, dev), net.ping("c", "-c", 3, "-t", 1, boxes[dev]), (3, 3))
            net.tell("in fragments, IPv%d %s" % (family, dev), net.ping("c", "-c", 2, "-s", 4000, boxes[dev]), (2, 2))
            listener = w.enter(net.bed, "r", socket.create_server, (boxes[dev], 8022),
                               family=socket.AF_INET if family == 4 else socket.AF_INET6)
            threading.Thread(target=reverse_once, args=(listener,), daemon=True).start()
            net.tell("TCP to the box, IPv%d %s" % (family, dev), exchange(net, boxes[dev], 200000), 200000)
            listener.close()
        net.tell("a closed port of the box, IPv%d" % family,
                 net.fate(rt.datagram(rt.C4 if family == 4 else rt.C6, boxes["lan"], b"x")),
                 "error %s from %s to c" % ("3/3" if family == 4 else "1/4", boxes["lan"]))
        net.tell("the box pings a host, IPv%d" % family, net.ping("r", "-c", 3, far), (3, 3))


def reverse_once(listener):
    try:
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(20)
            data = b""
            while not data.endswith(b"!"):
                data += conn.recv(1 << 16)
            conn.sendall(data[::-1])
    except OSError:
        pass


def exchange(net, host, size):
    with w.enter(net.bed, "c", socket.create_connection, (host, 8022), timeout=20) as conn:
        conn.sendall(b"x" * (size - 1) + b"!")
        got = 0
        while got < size:
            part = conn.recv(1 << 16)
            if not part:
                break
            got += len(part)
        return got


def to_many(net):
    """Broadcast, multicast, ARP, neighbour discovery: the stack's, as ever."""
    def heard(space, bind, send, family=socket.AF_INET, join=None, to=7100):
        s = w.enter(net.bed, space, socket.socket, family, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((bind, to))
        s.settimeout(0.5)
        if join:
            index = w.enter(net.bed, space, socket.if_nametoindex, "lan")
            if family == socket.AF_INET:
                s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4si", w.address(join), b"\0" * 4, index))
            else:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("16si", w.address(join), index))
        got = None
        for _ in range(6):
            net.port("c0").send(send)
            try:
                got = s.recvfrom(2000)
                break
            except socket.timeout:
                pass
        s.close()
        return (got[0], got[1][:2]) if got else None

    for dst in ("255.255.255.255", "10.1.0.255"):
        f = w.eth(w.ip4(rt.C4, dst, w.UDP, w.udp(rt.C4, dst, 7000, 7100, b"all")), dst="ff:ff:ff:ff:ff:ff", src=rt.MACS["c0"])
        net.tell("a datagram to %s" % dst, heard("r", "", f), (b"all", (rt.C4, 7000)))
    f = w.eth(w.ip4("0.0.0.0", "255.255.255.255", w.UDP, w.udp("0.0.0.0", "255.255.255.255", 68, 67, b"discover")),
              dst="ff:ff:ff:ff:ff:ff", src=rt.MACS["c0"])
    net.tell("a DHCP client's question", heard("r", "", f, to=67), (b"discover", ("0.0.0.0", 68)))
    f = w.eth(w.ip4(rt.C4, "239.1.1.1", w.UDP, w.udp(rt.C4, "239.1.1.1", 7000, 7100, b"some"), ttl=1), dst="01:00:5e:01:01:01", src=rt.MACS["c0"])
    net.tell("a datagram to a group", heard("r", "", f, join="239.1.1.1"), (b"some", (rt.C4, 7000)))
    f = w.eth(w.ip6(rt.C6, "ff05::77", w.UDP, w.udp(rt.C6, "ff05::77", 7000, 7100, b"some"), hops=1), kind=w.IP6, dst="33:33:00:00:00:77",
              src=rt.MACS["c0"])
    net.tell("a datagram to an IPv6 group", heard("r", "", f, socket.AF_INET6, "ff05::77"), (b"some", (rt.C6, 7000)))
    net.tell("a group nobody forwards", net.fate(rt.datagram(rt.C4, "239.2.2.2"), want="silence",
             frame=lambda p: w.eth(p, dst="01:00:5e:02:02:02", src=rt.MACS["c0"])), "silence")
    out = net.run("c", "ping -n -b -c 1 -W 5 10.1.0.255", check=False)
    net.tell("ping to the broadcast address", re.findall(r"from (\S+):", out), ["10.1.0.1"])
    out = net.run("c", "ping -n -c 1 -W 5 ff02::2%c0", check=False)
    net.tell("ping to all routers of the link", re.findall(r"from (\S+):", out)[:1],)
    for space, far4, far6 in (("c", rt.R4["lan"], rt.R6["lan"]), ("s", rt.R4["wan"], rt.R6["wan"])):
        net.neighbours_forgotten(space)
        net.tell("ARP from %s" % space, net.ping(space, "-c", 2, far4), (2, 2))
        net.tell("neighbour discovery from %s" % space, net.ping(space, "-c", 2, far6), (2, 2))
    net.neighbours_forgotten("r")
    net.tell("ARP by the box", net.ping("r", "-c", 2, rt.C4), (2, 2))
    net.tell("neighbour discovery by the box", net.ping("r", "-c", 2, rt.C6), (2, 2))


def test(tap, bed):
    rt.both(tap, bed, (ping, traces, the_box_itself, to_many))


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "route"))
