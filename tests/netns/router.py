# SPDX-License-Identifier: BSD-2-Clause
"""A router between three networks, once made by the kernel and once by Millrace: the same questions, the same answers.

            .2        .1 ┌───┐ .1        .2
    c ──────c0────lan─── │ r │ ───wan────s0────── s     10.1.0.0/24, fd00:1::/64 and 10.2.0.0/24, fd00:2::/64
                         │   │ ───wan2───t0────── t     10.3.0.0/24, fd00:3::/64
                         └───┘                          10.99.0.1, fd00:99::1 on the loopback of both s and t

A scenario is a function of a Net that asks and calls net.tell(question, answer).  `both` runs all scenarios of a file with the kernel
forwarding and then, on a new bed, with Millrace (`to: route`), and each answer must be the same.  Answers known beforehand are given as
`want`: they hold for both, so that a reference that does not work is noticed.  r forwards (ip_forward) in both halves: that the kernel's own
counter stands still while Millrace runs is checked at the end, together with the sums.

MR_HALVES=kernel (or millrace, or both in any order) runs one half alone.
"""
import json
import os
import re
import socket
import struct
import time
import traceback

import wire as w
from bed import Bed, Failed, Tap, find_millrace, skip_all

C4, S4, T4 = "10.1.0.2", "10.2.0.2", "10.3.0.2"
C6, S6, T6 = "fd00:1::2", "fd00:2::2", "fd00:3::2"
R4 = {"lan": "10.1.0.1", "wan": "10.2.0.1", "wan2": "10.3.0.1"}
R6 = {"lan": "fd00:1::1", "wan": "fd00:2::1", "wan2": "fd00:3::1"}
ANY4, ANY6 = "10.99.0.1", "fd00:99::1"
NETS = (("c", "c0", "lan", 1), ("s", "s0", "wan", 2), ("t", "t0", "wan2", 3))
MACS = {"c0": "02:00:00:00:01:02", "s0": "02:00:00:00:02:02", "t0": "02:00:00:00:03:02",
        "lan": "02:00:00:00:01:01", "wan": "02:00:00:00:02:01", "wan2": "02:00:00:00:03:01"}
FAMILIES = ((4, C4, S4), (6, C6, S6))

CONFIG = """version: 1
memory: { huge_pages: never }
flows: { capacity: 4k }
%(top)s
interfaces:
  lan: { device: lan }
  wan: { device: wan }
  wan2: { device: wan2 }
%(stages)s
pipelines:
  out: { from: [ lan ], match: all%(out)s, to: route }
  in: { from: [ wan, wan2 ], match: all%(into)s, to: route }
"""


def config(top="", stages="", out="", into=""):
    return CONFIG % dict(top=top, stages=stages, out=out, into=into)


def build(bed, mtu=None, queues=1):
    """The namespaces, addresses and routes.  mtu: of both ends of a network, by the name of its device in r."""
    for space in "crst":
        bed.ns(space)
    for n, (space, dev, ours, net) in enumerate(NETS):
        bed.veth(space, dev, "r", ours, a_mac=MACS[dev], b_mac=MACS[ours], mtu=(mtu or {}).get(ours), queues=queues)
        bed.host(space, dev)
        bed.run("r", ["ethtool", "-K", ours, "gro", "off"])
        for where, name, host in ((space, dev, 2), ("r", ours, 1)):
            bed.run(where, "ip addr add 10.%d.0.%d/24 brd + dev %s" % (net, host, name))
            bed.run(where, "ip addr add fd00:%d::%d/64 dev %s nodad" % (net, host, name))
        bed.run(space, "ip route add default via 10.%d.0.1" % net)
        bed.run(space, "ip route add default via fd00:%d::1 dev %s" % (net, dev))
        if space != "c":
            bed.run(space, "ip addr add %s/32 dev lo" % ANY4)
            bed.run(space, "ip addr add %s/128 dev lo nodad" % ANY6)
    for key, value in (("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1), ("ipv4/icmp_ratelimit", 0), ("ipv6/icmp/ratelimit", 0),
                       ("ipv4/icmp_msgs_per_sec", 100000), ("ipv4/icmp_msgs_burst", 10000), ("ipv4/icmp_echo_ignore_broadcasts", 0),
                       ("ipv4/conf/all/send_redirects", 0)):
        bed.sysctl("r", "net/" + key, value)
    for dev in MACS:
        space = "r" if dev in R4 else dev[0]
        # A neighbour is given up after three questions; asked every 0.2 s here, not every second.
        for key, value in (("ipv4/neigh/%s/retrans_time_ms", 200), ("ipv6/neigh/%s/retrans_time_ms", 200), ("ipv4/conf/%s/rp_filter", 0),
                           ("ipv4/conf/%s/send_redirects", 0), ("ipv4/neigh/%s/locktime", 0)):
            bed.sysctl(space, "net/" + key % dev, value)
    for space in "crst":
        bed.sysctl(space, "net/ipv4/conf/all/rp_filter", 0)
    bed.run("r", "ip route add 10.99.0.0/24 via %s" % S4)
    bed.run("r", "ip route add fd00:99::/64 via %s" % S6)


class Net:
    """One half: a bed with the router at work."""

    def __init__(self, tap, bed, half, options):
        self.tap, self.bed, self.half, self.queues = tap, bed, half, options.get("queues", 1)
        self.answers, self.m, self.ports, self.serial = {}, None, {}, 0
        build(bed, options.get("mtu"), options.get("queues", 1))
        if options.get("prepare"):
            options["prepare"](self)
        if half != "kernel":
            self.m = bed.millrace("r", bed.file("route.yaml", options.get("config") or config()))
        self.neighbours_known()
        if self.m:
            self.offered_before = self.offered_at_rest()
        self.forwarded_before = self.kernel_forwarded()

    # ---- telling

    def tell(self, question, answer, want=None):
        """An answer that must be the same in both halves; and `want`, where it is known beforehand."""
        self.answers[question] = answer
        if want is not None:
            self.tap.ok(answer == want, "%s: %s" % (self.half, question), "expected %s, got %s" % (want, answer))
        return answer

    # ---- asking

    def run(self, space, words, **kw):
        return self.bed.run(space, words, **kw)

    def kernel_forwarded(self):
        """Packets the kernel's own stack in r has forwarded, both families."""
        text = self.run("r", "cat /proc/net/snmp /proc/net/snmp6")
        names, values = [l.split()[1:] for l in text.splitlines() if l.startswith("Ip:")]
        six = re.search(r"^Ip6OutForwDatagrams\s+(\d+)", text, re.M)
        return int(dict(zip(names, values))["ForwDatagrams"]) + int(six.group(1))

    def offered(self):
        """(packets c has sent, packets the steering program has seen of them): their difference is from before it was attached."""
        lan = w.interface(w.show(self.bed, self.m), "lan")
        in_kernel = lan["received_packets"] - lan["rx_packets"]  # by the kernel tier
        return self.bed.counters("c", "c0")["tx_packets"], in_kernel + sum(v for k, v in lan["steer"].items() if k != "handed_back_packets")

    def offered_at_rest(self):
        """The same, when nothing was under way between the two."""
        last, end = None, time.monotonic() + 10
        while True:
            now = self.offered()
            if now == last or time.monotonic() > end:
                return now
            last = now
            time.sleep(0.2)

    def port(self, dev):
        """A raw socket on a host's device, kept; what arrived before is forgotten."""
        if dev not in self.ports:
            self.ports[dev] = w.Port(self.bed, dev[0], dev)
        p = self.ports[dev]
        p.sock.settimeout(0)
        while True:
            try:
                p.sock.recv(65536)
            except OSError:
                break
        p.sock.settimeout(0.02)
        return p

    def number(self):
        """One nobody else has: a port, an identification."""
        self.serial += 1
        return 20000 + self.serial

    def frame(self, ip, dev="c0"):
        """An IP packet from a host to the router."""
        return w.eth(ip, w.IP6 if ip[0] >> 4 == 6 else w.IP4, dst=MACS[{"c0": "lan", "s0": "wan", "t0": "wan2"}[dev]], src=MACS[dev])

    def fate(self, make, dev="c0", want=None, frame=None):
        """What becomes of one packet; see fates()."""
        return self.fates([("it", make, want, frame)], dev, tell=False)["it"]

    def eventually(self, make, want, timeout_s=15):
        """The fate of packets until it is `want`, or at last."""
        end = time.monotonic() + timeout_s
        while True:
            got = self.fate(make, want=want)
            if got == want or time.monotonic() > end:
                return got
            time.sleep(0.2)

    def changed(self, asks):
        """fates() after something was changed in r: a change is in force within milliseconds, not at once.  What is answered as before is
        asked again, for as long as a machine may be busy with other things."""
        found, end = {}, time.monotonic() + 10
        left = [tuple(a) for a in asks]
        while left:
            found.update(self.fates(left, tell=False))
            left = [a for a in left if found[a[0]] != a[2] and time.monotonic() < end]
            if left:
                time.sleep(0.1)
        for a in asks:
            self.tell(a[0], found[a[0]], a[2])

    def fates(self, asks, dev="c0", tell=True):
        """What becomes of packets sent by a host: 'to s', an error in words, or 'silence', each told under its question.

        asks: (question, make[, want[, frame]]), all sent at once.  make(mark): the IP packet, with a mark of four bytes in what every error
        quotes (ports, or identifier and number of an echo); frame(ip): when it is not a plain one to the router.
        What was not heard of is sent again: of what must be silent, only once more.
        """
        asks = [tuple(a) + (None,) * (4 - len(a)) for a in asks]
        watched = {d: self.port(d) for d in ("c0", "s0", "t0")}
        open_, found = {a[0]: a for a in asks}, {}
        for turn in range(6):
            marks = {}
            for question, make, want, frame in list(open_.values()):
                if turn >= {None: 3, "silence": 2}.get(want, 6):
                    del open_[question]
                    continue
                n = self.number()
                marks[question] = struct.pack("!HH", n, n ^ 0x5555)
                ip = make(marks[question])
                watched[dev].send(frame(ip) if frame else self.frame(ip, dev))
            if not open_:
                break
            # what is known to be coming may take its time, on a slow machine too; the rest is listened for that long once the known has come
            began, heard, frames = time.monotonic(), 0, {d: [] for d in watched}
            while open_:
                known = any(a[2] not in (None, "silence") for a in open_.values())
                if time.monotonic() > (began + 1.5 if known else max(began + 0.4, heard + 0.2)):
                    break
                for d, p in watched.items():
                    f = p.take()
                    while f is not None:
                        frames[d].append(f)
                        f = p.take()
                for question in list(open_):
                    # c last: what was answered at s or t has arrived there before, and that is what counts
                    seen = next((x for x in (self.look(frames[d], marks[question], d) for d in ("s0", "t0", "c0")) if x), None)
                    if seen:
                        found[question], heard = seen, time.monotonic()
                        del open_[question]
        for question, _, want, _ in asks:
            found.setdefault(question, "silence")
            if tell:
                self.tell(question, found[question], want)
        return found

    @staticmethod
    def look(frames, mark, dev):
        """The frame that bears the mark, in words."""
        for f in frames:
            if mark in f:
                e = icmp_error(f)
                return "error %s to %s" % (e.words, dev[0]) if e else "to " + dev[0]
        return None

    def ping(self, space, *words):
        """(sent, received) of ping; by 30 ms."""
        out = self.run(space, ["ping", "-n", "-i", "0.03", "-W", "5", *words], check=False, timeout_s=60)
        m = re.search(r"(\d+) packets transmitted, (\d+) received", out)
        return (int(m.group(1)), int(m.group(2))) if m else out

    def counted(self, *reasons):
        """Millrace has dropped for these reasons, by name."""
        if self.m:
            def missing():
                d = w.drops(w.show(self.bed, self.m))
                return [r for r in reasons if not d.get(r)]
            w.wait_for(lambda: not missing(), 3)
            self.tap.same(missing(), [], "%s: drops are counted: %s" % (self.half, ", ".join(reasons)))

    def neighbours_known(self):
        """The router knows its hosts."""
        for address in (C4, S4, T4, C6, S6, T6):
            self.ping("r", "-c", 1, address)

    def neighbours_forgotten(self, space="r"):
        self.run(space, "ip neigh flush all", check=False)

    # ---- the end

    def finish(self):
        grown = self.kernel_forwarded() - self.forwarded_before
        for p in self.ports.values():
            p.close()
        if self.m:
            w.account(self.tap, self.bed, self.m, self.half + ": all of it")

            def same():
                (c, r), (c0, r0) = self.offered(), self.offered_before
                return c - c0 == r - r0
            self.tap.ok(w.wait_for(same), self.half + ": what c has sent is what the steering program has counted", "%s, then %s" % (self.offered_before, self.offered()))
        return grown


class Error:
    """An ICMP or ICMPv6 error, read from a frame."""

    def __init__(self, src, dst, kind, code, mtu, quote, ttl, bytes_):
        self.src, self.dst, self.kind, self.code, self.mtu, self.quote, self.ttl, self.bytes = src, dst, kind, code, mtu, quote, ttl, bytes_

    @property
    def words(self):
        return "%d/%d%s from %s" % (self.kind, self.code, " mtu %d" % self.mtu if self.mtu else "", self.src)


def icmp_error(f):
    """The error in a frame whose checksums are right; None: it is none."""
    if f[12:14] == b"\x08\x00" and f[23] == w.ICMP:
        head = 14 + 4 * (f[14] & 15)
        body = f[head:14 + struct.unpack("!H", f[16:18])[0]]
        if body[0] not in (3, 4, 5, 11, 12) or w.checksum(f[14:head]) or w.checksum(body):
            return None
        return Error(text(f[26:30]), text(f[30:34]), body[0], body[1], struct.unpack("!H", body[6:8])[0] if body[:2] == b"\3\4" else 0,
                     body[8:], f[22], len(body) + head - 14)
    if f[12:14] == b"\x86\xdd" and f[20] == w.ICMP6 and f[54] < 128:
        body = f[54:54 + struct.unpack("!H", f[18:20])[0]]
        if w.checksum(f[22:54] + struct.pack("!II", len(body), w.ICMP6) + body):
            return None
        return Error(text(f[22:38]), text(f[38:54]), body[0], body[1], struct.unpack("!I", body[4:8])[0] if body[0] == 2 else 0,
                     body[8:], f[21], len(body) + 40)
    return None


def text(packed):
    return str(w.ipaddress.ip_address(packed))


def ip(src, dst, proto, segment, **kw):
    """An IP packet of either family; ttl means hop limit too."""
    if ":" in src:
        if "ttl" in kw:
            kw["hops"] = kw.pop("ttl")
        return w.ip6(src, dst, proto, segment, **kw)
    return w.ip4(src, dst, proto, segment, **kw)


def datagram(src, dst, data=b"", **kw):
    """make() for Net.fate: UDP, the mark as ports."""
    def make(mark):
        return ip(src, dst, w.UDP, w.udp(src, dst, *struct.unpack("!HH", mark), data), **kw)
    return make


def ping_packet(src, dst, **kw):
    def make(mark):
        proto = w.ICMP6 if ":" in src else w.ICMP
        return ip(src, dst, proto, w.echo(src, dst, 128 if ":" in src else 8, *struct.unpack("!HH", mark)), **kw)
    return make


def udp_socket(net, space, address, port=0, **options):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = w.enter(net.bed, space, socket.socket, family, socket.SOCK_DGRAM)
    s.bind((address, port))
    s.settimeout(5)
    return s


def halves():
    return os.environ.get("MR_HALVES", "kernel,millrace").split(",")


def one_half(tap, bed, half, scenarios, options):
    """All scenarios in one half; returns the answers."""
    net = Net(tap, bed, half, options)
    for s in scenarios:
        began, forwarded = time.monotonic(), net.kernel_forwarded()
        try:
            s(net)
        except (Failed, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as e:
            tap.ok(False, "%s: %s goes to its end" % (half, s.__name__), "".join(traceback.format_exception(e)))
        if os.environ.get("MR_TIMES"):
            print("# %s: %s took %.1f s, the kernel forwarded %d" % (half, s.__name__, time.monotonic() - began, net.kernel_forwarded() - forwarded), flush=True)
        if net.m and net.m.child.poll() is not None:
            raise Failed("millrace ended with %d during %s:\n%s" % (net.m.child.returncode, s.__name__, net.m.text()[-3000:]))
    grown = net.finish()
    if half == "kernel":
        tap.ok(grown > 0, "kernel: it was the kernel that forwarded")
    else:
        expected = options.get("kernel_forwards", 0)
        tap.ok(grown == 0 if not expected else grown <= expected, half + ": the kernel forwarded nothing of it", "%d packets" % grown)
        tap.same(net.m.stop(), 0, half + ": ends with 0")
        for reason in w.left_behind(bed, "r", net.m.instance):
            tap.ok(False, half + ": nothing is left behind", reason)
    bed.clear()
    return net.answers


TWO_WORKERS = dict(queues=2, config=config(top="workers: { cores: 0-1 }"))


def both(tap, bed, scenarios, differ=None, variants=None, **options):
    """Each half on a bed of its own, then the comparison.

    differ: questions whose answers are right and not the kernel's (docs/routing.md says why).
    variants: options of further runs of Millrace, by name.
    """
    wanted, differ = halves(), differ or {}
    answers = {}
    for half in ["kernel", "millrace"] + list(variants or {}):
        if half in wanted or "millrace" in wanted and half in (variants or {}):
            answers[half] = one_half(tap, bed, half, scenarios, dict(options, **(variants or {}).get(half, {})))
    if "kernel" not in answers or len(answers) < 2:
        for half in answers:
            for q, a in answers[half].items():
                print("# %s: %s: %s" % (half, q, a))
        return
    reference = answers.pop("kernel")
    for half, got_all in answers.items():
        for q, want in reference.items():
            got = got_all.get(q, "not asked")
            if q in differ:
                tap.ok(got == differ[q], "%s: not as the kernel, as docs/routing.md says: %s" % (half, q),
                       "expected %s, got %s; kernel: %s" % (differ[q], got, want))
            else:
                tap.ok(got == want, "%s: as the kernel: %s" % (half, q), "kernel: %s\n%s: %s" % (want, half, got))


def main(fn, word):
    return w.main(fn, word)
