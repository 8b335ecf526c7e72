# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of the kernel tier have in common: hosts that take redirected frames, and telling which tier a packet met.

    c ──c0──lan [ r: millrace ] wan──s0── s

MR_OFFLOAD=never (or established, always) says what the configurations ask for; without it each test asks for what it is about.  With
`never` every test must pass as well, except that nothing may be offloaded: so a test that finds a fault finds it in the kernel tier.
"""
import contextlib
import json
import os
import socket
import threading

import router as rt
import wire as w

MODE = os.environ.get("MR_OFFLOAD", "established")
C4, S4, C6, S6 = "10.9.0.1", "10.9.0.2", "fd00:9::1", "fd00:9::2"
FAMILIES = ((4, C4, S4), (6, C6, S6))
HERE = os.path.dirname(os.path.abspath(__file__))


def never():
    return MODE == "never"


def wanted(word):
    """What a configuration asks for."""
    return "never" if never() else word


def flows(capacity="4k", offload=None, more="", after=None):
    """The `flows` of a configuration."""
    if after is not None and not never():
        more = ", offload_after: %d%s" % (after, more)
    return "flows: { capacity: %s, offload: %s%s }" % (capacity, wanted(offload or MODE), more)


def route_config(more=None, **kw):
    """router.config() with these flows, and interfaces that are open when the program has ended."""
    text = rt.config(**kw).replace("flows: { capacity: 4k }", more or flows())
    for dev in rt.R4:
        text = text.replace("device: %s }" % dev, "device: %s, on_exit: pass }" % dev)
    return text


# ---- the bed


def targets(bed, pairs=(("c", "c0"), ("s", "s0"))):
    """Hosts' devices take redirected frames, and never merge what they receive: counters in the hosts count frames."""
    for space, dev in pairs:
        bed.accept_redirects(space, dev)
        bed.run(space, ["ip", "link", "set", dev, "gro_max_size", 1])


def wire(bed, **kw):
    w.wire(bed, **kw)
    targets(bed)


def fixed_neighbours(bed):
    """In the bed of router.py: nobody asks for a neighbour any more, so that counts are exact."""
    for space, dev, ours, net in rt.NETS:
        for where, name, other, host in ((space, dev, ours, 1), ("r", ours, dev, 2)):
            for address in ("10.%d.0.%d", "fd00:%d::%d"):
                bed.run(where, "ip neigh replace %s lladdr %s dev %s nud permanent" % (address % (net, host), rt.MACS[other], name))


def spaces_of(bed):
    return [s[len(bed.prefix) + 1:] for s in bed.spaces]


# ---- which tier


def up(d, name=None):
    """Packets that came up through sockets, of one interface or all."""
    return sum(i["rx_packets"] for i in d["interfaces"] if name in (None, i["name"]))


def received(d, name=None):
    return sum(i["received_packets"] for i in d["interfaces"] if name in (None, i["name"]))


def sides(bed, m, *filters):
    """Directions of the flows that match, each with its own facts; those not seen yet are left out."""
    found = w.show(bed, m, "flows", *filters)["flows"]
    return [f[way] for f in found for way in ("forward", "reply") if f[way]]


def goes_over(tap, bed, m, turn, name, *filters, cnt=None):
    """Takes turns (one packet each way, or as many as it likes) until every flow that matches is offloaded in all its directions
    (cnt: in that many)."""
    seen = []

    def over():
        turn()
        seen[:] = sides(bed, m, *filters)
        return len([s for s in seen if s["offloaded"]]) >= (cnt or max(1, len(seen)))
    if never():
        for _ in range(5):
            turn()
        return tap.ok(not any(s["offloaded"] for s in sides(bed, m, *filters)), name + ": not offloaded, as asked")
    return tap.ok(w.wait_for(over), name + ": offloaded", seen)


@contextlib.contextmanager
def carried(tap, bed, m, name, dev=None, least=1, most_up=0):
    """What happens inside is carried out by XDP: `least` packets are received, and at most `most_up` come up through sockets; below 1 it is
    a share of them."""
    before = w.settle(bed, m)
    yield
    after = w.settle(bed, m)
    grown, came_up = received(after, dev) - received(before, dev), up(after, dev) - up(before, dev)
    if never():
        tap.ok(grown >= least and grown == came_up, name + ": received by sockets, as asked", (grown, came_up))
    else:
        most_up = int(grown * most_up) if most_up < 1 else most_up
        tap.ok(grown >= least and came_up <= most_up, name + ": %d packets inside XDP" % (grown - came_up),
               "received %d (at least %d), came up %d (at most %d)" % (grown, least, came_up, most_up))


# ---- hosts


class Counter:
    """nftables' own count of what comes in by a host's device, by an expression each; no datagram gets further, so that nobody answers."""

    def __init__(self, bed, space, dev, **rules):
        self.bed, self.space, self.table = bed, space, "third_" + dev
        text = "table netdev %s { chain in { type filter hook ingress device %s priority -500;\n%s\nmeta l4proto udp drop\n}\n}\n" % (
            self.table, dev, "\n".join('%s counter comment "%s"' % (e, n) for n, e in dict(rules, all="").items()))
        bed.run(space, ["nft", "-f", bed.file(self.table + ".nft", text)])

    def read(self):
        """{name: (packets, bytes of frames)}."""
        found = json.loads(self.bed.run(self.space, ["nft", "-j", "list", "table", "netdev", self.table]))["nftables"]
        counts = {}
        for r in (x["rule"] for x in found if "comment" in x.get("rule", {})):
            c = next(e["counter"] for e in r["expr"] if "counter" in e)
            counts[r["comment"]] = (c["packets"], c["bytes"] + 14 * c["packets"])
        return counts

    def close(self):
        self.bed.run(self.space, ["nft", "delete", "table", "netdev", self.table])


def host_counters(bed, space):
    """What the stack of a host has counted: /proc/net/snmp, netstat and snmp6, by nstat's names."""
    lines = bed.run(space, "cat /proc/net/snmp /proc/net/netstat").splitlines()
    found = {}
    for names, values in zip(lines[::2], lines[1::2]):
        kind = names.split(":")[0]
        found.update({kind + k: int(v) for k, v in zip(names.split()[1:], values.split()[1:])})
    for line in bed.run(space, "cat /proc/net/snmp6", check=False).splitlines():
        k, v = line.split()
        found[k] = int(v)
    return found


BAD = ("TcpInErrs", "TcpInCsumErrors", "UdpInCsumErrors", "UdpLiteInCsumErrors", "IcmpInCsumErrors", "Icmp6InCsumErrors", "Udp6InCsumErrors", "IpExtInCsumErrors", "IpInHdrErrors",
       "Ip6InHdrErrors", "TcpEstabResets", "TcpAttemptFails", "UdpInErrors", "Udp6InErrors", "IpExtInTruncatedPkts", "Ip6InTruncatedPkts", "TcpExtPAWSEstab",
       "TcpExtTCPAbortOnTimeout")


@contextlib.contextmanager
def healthy(tap, bed, name, expected=(), window=0):
    """No host sees a checksum error, a reset or a stall in what happens inside; retransmissions stay few.  expected: counters that may grow;
    window: segments under way that have to be sent again for a good reason."""
    spaces = [s for s in spaces_of(bed) if s != "r"]
    before = {s: host_counters(bed, s) for s in spaces}
    yield
    wrong, grown_by = [], {}
    for s in spaces:
        now = host_counters(bed, s)
        grown_by[s] = {k: now[k] - before[s].get(k, 0) for k in now}
    again = sum(g["TcpRetransSegs"] for g in grown_by.values())
    for s, grown in grown_by.items():
        wrong += ["%s: %s %d" % (s, k, grown[k]) for k in BAD if grown.get(k) and k not in expected]
        # a segment sent twice may find nobody any more the second time
        if grown["TcpOutRsts"] > again and "TcpOutRsts" not in expected:
            wrong.append("%s: TcpOutRsts %d" % (s, grown["TcpOutRsts"]))
        # a ring of 256 frames between two devices overflows when the receiver's processor is busy: that is a loss, and not many
        if grown["TcpRetransSegs"] > 100 + window + grown["TcpOutSegs"] // 50:
            wrong.append("%s: TcpRetransSegs %d of %d" % (s, grown["TcpRetransSegs"], grown["TcpOutSegs"]))
    tap.same(wrong, [], name + ": no checksum error, no reset, no stall in any host")


# ---- traffic


IPERF_RESETS = ("TcpOutRsts", "TcpEstabResets")  # it closes sockets that hold data it has not read


def iperf(tap, bed, far, name, words=(), size=32):
    """TCP in bulk from c to s (or, with -R, back), in MB."""
    with bed.spawn("s", "iperf3 -s -1 --forceflush", "iperf3") as server:
        server.wait_for("Server listening")
        out = json.loads(bed.run("c", ["iperf3", "-c", far, "-n", "%dM" % size, "-J", *words], check=False, timeout_s=50) or "{}")
    # it stops counting when all is sent: what is on its way then is missing
    got = out.get("end", {}).get("sum_received", {}).get("bytes", 0)
    return tap.ok(got >= size << 19 and not out.get("error"), "%s: iperf3 %s" % (name, " ".join(words) or "up"), out.get("error") or got)


def conversations(tap, bed, far, cnt, name, port=8000, threads=8, size=0, serve_at=None, ask_port=None):
    """Short connections, each answered byte for byte; or as large as is said.  serve_at, ask_port: where who asks knows another address."""
    script = os.path.join(HERE, "conversations.py")
    with bed.spawn("s", ["/usr/bin/python3", script, "serve", serve_at or far, port], "server") as server:
        server.wait_for("serving")
        said = bed.run("c", ["/usr/bin/python3", script, "call", far, ask_port or port, cnt, threads, size], timeout_s=100).strip()
    return tap.same(said, str(cnt), "%s: %d %s connections, each answered byte for byte" % (name, cnt, "large" if size else "short"))


def ping(tap, bed, far, name, *words, cnt=300):
    out = bed.run("c", ["ping", "-n", "-q", "-c", cnt, "-i", "0.002", "-W", "5", *words, far], check=False)
    return tap.ok("%d packets transmitted, %d received" % (cnt, cnt) in out, "%s: ping %s" % (name, " ".join(str(x) for x in words)), out)


class Echo:
    """A socket in a host that gives back every datagram, from a thread."""

    def __init__(self, bed, space, address, port=7):
        self.sock = w.enter(bed, space, socket.socket, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((address, port))
        self.sock.settimeout(0.1)
        self.cnt, self.bytes, self.going, self.senders = 0, 0, True, set()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.going:
            try:
                data, who = self.sock.recvfrom(65536)
            except socket.timeout:
                continue
            except OSError:
                return
            self.cnt, self.bytes = self.cnt + 1, self.bytes + len(data)
            self.senders.add(who[:2])
            try:
                self.sock.sendto(data, who)
            except OSError:
                pass

    def stop(self):
        self.going = False
        self.thread.join(5)
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class Asker:
    """A connected UDP socket in a host that asks an Echo."""

    def __init__(self, bed, space, address, far, port=7, sport=0):
        self.sock = w.enter(bed, space, socket.socket, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, sport))
        self.sock.connect((far, port))
        self.sock.settimeout(2)
        self.port, self.serial, self.sent, self.lost = self.sock.getsockname()[1], 0, 0, 0

    def ask(self, size=64):
        """One question; True when its answer came."""
        self.serial += 1
        data = (b"%012d" % self.serial).ljust(size, b"x")
        try:
            self.sock.send(data)
            self.sent += 1
            while True:
                got = self.sock.recv(65536)
                if got == data:
                    return True
        except OSError:
            self.lost += 1
            return False

    def close(self):
        self.sock.close()


def close_all(*things):
    for t in things:
        t.close()
