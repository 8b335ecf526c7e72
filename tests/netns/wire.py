# SPDX-License-Identifier: BSD-2-Clause
"""Frames made by hand, raw sockets on hosts' devices, and the sums that must close.

    client c0 ── lan [ appliance: millrace ] wan ── s0 server

What a host sends through a Port is on the wire byte for byte, and what arrives is compared byte for byte.  `account` waits until
nothing moves and checks every sum the program promises, against itself and against the kernel's own counters.
"""
import ctypes
import errno
import ipaddress
import json
import os
import socket
import struct
import sys  # noqa: F401
import threading
import time

from bed import Bed, Failed, Tap, build_dir, find_millrace, skip_all  # noqa: F401  what tests use comes from here

CLIENT_MAC, SERVER_MAC = "02:00:00:00:01:02", "02:00:00:00:02:02"
IP4, IP6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# ---- frames


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def address(text):
    return ipaddress.ip_address(text).packed


def eth(payload, kind=IP4, dst=SERVER_MAC, src=CLIENT_MAC, tags=()):
    """tags: outer first, each an id or (id, TPID)."""
    head = mac(dst) + mac(src)
    for t in tags:
        vid, tpid = t if isinstance(t, tuple) else (t, VLAN)
        head += struct.pack("!HH", tpid, vid)
    return head + struct.pack("!H", kind) + payload


def ip4(src, dst, proto, payload, ttl=64, tos=0, ident=0, frag=0, options=b"", total=None, vihl=None):
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", vihl if vihl is not None else 0x40 | words, tos, total if total is not None else 4 * words + len(payload),
                       ident, frag, ttl, proto, 0) + address(src) + address(dst) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(src, dst, proto, payload, hops=64, tclass=0, length=None):
    return struct.pack("!IHBB", 6 << 28 | tclass << 20, len(payload) if length is None else length, proto, hops) + address(src) + address(dst) + payload


def with_sum(src, dst, proto, segment, at):
    pseudo = address(src) + address(dst) + struct.pack("!II", len(segment), proto)
    value = checksum(pseudo + segment)
    if proto == UDP and not value:
        value = 0xFFFF
    return segment[:at] + struct.pack("!H", value) + segment[at + 2:]


def udp(src, dst, sport, dport, data=b"", length=None):
    return with_sum(src, dst, UDP, struct.pack("!HHHH", sport, dport, 8 + len(data) if length is None else length, 0) + data, 6)


def tcp(src, dst, sport, dport, flags=SYN, data=b"", seq=1, ack=0, offset=5):
    return with_sum(src, dst, TCP, struct.pack("!HHIIBBHHH", sport, dport, seq, ack, offset << 4, flags, 8192, 0, 0) + data, 16)


def echo(src, dst, kind=8, ident=1, seq=1, data=b"abcdefgh"):
    if ":" in src:
        return with_sum(src, dst, ICMP6, struct.pack("!BBHHH", kind, 0, 0, ident, seq) + data, 2)
    body = struct.pack("!BBHHH", kind, 0, 0, ident, seq) + data
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def packet(src, dst, proto, segment, tags=(), **ip):
    """A whole frame from client to server of either family."""
    v6 = ":" in src
    return eth((ip6 if v6 else ip4)(src, dst, proto, segment, **ip), IP6 if v6 else IP4, tags=tags)


def swapped(frame):
    return frame[6:12] + frame[0:6] + frame[12:]


# ---- sockets


def enter(bed, space, fn, *args, **kw):
    """Calls fn with this thread in that namespace."""
    with open("/proc/thread-self/ns/net") as home:
        bed.move_thread(space)
        try:
            return fn(*args, **kw)
        finally:
            if ctypes.CDLL(None, use_errno=True).setns(home.fileno(), 0x40000000):
                raise Failed("cannot come back from the namespace of " + space)


class Port:
    """A raw socket on a device; keeps what arrived, in order, tags where they were on the wire."""

    def __init__(self, bed, space, dev):
        self.sock = enter(bed, space, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.sock.setsockopt(263, 8, 1)  # PACKET_AUXDATA: the kernel takes the outer tag out of the frame
        enter(bed, space, self.sock.bind, (dev, 3))
        self.sock.settimeout(0.1)

    def send(self, frame):
        try:
            self.sock.send(frame)
        except OSError as e:
            if e.errno != errno.ENETDOWN:
                raise
            self.sock.send(frame)  # the first error told of the past

    def take(self):
        """The next frame that came in, or None when 0.1 s passed without one."""
        while True:
            try:
                data, extra, _, where = self.sock.recvmsg(65536, 512)
            except socket.timeout:
                return None
            except OSError as e:
                if e.errno == errno.ENETDOWN:  # told once when the device goes down
                    continue
                raise
            if where[2] == socket.PACKET_OUTGOING:
                continue
            for level, kind, aux in extra:
                if level == 263 and kind == 8:
                    status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", aux[:20])
                    if status & 0x10:  # TP_STATUS_VLAN_VALID
                        data = data[:12] + struct.pack("!HH", tpid if status & 0x40 else VLAN, tci) + data[12:]
            return data

    def take_cnt(self, cnt, timeout_s=20):
        """The next cnt frames, and what else came until nothing did: packets of different flows may pass each other."""
        frames, end = [], time.monotonic() + timeout_s
        while True:
            f = self.take()
            if f is not None:
                frames.append(f)
            elif len(frames) >= cnt or time.monotonic() > end:
                return frames

    def close(self):
        self.sock.close()


# ---- the bed


def quiet(bed, space):
    """Nothing of its own is sent from here."""
    bed.sysctl(space, "net/ipv6/conf/default/disable_ipv6", 1)
    bed.sysctl(space, "net/ipv6/conf/all/disable_ipv6", 1)


def wire(bed, hosts=False, queues=(1, 1), mtu=None):
    """Namespaces c, r, s and the two pairs.  With hosts: 10.9.0.1 and .2, fd00:9::1 and ::2 on one network, through the appliance."""
    for space in "crs":
        bed.ns(space)
        if not hosts or space == "r":
            quiet(bed, space)
    bed.veth("c", "c0", "r", "lan", a_mac=CLIENT_MAC, queues=queues[0], mtu=mtu)
    bed.veth("r", "wan", "s", "s0", b_mac=SERVER_MAC, queues=queues[1], mtu=mtu)
    for space, dev in (("c", "c0"), ("s", "s0")):
        bed.host(space, dev)
    for dev in ("lan", "wan"):
        bed.run("r", ["ethtool", "-K", dev, "gro", "off"])
    if hosts:
        for n, (space, dev) in enumerate((("c", "c0"), ("s", "s0")), 1):
            bed.run(space, "ip addr add 10.9.0.%d/24 dev %s" % (n, dev))
            bed.run(space, "ip addr add fd00:9::%d/64 dev %s nodad" % (n, dev))


PLAIN = """version: 1
%(top)s
memory: { huge_pages: never%(memory)s }
interfaces:
  lan: { device: lan, on_exit: pass%(interface)s }
  wan: { device: wan, on_exit: pass%(interface)s }
%(stages)s
pipelines:
  out: { from: [ lan ], match: all%(out)s, to: wan }
  in: { from: [ wan ], match: all%(into)s, to: lan }
"""


def plain(interface="", top="flows: { capacity: 4k }", memory="", stages="", out="", into=""):
    """A bump in the wire, with what a test wants added."""
    return PLAIN % dict(interface=interface, top=top, memory=memory, stages=stages, out=out, into=into)


# ---- sums


def show(bed, m, *words):
    """The data of a `show`."""
    return bed.ask(m, "show", *words)["data"]


def wrong_sums(d):
    """What does not add up in the summary, as sentences."""
    wrong = []

    def same(a, b, what):
        if a != b:
            wrong.append("%s: %s is not %s" % (what, a, b))

    def outcomes(o, what, held):
        same(sum(o["dropped"].values()), o["dropped_packets"], what + ": drops by reason")
        same(o["forwarded_packets"] + o["kernel_packets"] + o["dropped_packets"] + held, o["received_packets"], what + ": outcomes and received")

    t, f = d["totals"], d["frames"]
    same(t["unaccounted_packets"], 0, "unaccounted")
    outcomes(t, "totals", t["held_packets"])
    for i in d["interfaces"]:
        outcomes(i, "interface " + i["name"], 0)
    same(sum(i["received_packets"] for i in d["interfaces"]), t["received_packets"], "interfaces and totals")
    same(f["pool_cnt"] + f["fill_cnt"] + f["rx_cnt"] + f["tx_cnt"] + f["held_cnt"], f["total_cnt"], "frames in all places and in the pool")
    return wrong


def settle(bed, m, timeout_s=30):
    """The summary once nothing moves: equal twice, nothing held."""
    last, end = None, time.monotonic() + timeout_s
    while True:
        d = show(bed, m)
        t = d["totals"]
        now = json.dumps([t, d["frames"], [[i.get("steer"), i["tx_packets"], i["rx_packets"]] for i in d["interfaces"]]])
        waiting = sum(x["fragments_held_packets"] for x in d.get("workers", []))  # for a first one; then received by nobody yet
        if (now == last and not waiting and not wrong_sums(d)) or time.monotonic() > end:
            return d
        last = now
        time.sleep(0.15)


def account(tap, bed, m, name):
    """One case: every sum closes.  Returns the summary."""
    d = settle(bed, m)
    wrong = wrong_sums(d)
    tap.ok(not wrong, name + ": received = forwarded + kernel + drops, no frame is missing", "\n".join(wrong) or "")
    return d


def interface(d, name):
    return next(i for i in d["interfaces"] if i["name"] == name)


def drops(d):
    return d["totals"]["dropped"]


def wait_for(fn, timeout_s=20):
    """What fn returned as soon as that is true, or at last."""
    end = time.monotonic() + timeout_s
    while True:
        got = fn()
        if got or time.monotonic() > end:
            return got
        time.sleep(0.05)


def left_behind(bed, space, instance):
    """What a program that ended should have taken with it, as sentences."""
    left = []
    for d in json.loads(bed.run(space, "ip -j -d link show")):
        if "xdp" in d:
            left.append("an XDP program on " + d["ifname"])
        if d.get("linkinfo", {}).get("info_kind") == "tun":
            left.append("the TAP " + d["ifname"])
        if "clsact" in bed.run(space, "tc qdisc show dev " + d["ifname"]):
            left.append("a clsact on " + d["ifname"])
    if os.path.exists("/run/millrace/%s.sock" % instance):
        left.append("the socket of " + instance)
    for folder, _, names in os.walk("/sys/fs/bpf"):
        left += [p for p in (os.path.join(folder, n) for n in names) if instance in p]
    return left


class Stream:
    """Numbered datagrams of several flows at a bounded rate from a thread; says which arrived."""

    def __init__(self, tx, rx, pps=2000, flows=8, src="10.9.0.1", dst="10.9.0.2", port=7000):
        self.tx, self.rx, self.pps, self.flows, self.src, self.dst, self.port = tx, rx, pps, flows, src, dst, port
        self.sent, self.arrived, self.going = 0, set(), True
        self.others, self.behind = [], 0  # frames that are not ours; ours that a later one of the flow has passed
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.send, self.receive)]
        for t in self.threads:
            t.start()

    def send(self):
        start, base = time.monotonic(), self.sent
        while self.going:
            n = self.sent
            self.tx.send(packet(self.src, self.dst, UDP, udp(self.src, self.dst, self.port + n % self.flows, 9, b"stream" + struct.pack("!I", n))))
            self.sent = n + 1
            # behind after a pause of this process: not made up for, the rate is a bound
            ahead = start + (self.sent - base) / self.pps - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            elif ahead < -0.05:
                start, base = time.monotonic(), self.sent

    def receive(self):
        last = {}
        while True:
            f = self.rx.take()
            if f is None:
                if not self.going:
                    return
            elif f[-10:-4] == b"stream":
                n = struct.unpack("!I", f[-4:])[0]
                self.behind += n <= last.get(n % self.flows, -1)
                last[n % self.flows] = n
                self.arrived.add(n)
            else:
                self.others.append(f)

    def stop(self):
        """Ends the sending, waits until nothing arrives any more; returns the numbers that did not."""
        self.going = False
        for t in self.threads:
            t.join(60)
        return sorted(set(range(self.sent)) - self.arrived)


def build_dir_sanitized():
    """The program is built with a sanitizer, which takes address space and time of its own."""
    with open(find_millrace(), "rb") as f:
        text = f.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def main(fn, word, *args):
    """Runs fn(tap, bed) and says how it went, as scripts/test reads it."""
    if os.geteuid():
        skip_all("network namespaces need root")
    if not os.path.exists(find_millrace()):
        skip_all("no millrace program at " + find_millrace())
    tap = Tap()
    try:
        with Bed(word) as bed:
            try:
                fn(tap, bed, *args)
            except Failed as e:
                # a program that died has said why
                raise Failed("\n".join([str(e)] + ["%s: %s" % (c.name, c.text()[-3000:]) for c in bed.children if c.child.poll()])) from e
    except Failed as e:
        tap.ok(False, "the test went to its end", e)
    return tap.done()
