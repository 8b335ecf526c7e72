#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: route` beside the kernel: a network behind the box that takes less than the one before it.

Both ends of the narrow network know their MTU but announce an MSS for 1500 bytes (advmss), as a host does whose narrow link is further away.
"""
import contextlib
import errno
import json
import os
import re
import socket
import struct
import threading
import time

import router as rt
import wire as w

MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
DONT, WANT, DO = 0, 1, 2


def narrow(net, dev, mtu):
    """The MTU of a whole network behind r."""
    space, host = {"lan": ("c", "c0"), "wan": ("s", "s0")}[dev]
    net.run("r", "ip link set %s mtu %d" % (dev, mtu))
    net.run(space, "ip link set %s mtu %d" % (host, mtu))
    if net.m:
        if not w.wait_for(lambda: w.interface(w.show(net.bed, net.m), dev)["mtu_bytes"] == mtu):
            raise w.Failed("millrace has not noticed the MTU of %s" % dev)


@contextlib.contextmanager
def narrowed(net, dev, mtu=1300):
    narrow(net, dev, mtu)
    try:
        yield
    finally:
        narrow(net, dev, 1500)


def forget(net):
    """No path MTU of the past."""
    for space in "cs":
        for words in ("ip route flush cache", "ip -6 route flush cache", "ip tcp_metrics flush all"):
            net.run(space, words, check=False)


def known_mtu(net, space, dst):
    """The path MTU a host has learned."""
    got = json.loads(net.run(space, ["ip", "-j", "route", "get", dst]))[0]
    metrics = got.get("metrics", [{}])
    return (metrics[0] if isinstance(metrics, list) else metrics).get("mtu")


def serve(net, space, address, size):
    """A server that sends `size` bytes to who connects, or takes that many and answers."""
    listener = w.enter(net.bed, space, socket.create_server, (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def run():
        try:
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(30)
                if conn.recv(1) == b"d":
                    conn.sendall(bytes(size))
                else:
                    left = size
                    while left:
                        part = len(conn.recv(1 << 16))
                        if not part:
                            return
                        left -= part
                    conn.sendall(b"!")
        except OSError:
            pass
    threading.Thread(target=run, daemon=True).start()
    return listener


def transfer(net, way, far, size=2000000):
    """Bytes that came, of a download from s to c, or an upload."""
    listener = serve(net, "s", far, size)
    try:
        with w.enter(net.bed, "c", socket.create_connection, (far, listener.getsockname()[1]), timeout=30) as conn:
            conn.sendall(b"d" if way == "download" else b"u")
            if way == "upload":
                conn.sendall(bytes(size))
                return size if conn.recv(1) == b"!" else 0
            got = 0
            while got < size:
                part = len(conn.recv(1 << 16))
                if not part:
                    break
                got += part
            return got
    except OSError as e:
        return "error: %s" % e
    finally:
        listener.close()


def advmss(net, dev):
    """Who is on the narrow network asks for segments of a wide one."""
    space, host, n = {"lan": ("c", "c0", 1), "wan": ("s", "s0", 2)}[dev]
    net.run(space, "ip route change default via 10.%d.0.1 advmss 1460" % n)
    net.run(space, "ip -6 route change default via fd00:%d::1 dev %s advmss 1440" % (n, host))


def tcp(net):
    for dev, way, sender in (("wan", "upload", "c"), ("lan", "download", "s")):
        with narrowed(net, dev):
            advmss(net, dev)
            tcp_over(net, dev, way, sender)


def tcp_over(net, dev, way, sender):
    for family, near, far in rt.FAMILIES:
        forget(net)
        net.tell("TCP %s over a smaller %s, IPv%d" % (way, dev, family), transfer(net, way, far), 2000000)
        net.tell("the path MTU learned by %s, IPv%d" % (sender, family), known_mtu(net, sender, far if sender == "c" else near), 1300)
    if dev == "wan":
        for family, near, far in rt.FAMILIES:
            out = net.run("c", ["tracepath", "-n", "-m", 5, far], check=False)
            net.tell("tracepath finds it, IPv%d" % family, re.findall(r"pmtu \d+ hops \d+|too many", out)[-1:], ["pmtu 1300 hops 2"])
    else:
        with net.bed.spawn("s", ["/usr/bin/python3", "-m", "http.server", "--bind", "::", "8080", "--directory", net.bed.dir], "http") as http:
            with open(os.path.join(net.bed.dir, "blob"), "wb") as f:
                f.write(os.urandom(3000000))
            for family, near, far in rt.FAMILIES:
                forget(net)
                host = far if family == 4 else "[%s]" % far
                out = w.wait_for(lambda: net.run("c", ["curl", "-s", "-g", "-m", "40", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                                                       "http://%s:8080/blob" % host], check=False).replace("000 0", ""))
                net.tell("curl, IPv%d" % family, out, "200 3000000")
    for family, near, far in rt.FAMILIES:
        forget(net)
        with net.bed.spawn("s", "iperf3 -s -1 --forceflush", "iperf3") as server:
            server.wait_for("Server listening")
            words = ["iperf3", "-c", far, "-n", "4M", "-J"] + (["-R"] if way == "download" else [])
            out = json.loads(net.run("c", words, check=False, timeout_s=40))
            net.tell("iperf3 %s, IPv%d" % (way, family), out.get("error") or out["end"]["sum_sent"]["bytes"] >= 4 << 20, True)


def pieces(frames, mark):
    """(offset, length, more) of the fragments that belong to a datagram, sorted."""
    got = []
    for f in frames:
        if f[12:14] == b"\x08\0" and f[23] == w.UDP and f[18:20] == mark and b"begin" not in f:
            frag = struct.unpack("!H", f[20:22])[0]
            got.append(((frag & 0x1FFF) * 8, struct.unpack("!H", f[16:18])[0] - 4 * (f[14] & 15), bool(frag & 0x2000), bool(frag & 0x4000), f[14] & 15))
    return sorted(set(got))


def udp_without_df(net):
    """The router makes fragments of what is too large and may be cut."""
    with narrowed(net, "wan"):
        forget(net)
        s = rt.udp_socket(net, "s", rt.S4)
        c = rt.udp_socket(net, "c", rt.C4)
        c.setsockopt(*MTU_DISCOVER[4], DONT)
        for size in (1272, 1273, 1400, 1472, 4000, 20000):
            got = None
            for _ in range(5):
                c.sendto(bytes(range(256)) * (size // 256) + bytes(size % 256), s.getsockname())
                try:
                    got = s.recvfrom(65536)
                    break
                except socket.timeout:
                    pass
            net.tell("%d bytes of UDP that may be cut" % size, got and (len(got[0]), got[0][:1000] == (bytes(range(256)) * 4)[:1000]), (size, True))
        s.close()
        c.close()
        # the fragments themselves
        data = bytes(1480)
        asks = {"a whole packet": dict(), "a first fragment": dict(frag=0x2000), "a middle one": dict(frag=0x2000 | 185), "a last one": dict(frag=370),
                "with options to copy": dict(options=b"\x94\4\0\0"), "with options not to copy": dict(options=b"\x44\x08\x05\0\0\0\0\0"), "with no operation": dict(options=b"\1" * 8)}
        for n, (name, kw) in enumerate(asks.items()):
            ident = 5000 + n
            length = 1480 - len(kw.get("options", b""))
            packet = w.ip4(rt.C4, rt.S4, w.UDP, w.udp(rt.C4, rt.S4, 1, 9, data[:length - 8]), ident=ident, **kw)
            p, frames = net.port("s0"), []
            if kw.get("frag", 0) & 0x1FFF:
                # the first one: without it Millrace would wait
                net.port("c0").send(net.frame(w.ip4(rt.C4, rt.S4, w.UDP, w.udp(rt.C4, rt.S4, 1, 9, b"begin" * 8), ident=ident, frag=0x2000)))
            for _ in range(4):
                net.port("c0").send(net.frame(packet))
                end = time.monotonic() + 1
                while time.monotonic() < end and len(pieces(frames, struct.pack("!H", ident))) < 2:
                    f = p.take()
                    if f:
                        frames.append(f)
                if frames:
                    break
            got = pieces(frames, struct.pack("!H", ident))
            net.tell("the pieces of " + name, got)
            net.tap.ok(len(got) == 2 and all(x[1] + 4 * x[4] <= 1300 for x in got), "%s: %s is two pieces that fit" % (net.half, name), got)


def too_big(net):
    """What may not be cut: the sender hears the MTU."""
    with narrowed(net, "wan"):
        for family, src, dst in rt.FAMILIES:
            forget(net)
            s, c = rt.udp_socket(net, "s", dst), rt.udp_socket(net, "c", src)
            c.setsockopt(*MTU_DISCOVER[family], DO)
            c.connect(s.getsockname()[:2])
            refused = None
            end = time.monotonic() + 15
            while time.monotonic() < end and refused is None:
                try:
                    c.send(bytes(1400))
                    time.sleep(0.05)
                except OSError as e:
                    refused = e.errno
            net.tell("UDP with DF, IPv%d: the sender is refused" % family, errno.errorcode.get(refused), "EMSGSIZE")
            net.tell("and knows why, IPv%d" % family, c.getsockopt(*MTU[family]), 1300)
            overhead = 28 if family == 4 else 48
            got = None
            for _ in range(5):
                s.settimeout(1)
                try:
                    c.send(b"y" * (1300 - overhead))
                    got = len(s.recv(65536))
                    break
                except OSError:
                    pass
            net.tell("what fits arrives, IPv%d" % family, got, 1300 - overhead)
            s.close()
            c.close()
            forget(net)
            s, c = rt.udp_socket(net, "s", dst), rt.udp_socket(net, "c", src)
            s.settimeout(0.5)
            got = None
            for _ in range(12):
                try:
                    c.sendto(b"z" * 1400, s.getsockname()[:2])
                    got = len(s.recv(65536))
                    break
                except OSError:
                    pass
            net.tell("UDP as sockets send it arrives after the first error, IPv%d" % family, got, 1400)
            s.close()
            c.close()
            v, box = ", IPv%d" % family, (rt.R4 if family == 4 else rt.R6)["lan"]
            error = "error %s mtu 1300 from %s to c" % ("3/4" if family == 4 else "2/0", box)
            df = dict(frag=0x4000) if family == 4 else {}
            fill = lambda n: bytes(n - overhead)  # noqa: E731
            net.fates([
                ("1301 bytes" + v, rt.datagram(src, dst, fill(1301), **df), error),
                ("1300 bytes" + v, rt.datagram(src, dst, fill(1300), **df), "to s"),
                ("1500 bytes, an echo" + v, lambda m: rt.ip(src, dst, w.ICMP if family == 4 else w.ICMP6, w.echo(
                    src, dst, 8 if family == 4 else 128, *struct.unpack("!HH", m), data=fill(1500)), **df), error),
                ("1500 bytes with TTL 1" + v, rt.datagram(src, dst, fill(1500), ttl=1, **df),
                 "error %s from %s to c" % ("11/0" if family == 4 else "3/0", box)),
            ])
            net.counted("too-big")
        # not limited by destination: a lost one stalls a connection
            p = net.port("c0")
            for n in range(40):
                p.send(net.frame(rt.ip(src, dst, w.UDP, w.udp(src, dst, 42000 + n, 9, fill(1400)), **df)))
            heard, end = set(), time.monotonic() + 10
            while len(heard) < 40 and time.monotonic() < end:
                f = p.take()
                e = rt.icmp_error(f) if f else None
                if e and e.mtu == 1300:
                    heard.add(e.quote[20:22] if family == 4 else e.quote[40:42])
            net.tell("40 senders at once, IPv%d: errors" % family, len(heard), 40)


def of_a_route(net):
    """The MTU of a route counts as that of a link."""
    for family, src, far in ((4, rt.C4, rt.ANY4), (6, rt.C6, rt.ANY6)):
        prefix, via = ("10.99.0.0/24", rt.S4) if family == 4 else ("fd00:99::/64", rt.S6)
        words = ["ip", "-%d" % family, "route"]
        box = (rt.R4 if family == 4 else rt.R6)["lan"]
        df = dict(frag=0x4000) if family == 4 else {}
        ask = [("1400 bytes where the route says 1350, IPv%d" % family, rt.datagram(src, far, bytes(1400 - 48), **df),
                "error %s mtu 1350 from %s to c" % ("3/4" if family == 4 else "2/0", box))]
        net.run("r", words + ["change", prefix, "via", via, "mtu", 1350])
        if family == 6:
            ask[0] = (ask[0][0], rt.datagram(src, far, bytes(1400 - 48)), ask[0][2])
        net.changed(ask)
        net.run("r", words + ["change", prefix, "via", via])
        net.changed([("and where it does not, IPv%d" % family, rt.datagram(src, far, bytes(1400 - 48), **df), "to s")])


def changing(net):
    """The MTU changes under flows that live."""
    c, s = rt.udp_socket(net, "c", rt.C4), rt.udp_socket(net, "s", rt.S4)
    c.setsockopt(*MTU_DISCOVER[4], 3)  # IP_PMTUDISC_PROBE: DF, and what was learned does not count
    c.connect(s.getsockname())
    s.settimeout(1)

    def crosses(size):
        for _ in range(5):
            try:
                c.send(bytes(size - 28))
                return len(s.recv(65536)) + 28
            except OSError:
                pass  # nothing came, or an error of before is told
        return None

    def answered(size):
        """The error's MTU."""
        p = net.port("c0")
        for _ in range(5):
            try:
                c.send(bytes(size - 28))
            except OSError:
                pass
            end = time.monotonic() + 1
            while time.monotonic() < end:
                f = p.take()
                e = rt.icmp_error(f) if f else None
                if e and e.mtu:
                    return e.mtu
        return None
    net.tell("a flow of 1400 bytes", crosses(1400), 1400)
    narrow(net, "wan", 1350)
    net.tell("hears when the link is made smaller", answered(1400), 1350)
    net.tell("and goes on with less", crosses(1350), 1350)
    narrow(net, "wan", 1500)
    net.tell("and with more when it is large again", crosses(1400), 1400)
    c.close()
    s.close()


def test(tap, bed):
    rt.both(tap, bed, (tcp, udp_without_df, too_big, of_a_route, changing),
            kernel_forwards=6)  # what has IPv4 options is the stack's: three packets, or twice as many


if __name__ == "__main__":
    w.sys.exit(rt.main(test, "rtmtu"))
