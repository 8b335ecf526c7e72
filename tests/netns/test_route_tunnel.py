#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Into a tunnel and on by the kernel's routes: a stage of a plugin (tests/plugin/) puts packets into IP-in-IP, the far end takes them out.

    c ── lan [ millrace: tunnel to 10.2.0.5 or fd00:2::5, to: route ] wan ── s: a program takes the packets out and gives them to a TUN

The kernels at hand have no IP-in-IP, so there is no reference: the sums of what must arrive are known.  The far end is an address only the
program listens at; replies come plain.
"""
import fcntl
import os
import re
import socket
import struct
import threading
import time

import router as rt
import test_route_mtu as mtu
import wire as w

SERVICE = {4: "10.50.0.1", 6: "fd00:50::1"}
FAR = {4: "10.2.0.5", 6: "fd00:2::5"}
NEAR = {4: rt.R4["wan"], 6: rt.R6["wan"]}

CONFIG = """version: 1
memory: { huge_pages: never }
plugins: [ %(plugin)s ]
flows: { capacity: 4k }
interfaces:
  lan: { device: lan }
  wan: { device: wan }
  wan2: { device: wan2 }
stages:
  over: { type: tunnel, src: "%(src)s", dst: "%(dst)s" }
pipelines:
  out: { from: [ lan ], match: [ { dst: 10.50.0.0/24 }, { dst: "fd00:50::/64" } ], stages: [ over ], to: route }
  rest: { from: [ lan ], match: all, to: route }
  in: { from: [ wan, wan2 ], match: all, to: route }
"""


class FarEnd:
    """Takes packets out of the tunnel at s0 and writes them to a TUN device of s, whose addresses are the service's."""

    def __init__(self, net, outer):
        self.net, self.outer, self.odd, self.cnt, self.seen = net, outer, [], 0, []
        self.going = True
        self.fd = w.enter(net.bed, "s", os.open, "/dev/net/tun", os.O_RDWR)
        w.enter(net.bed, "s", fcntl.ioctl, self.fd, 0x400454CA, struct.pack("16sH22x", b"far0", 0x1001))  # TUNSETIFF: TUN, no header
        net.run("s", "ip link set far0 up mtu 1500")
        net.run("s", "ip addr add %s/32 dev far0" % SERVICE[4])
        net.run("s", "ip addr add %s/128 dev far0 nodad" % SERVICE[6])
        self.port = w.Port(net.bed, "s", "s0")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.going:
            f = self.port.take()
            inner = self.inner(f) if f else None
            if inner:
                self.cnt += 1
                self.seen.append(f)
                os.write(self.fd, inner)

    def inner(self, f):
        """What an outer packet holds; None: it is none.  One that is not as it should be is noted."""
        if f[12:14] == b"\x08\0" and f[23] in (4, 41) and self.outer == 4:
            size, head = struct.unpack("!H", f[16:18])[0], 14 + 4 * (f[14] & 15)
            if (rt.text(f[26:30]), rt.text(f[30:34])) != (NEAR[4], FAR[4]) or w.checksum(f[14:head]) or size > 1500 or f[22] != 64:
                self.odd.append(f.hex())
        elif f[12:14] == b"\x86\xdd" and f[20] in (4, 41) and self.outer == 6:
            size, head = 40 + struct.unpack("!H", f[18:20])[0], 54
            if (rt.text(f[22:38]), rt.text(f[38:54])) != (NEAR[6], FAR[6]) or size > 1500 or f[21] != 64:
                self.odd.append(f.hex())
        else:
            return None
        inner = f[head:14 + size]
        if inner[0] >> 4 != (4 if f[23 if self.outer == 4 else 20] == 4 else 6):
            self.odd.append(f.hex())
        return inner

    def stop(self):
        self.going = False
        self.thread.join(10)
        self.port.close()
        os.close(self.fd)


def through(tap, net, outer):
    net.run("r", "ip neigh replace %s lladdr %s dev wan nud permanent" % (FAR[outer], rt.MACS["s0"]))
    far = FarEnd(net, outer)
    room = 1480 if outer == 4 else 1460
    for family, src in ((4, rt.C4), (6, rt.C6)):
        v = "IPv%d in IPv%d" % (family, outer)
        dst = SERVICE[family]
        tap.same(net.ping("c", "-c", 5, dst), (5, 5), v + ": ping")
        tap.same(net.ping("c", "-c", 5, "-M", "do", "-s", room - (28 if family == 4 else 48), dst), (5, 5), v + ": ping that just fits")
        mtu.forget(net)
        listener = serve(net, dst, 2000000)
        tap.same(upload(net, dst, listener.getsockname()[1], 2000000), 2000000, v + ": TCP with segments larger than the tunnel")
        listener.close()
        tap.same(mtu.known_mtu(net, "c", dst), room, v + ": the sender has learned the tunnel's MTU")
        mtu.forget(net)
        df = dict(frag=0x4000) if family == 4 else {}
        box = (rt.R4 if family == 4 else rt.R6)["lan"]
        overhead = 28 if family == 4 else 48
        error = "error %s mtu %d from %s to c" % ("3/4" if family == 4 else "2/0", room, box)
        got = net.fates([("too large", rt.datagram(src, dst, bytes(room + 1 - overhead), **df), error),
                         ("TTL 1", rt.datagram(src, dst, b"x", ttl=1), "error %s from %s to c" % ("11/0" if family == 4 else "3/0", box)),
                         ("fits", rt.datagram(src, dst, bytes(room - overhead), **df), "to s")], tell=False)
        tap.same(got, {"too large": error, "TTL 1": "error %s from %s to c" % ("11/0" if family == 4 else "3/0", box), "fits": "to s"},
                 v + ": errors to the sender")
        # TTL of the inner packet is one less, the rest is as it was
        packet = rt.ip(src, dst, w.UDP, w.udp(src, dst, 33000, 9, b"whole-" + bytes([family, outer])), ttl=33)
        net.port("c0").send(net.frame(packet))
        found = w.wait_for(lambda: [f for f in far.seen if f.endswith(packet[-8:])], 10)
        inner = far.inner(found[0]) if found else b""
        tap.ok(len(inner) == len(packet) and inner[8 if family == 4 else 7] == 32 and inner[12:] == packet[12:], v + ": the inner packet, one hop older",
               inner.hex())
        out = net.run("c", ["traceroute", "-n", "-q", 1, "-w", 2, "-m", 4, dst], check=False)
        tap.same(re.findall(r"^\s*\d+\s+(\S+)", out, re.M), [box, dst], v + ": traceroute")
    # a smaller network under the tunnel
    with mtu.narrowed(net, "wan", 1400):
        for family, src in ((4, rt.C4), (6, rt.C6)):
            room = 1380 if outer == 4 else 1360
            mtu.forget(net)
            listener = serve(net, SERVICE[family], 2000000)
            tap.same(upload(net, SERVICE[family], listener.getsockname()[1], 2000000), 2000000, "IPv%d in IPv%d: TCP, the link of 1400 bytes" % (family, outer))
            listener.close()
            tap.same(mtu.known_mtu(net, "c", SERVICE[family]), room, "IPv%d in IPv%d: and learned" % (family, outer))
    # the route to the far end moves: the tunnel follows
    one = FAR[outer] + ("/32" if outer == 4 else "/128")
    net.run("r", "ip neigh replace %s lladdr %s dev wan2 nud permanent" % (rt.T4 if outer == 4 else rt.T6, rt.MACS["t0"]))
    net.run("r", "ip route add %s via %s" % (one, rt.T4 if outer == 4 else rt.T6))
    tap.same(net.eventually(rt.datagram(rt.C4, SERVICE[4], b"y"), "to t"), "to t", "the route to the far end moves: by t, IPv%d outside" % outer)
    net.run("r", "ip route del " + one)
    tap.same(net.eventually(rt.datagram(rt.C4, SERVICE[4], b"y"), "to s"), "to s", "and back: by s, IPv%d outside" % outer)
    tap.same(far.odd, [], "every outer packet is as it should be, IPv%d outside" % outer)
    tap.ok(far.cnt > 1000, "%d packets came out of the tunnel" % far.cnt)
    far.stop()


def serve(net, address, size):
    return mtu.serve(net, "s", address, size)


def upload(net, dst, port, size):
    try:
        with w.enter(net.bed, "c", socket.create_connection, (dst, port), timeout=30) as conn:
            conn.sendall(b"u" + bytes(size))
            return size if conn.recv(1) == b"!" else 0
    except OSError as e:
        return "error: %s" % e


def test(tap, bed):
    plugin = os.path.join(w.build_dir(), "tests", "plugin", "tunnel.so")
    if not os.path.exists(plugin):
        tap.skip("tunnels", "the plugin tests/plugin/tunnel.so is not built")
        return
    for outer in (4, 6):
        config = CONFIG % dict(plugin=plugin, src=NEAR[outer], dst=FAR[outer])
        rt.one_half(tap, bed, "millrace", (lambda net: through(tap, net, outer),), dict(config=config))


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rttun"))
