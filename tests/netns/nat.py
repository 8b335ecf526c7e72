# SPDX-License-Identifier: BSD-2-Clause
"""A NAT between two inside and two outside networks, as the tests of nat44 use it.

    a ──a0──lan  ┌───┐ wan ──s0── s     inside 100.64.0.0/24 (a: .2 to .9) and 100.64.1.0/24 (b: .2)
    b ──b0──lan2 │ r │ wan2──t0── t     outside 198.51.100.0/24 (s: .2, .3) and 192.0.2.0/24 (t: .2)
                 └───┘                  translated to addresses of 203.0.113.0/24, which s and t route to r

Nobody outside has a route to an inside address, and a Watch listens on s0 and t0 all the time: one packet with an inside address as its source, or
inside the packet an ICMP error quotes, fails the test.  Sockets of every host are opened by this one process, so that a case is a few lines.
"""
import contextlib
import errno
import os
import re
import socket
import struct
import threading
import time

import wire as w
from bed import Failed, find_millrace  # noqa: F401

A, A2, A3, B = "100.64.0.2", "100.64.0.3", "100.64.0.4", "100.64.1.2"
S, S2, T = "198.51.100.2", "198.51.100.3", "192.0.2.2"
BOX = {"lan": "100.64.0.1", "lan2": "100.64.1.1", "wan": "198.51.100.1", "wan2": "192.0.2.1"}
OUT = "203.0.113.%d"
POOL = "203.0.113.64/30"
NETS = (("a", "a0", "lan", 1, A), ("b", "b0", "lan2", 2, B), ("s", "s0", "wan", 3, S), ("t", "t0", "wan2", 4, T))
MACS = {dev: "02:00:00:00:%02x:02" % n for _, dev, _, n, _ in NETS}
MACS.update({ours: "02:00:00:00:%02x:01" % n for _, _, ours, n, _ in NETS})
PEER = {dev: ours for _, dev, ours, _, _ in NETS}

CONFIG = """version: 1
memory: { huge_pages: never }
%(top)s
flows: { capacity: %(capacity)s, offload: %(mode)s%(flows)s }
interfaces:
  lan: { device: lan }
  lan2: { device: lan2 }
  wan: { device: wan }
  wan2: { device: wan2 }
stages:
  cgn:
    type: nat44
    inside: [ 100.64.0.0/10 ]
%(options)s
%(stages)s
pipelines:
  out: { from: [ lan, lan2 ], match: [ { src: 100.64.0.0/10 } ], except: [ { dst: 100.64.0.1 }, { dst: 100.64.1.1 } ], stages: [ %(before)scgn ], to: route }
  in: { from: [ wan, wan2 ], match: auto, stages: [ cgn ], to: route }
"""


def modes(*default):
    """Which `offload` a test runs with: all it names, or the one of MR_OFFLOAD.  With MR_ONCE (sanitizers, which see nothing of XDP) the first."""
    default = default or ("never", "established")
    return (os.environ["MR_OFFLOAD"],) if os.environ.get("MR_OFFLOAD") else default[:1] if os.environ.get("MR_ONCE") else default


def config(options="", mode="established", outside=POOL, top="", capacity="16k", flows="", stages="", before=""):
    """options: lines `key: value`; outside: None when an option says it."""
    lines = ([] if outside is None else ["outside: [ %s ]" % outside]) + [l.strip() for l in options.strip().splitlines() if l.strip()]
    return CONFIG % dict(options="\n".join("    " + l for l in lines), mode=mode, top=top, capacity=capacity, flows=flows, stages=stages, before=before)


def build(bed, mtu=None, queues=1):
    """The namespaces.  Neighbours are written down, so that nothing is on the wires that a test did not send; mtu: by device in r."""
    for space in "abrst":
        bed.ns(space)
        bed.sysctl(space, "net/ipv6/conf/default/disable_ipv6", 1)
        bed.sysctl(space, "net/ipv6/conf/all/disable_ipv6", 1)
    for space, dev, ours, _, host in NETS:
        bed.veth(space, dev, "r", ours, a_mac=MACS[dev], b_mac=MACS[ours], mtu=(mtu or {}).get(ours), queues=queues)
        bed.host(space, dev)
        bed.accept_redirects(space, dev)
        bed.run(space, ["ip", "link", "set", dev, "gro_max_size", 1])
        bed.run("r", ["ethtool", "-K", ours, "gro", "off"])
        bed.run("r", "ip addr add %s/24 dev %s" % (BOX[ours], ours))
        bed.run(space, "ip addr add %s/24 dev %s" % (host, dev))
        for n in range(3, 10) if space == "a" else (3,) if space == "s" else ():
            bed.run(space, "ip addr add %s.%d/24 dev %s" % (host.rsplit(".", 1)[0], n, dev))
        others = ["%s.%d" % (host.rsplit(".", 1)[0], n) for n in range(2, 10)]
        for address in others:
            bed.run("r", "ip neigh replace %s lladdr %s dev %s nud permanent" % (address, MACS[dev], ours))
        bed.run(space, "ip neigh replace %s lladdr %s dev %s nud permanent" % (BOX[ours], MACS[ours], dev))
    for space, ours in (("a", "lan"), ("b", "lan2")):
        bed.run(space, "ip route add default via " + BOX[ours])
    for space, ours in (("s", "wan"), ("t", "wan2")):
        bed.run(space, "ip route add 203.0.113.0/24 via " + BOX[ours])
    bed.run("s", "ip route add 192.0.2.0/24 via " + BOX["wan"])
    bed.run("t", "ip route add 198.51.100.0/24 via " + BOX["wan2"])
    for key, value in (("ip_forward", 1), ("icmp_ratelimit", 0), ("icmp_msgs_per_sec", 100000), ("icmp_msgs_burst", 10000), ("conf/all/send_redirects", 0)):
        bed.sysctl("r", "net/ipv4/" + key, value)
    for space in "abrst":
        bed.sysctl(space, "net/ipv4/icmp_ratelimit", 0)
        bed.sysctl(space, "net/ipv4/conf/all/rp_filter", 0)
        for dev in [d for _, dev, ours, _, _ in NETS for d in (dev, ours)]:
            if os.path.exists("/proc/sys/net") and dev in bed.run(space, "ls /proc/sys/net/ipv4/conf"):
                bed.sysctl(space, "net/ipv4/conf/%s/rp_filter" % dev, 0)
                bed.sysctl(space, "net/ipv4/conf/%s/send_redirects" % dev, 0)


# ---- who must not be seen outside


def inside(packed):
    return packed[0] == 100 and packed[1] & 0xC0 == 64


class Watch:
    """Every packet that arrives at an outside host and has an inside source, or is an ICMP error that quotes one as it must not."""

    # IPv4 with a source in 100.64.0.0/10, or ICMP
    FILTER = ((0x28, 0, 0, 12), (0x15, 0, 6, 0x0800), (0x20, 0, 0, 26), (0x54, 0, 0, 0xFFC00000), (0x15, 2, 0, 0x64400000), (0x30, 0, 0, 23), (0x15, 0, 1, 1),
              (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0))

    def __init__(self, bed):
        self.bed, self.leaks, self.going, self.allowed = bed, [], True, []
        program = b"".join(struct.pack("HBBI", *i) for i in self.FILTER)
        self.keep = __import__("ctypes").create_string_buffer(program, len(program))
        self.socks = []
        for space, dev in (("s", "s0"), ("t", "t0")):
            s = w.enter(bed, space, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(self.FILTER), __import__("ctypes").addressof(self.keep)))
            w.enter(bed, space, s.bind, (dev, 3))
            s.settimeout(0.1)
            self.socks.append((space, s))
        self.threads = [threading.Thread(target=self.listen, args=x, daemon=True) for x in self.socks]
        for t in self.threads:
            t.start()

    def listen(self, space, sock):
        while self.going:
            try:
                f, where = sock.recvfrom(2048)
            except socket.timeout:
                continue
            except OSError:
                return
            if where[2] == socket.PACKET_OUTGOING or f[12:14] != b"\x08\0":
                continue
            why = self.leak(f)
            if why:
                self.leaks.append("at %s: %s: %s" % (space, why, f.hex()))

    def leak(self, f):
        if inside(f[26:30]):
            return None if (w.socket.inet_ntoa(f[26:30]), w.socket.inet_ntoa(f[30:34])) in self.allowed else "an inside source"
        head = 14 + 4 * (f[14] & 15)
        if f[23] == w.ICMP and not (f[20] & 0x1F or f[21]) and f[head] in (3, 4, 5, 11, 12):
            quoted = f[head + 8:]
            if len(quoted) >= 20 and (inside(quoted[12:16]) or inside(quoted[16:20])):
                return "an ICMP error that quotes an inside address"
        return None

    def prove(self, tap):
        """It sees a packet of the kind it is for."""
        raw = w.Port(self.bed, "r", "wan")
        raw.send(w.eth(w.ip4(A, S, w.UDP, w.udp(A, S, 1, 1)), dst=MACS["s0"], src=MACS["wan"]))
        seen = w.wait_for(lambda: self.leaks, 5)
        raw.close()
        tap.ok(seen, "the watcher sees a packet with an inside source")
        self.leaks = []

    def told(self, tap, name):
        tap.same(self.leaks[:3], [], name + ": no packet with an inside address was seen outside")
        self.leaks = []

    def close(self):
        self.going = False
        for t in self.threads:
            t.join(2)
        for _, s in self.socks:
            s.close()


# ---- sockets


def udp(bed, space, address, port=0, timeout_s=3):
    s = w.enter(bed, space, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.settimeout(timeout_s)
    return s


def listen(bed, space, address, port=0):
    s = w.enter(bed, space, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(128)
    s.settimeout(5)
    return s


def tcp(bed, space, address, port=0, timeout_s=5):
    """Not connected yet."""
    s = w.enter(bed, space, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.settimeout(timeout_s)
    return s


def hear(sock, timeout_s=3.0):
    """(data, who) or None."""
    sock.settimeout(timeout_s)
    try:
        return sock.recvfrom(65536)
    except (socket.timeout, ConnectionError):
        return None
    except OSError as e:
        if e.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return None
        raise


def send(sock, data, where):
    """An ICMP error about a packet before is told by the next call: of no interest here."""
    for _ in range(4):
        try:
            return sock.sendto(data, where)
        except (ConnectionError, OSError) as e:
            if getattr(e, "errno", 0) not in (errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EACCES):
                raise


@contextlib.contextmanager
def deaf(bed, spaces="abst"):
    """The stacks of these hosts hear nothing, so that they answer nothing; raw sockets hear all."""
    for space in spaces:
        bed.run(space, ["nft", "add table ip deaf; add chain ip deaf in { type filter hook prerouting priority -500; policy drop; }"])
    try:
        yield
    finally:
        for space in spaces:
            bed.run(space, "nft delete table ip deaf")


def with_deaf(case):
    """A case of frames alone."""
    def run(tap, bed, watch, mode):
        with deaf(bed):
            case(tap, bed, watch, mode)
    run.__name__ = case.__name__
    return run


class Nat:
    """The program with nat44 in r, and what tests ask of it."""

    serial = 0

    def __init__(self, tap, bed, watch, options="", name="", wrap=(), text=None, **kw):
        self.tap, self.bed, self.watch, self.name, self.ports, self.socks = tap, bed, watch, name, {}, []
        Nat.serial += 1
        self.file = bed.file("nat%d.yaml" % Nat.serial, text or config(options, **kw))
        self.m = bed.millrace("r", self.file, wrap=wrap)

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        if kind and self.m.child.poll() is not None:
            raise Failed("%s: millrace ended with %s:\n%s" % (self.name, self.m.child.returncode, self.m.text()[-4000:]))
        self.close(quiet=kind is not None)

    def close(self, quiet=False):
        for s in self.socks + list(self.ports.values()):
            s.close()
        self.ports, self.socks = {}, []
        if self.m.child.poll() is None:
            if not quiet:
                w.account(self.tap, self.bed, self.m, self.name)
            self.tap.same(self.m.stop(), 0, self.name + ": ends with 0")
        self.watch.told(self.tap, self.name)

    def ok(self, good, what, detail=""):
        return self.tap.ok(good, self.name + ": " + what, detail)

    def same(self, got, want, what):
        return self.tap.same(got, want, self.name + ": " + what)

    def reload(self, options="", text=None, check=True, **kw):
        with open(self.file, "w") as f:
            f.write(text or config(options, **kw))
        return self.bed.run("r", [find_millrace(), "--name", self.m.instance, "reload"], check=check)

    # ---- sockets that end with it

    def udp(self, space, address, port=0):
        return self.keep(udp(self.bed, space, address, port))

    def listen(self, space, address, port=0):
        return self.keep(listen(self.bed, space, address, port))

    def tcp(self, space, address, port=0):
        return self.keep(tcp(self.bed, space, address, port))

    def keep(self, sock):
        self.socks.append(sock)
        return sock

    def mapped(self, from_, to, data=b"map", wait_s=2.0):
        """Where `to` sees what `from_` sends it; None: nowhere."""
        for _ in range(2):
            send(from_, data, to.getsockname())
            got = hear(to, wait_s)
            if got:
                return got[1]
        return None

    def reaches(self, from_, where, to, wait_s=2.0):
        """Whom `to` sees when from_ sends to `where`; None when nothing arrives."""
        Nat.serial += 1
        mark = b"reach%08d" % Nat.serial
        end = time.monotonic() + wait_s
        send(from_, mark, where)
        while time.monotonic() < end:
            got = hear(to, max(0.01, end - time.monotonic()))
            if got and got[0] == mark:
                return got[1]
        return None

    def connects(self, sock, where, listener):
        """(connection of the listener, whom it sees), or None."""
        try:
            sock.connect(where)
            listener.settimeout(3)
            conn, who = listener.accept()
        except OSError:
            return None
        conn.settimeout(5)
        return self.keep(conn), who

    # ---- frames

    def port(self, dev):
        """A raw socket on a host's device; what arrived before is forgotten."""
        if dev not in self.ports:
            self.ports[dev] = w.Port(self.bed, dev[0], dev)
        p = self.ports[dev]
        p.sock.settimeout(0)
        with contextlib.suppress(OSError):
            while True:
                p.sock.recv(65536)
        p.sock.settimeout(0.05)
        return p

    def frame(self, ip, dev):
        return w.eth(ip, dst=MACS[PEER[dev]], src=MACS[dev])

    def send(self, ip, dev):
        if dev not in self.ports:
            self.port(dev)
        self.ports[dev].send(self.frame(ip, dev))

    def catch(self, dev, wanted, timeout_s=3.0):
        """The first IP packet there of which that is true, without the Ethernet header and padding."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            f = self.ports[dev].take()
            if f is not None and f[12:14] == b"\x08\0":
                ip = f[14:14 + struct.unpack("!H", f[16:18])[0]]
                if wanted(ip):
                    return ip
        return None

    def over(self, ip, dev, to, wanted, timeout_s=3.0):
        """What arrives at `to` when a host sends this packet."""
        self.port(to)
        self.send(ip, dev)
        return self.catch(to, wanted, timeout_s)

    def silent(self, ip, dev, to, wanted, name, reason=None):
        """It goes nowhere, and is counted under its reason."""
        before = self.drops().get(reason, 0)
        got = self.over(ip, dev, to, wanted, 0.4)
        if reason:
            w.wait_for(lambda: self.drops().get(reason, 0) > before, 3)
        counted = self.drops().get(reason, 0) - before if reason else 1
        return self.ok(got is None and counted >= 1, name, "arrived: %s; counted as %s: %s; all: %s" % (got and got.hex(), reason, counted, self.drops()))

    def outside_of(self, space_dev, src, sport, dst, dport, proto=w.UDP, data=b"open", to="s0"):
        """Opens a session by one packet and says its outside address and port."""
        kind = {w.UDP: w.udp, w.TCP: w.tcp}[proto]
        body = kind(src, dst, sport, dport, data=data) if proto == w.UDP else kind(src, dst, sport, dport)
        got = self.over(w.ip4(src, dst, proto, body), space_dev, to, lambda p: p[9] == proto and p[16:20] == w.address(dst) and p[22:24] == struct.pack("!H", dport))
        return (w.socket.inet_ntoa(got[12:16]), struct.unpack("!H", got[20:22])[0]) if got else None

    # ---- asking

    def show(self, *words):
        return w.show(self.bed, self.m, *words)

    def drops(self):
        return w.drops(self.show())

    def nat(self, *words):
        return self.show("nat", *words)["stages"][0]

    def flows(self, *filters):
        return self.show("flows", *filters)["flows"]

    def dropped(self, reason, least=1, what=None):
        """Counted under that name."""
        got = w.wait_for(lambda: self.drops().get(reason, 0) >= least, 3)
        return self.ok(got, what or "dropped as " + reason, self.drops())

    def offloaded(self, turn, what, cnt=2, *filters):
        """Takes turns until that many directions of the flows that match are carried out in the kernel."""
        def over():
            turn()
            return sum(bool(f[way] and f[way]["offloaded"]) for f in self.flows(*filters) for way in ("forward", "reply")) >= cnt
        return self.ok(w.wait_for(over, 10), what + " is in the kernel tier", self.flows(*filters))


def each(tap, bed, runs, word_modes, **bed_options):
    """Builds the bed and runs every case on it."""
    build(bed, **bed_options)
    cases(tap, bed, runs, word_modes)


def cases(tap, bed, runs, word_modes):
    """Runs every case for every mode, with somebody watching.  A case: a function of (tap, bed, watch, mode)."""
    watch = Watch(bed)
    watch.prove(tap)
    only = os.environ.get("MR_CASES")
    for mode in word_modes:
        for case in runs:
            if only and not re.search(only, case.__name__):
                continue
            began = time.monotonic()
            try:
                case(tap, bed, watch, mode)
            except (Failed, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, struct.error) as e:
                import traceback
                tap.ok(False, "%s (%s) goes to its end" % (case.__name__, mode), "".join(traceback.format_exception(e)))
            if os.environ.get("MR_TIMES"):
                print("# %s (%s) took %.1f s" % (case.__name__, mode, time.monotonic() - began), flush=True)
    watch.close()
