#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The same client traffic through nftables' snat and through nat44: the same outcome, except where docs/nat44.md says otherwise.

Each question is asked of both; those named in DIFFER have another answer, and both are written down here.
"""
import os
import re
import threading
import time

import nat
import wire as w
from nat import A, A2, B, S, T
from test_nat_paths import FAR, behind

RULES = """table ip reference {
  chain post { type nat hook postrouting priority 100; ip saddr 100.64.0.0/10 oifname { wan, wan2 } snat to 203.0.113.64; }
  chain pre { type nat hook prerouting priority -100; ip daddr 203.0.113.64 tcp dport 8443 dnat to 100.64.0.3:443; }
  chain forward { type filter hook forward priority 0; policy drop; iifname { lan, lan2 } accept; ct state established,related accept; ct status dnat accept; }
}
"""
STATIC = "    static: [ { inside: 100.64.0.3, outside: 203.0.113.64, proto: tcp, ports: 8443, inside_ports: 443 } ]\n"

# question: (nftables, nat44)
DIFFER = {
    "a third host is let in by the mapping (endpoint-independent filtering, RFC 4787 REQ-8)": (False, True),
    "inside hosts meet by outside addresses (hairpin, RFC 4787 REQ-9)": (False, True),
}


class Asked:
    """One half: what was answered."""

    def __init__(self, bed):
        self.bed, self.answers, self.socks = bed, {}, []

    def tell(self, question, answer):
        self.answers[question] = answer

    def keep(self, s):
        self.socks.append(s)
        return s

    def udp(self, *where):
        return self.keep(nat.udp(self.bed, *where))

    def listen(self, *where):
        return self.keep(nat.listen(self.bed, *where))

    def close(self):
        for s in self.socks:
            s.close()


def curl(bed, space, url, *words):
    return bed.run(space, ["curl", "-s", "-m", "15", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{exitcode}", *words, url], check=False)


def web(q):
    bed = q.bed
    for n in range(3):
        q.tell("curl, %d" % n, curl(bed, "a", "http://%s:8080/file" % S))
    q.tell("curl from the other inside network", curl(bed, "b", "http://%s:8080/file" % S))
    q.tell("curl, 404", curl(bed, "a", "http://%s:8080/none" % S))
    q.tell("curl, a range", curl(bed, "a", "http://%s:8080/file" % S, "-r", "0-99"))
    q.tell("curl, nobody listens", curl(bed, "a", "http://%s:8090/file" % S))
    q.tell("curl behind a narrow link", curl(bed, "a", "http://%s:8080/file" % FAR))
    q.tell("curl, many at once", bed.run("a", ["sh", "-c", "for i in $(seq 40); do curl -s -m 15 -o /dev/null -w '%%{http_code}\\n' http://%s:8080/file & done | sort | uniq -c; wait" % S], check=False).split())


def names(q):
    """Questions and answers over UDP, as a resolver's: a new port each."""
    server = q.udp("s", S, 5353)
    right = 0
    for n in range(200):
        with nat.udp(q.bed, "a", A) as c:
            nat.send(c, b"question %d" % n, (S, 5353))
            got = nat.hear(server)
            if got:
                nat.send(server, b"answer to " + got[0], got[1])
                back = nat.hear(c)
                right += bool(back and back[0] == b"answer to question %d" % n and back[1] == (S, 5353))
    q.tell("200 questions over UDP, each from a new port", right)
    c = nat.udp(q.bed, "a", A)
    c.connect((S, 5399))
    c.send(b"x")
    try:
        c.settimeout(3)
        q.tell("UDP to a closed port", c.recv(10))
    except ConnectionRefusedError:
        q.tell("UDP to a closed port", "refused")
    except OSError as e:
        q.tell("UDP to a closed port", str(e))
    c.close()
    big = q.udp("a", A, 5500)
    nat.send(big, b"z" * 8000, (S, 5353))
    got = nat.hear(server)
    q.tell("UDP of 8000 bytes, in fragments", bool(got and got[0] == b"z" * 8000))
    if got:
        nat.send(server, b"y" * 8000, got[1])
        q.tell("and its answer", bool((nat.hear(big) or (b"",))[0] == b"y" * 8000))


def paths(q):
    for who, far in (("a", S), ("a", T), ("b", FAR)):
        out = q.bed.run(who, ["ping", "-n", "-c", "20", "-i", "0.01", "-W", "3", far], check=False)
        q.tell("ping of %s from %s" % (far, who), "".join(re.findall(r"\d+ packets transmitted, \d+ received", out)))
    out = q.bed.run("a", ["ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", FAR], check=False)
    out += q.bed.run("a", ["ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", FAR], check=False)
    q.tell("ping too large for the path: the MTU is told", "mtu = 1300" in out or "mtu=1300" in out)
    for words in ((), ("-I",)):
        out = q.bed.run("a", ["traceroute", "-n", "-q", "1", "-w", "3", "-m", "5", *words, FAR], check=False)
        q.tell("traceroute %s" % " ".join(words), re.findall(r"^\s*(\d+)\s+(\S+)", out, re.M))


def move(src, dst, cnt):
    def push():
        try:
            for _ in range(cnt >> 16):
                src.sendall(bytes(1 << 16))
            src.shutdown(w.socket.SHUT_WR)
        except OSError:
            pass
    t = threading.Thread(target=push, daemon=True)
    t.start()
    size = 0
    try:
        for part in iter(lambda: dst.recv(1 << 16), b""):
            size += len(part)
    except OSError:
        pass
    t.join(10)
    return size


def long_tcp(q):
    listener = q.listen("s", S, 7100)
    for way in ("up", "down"):
        c = q.keep(nat.tcp(q.bed, "a", A, timeout_s=15))
        c.connect((S, 7100))
        conn, who = listener.accept()
        conn.settimeout(15)
        q.keep(conn)
        q.tell("TCP, 8 MB %s" % way, move(*((c, conn) if way == "up" else (conn, c)), 8 << 20))
        q.tell("TCP comes from the outside address, %s" % way, who[0])
    # passive: to a port that is forwarded inside
    inner = q.listen("a", A2, 443)
    c = q.keep(nat.tcp(q.bed, "t", T, timeout_s=15))
    c.connect((nat.OUT % 64, 8443))
    conn, who = inner.accept()
    conn.settimeout(15)
    q.keep(conn)
    q.tell("TCP to a forwarded port, seen by the inside host from", who[0])
    q.tell("TCP to a forwarded port, 8 MB", move(conn, c, 8 << 20))
    c = q.keep(nat.tcp(q.bed, "a", A, timeout_s=15))
    c.connect((S, 7100))
    conn = q.keep(listener.accept()[0])
    time.sleep(3)
    c.sendall(b"after a pause")
    conn.settimeout(5)
    q.tell("TCP after a pause", conn.recv(100))
    conn.setsockopt(w.socket.SOL_SOCKET, w.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    conn.close()
    try:
        c.settimeout(3)
        q.tell("TCP reset by the server", c.recv(10))
    except ConnectionResetError:
        q.tell("TCP reset by the server", "reset")


def peers(q):
    """What an RFC asks for and netfilter does not do."""
    x, server, third = q.udp("a", A, 5000), q.udp("s", S, 7000), q.udp("t", T, 7000)
    nat.send(x, b"hello", (S, 7000))
    outside = nat.hear(server)[1]
    nat.send(third, b"third", outside)
    q.tell("a third host is let in by the mapping (endpoint-independent filtering, RFC 4787 REQ-8)", (nat.hear(x, 0.5) or (b"",))[0] == b"third")
    nat.send(x, b"more", (S, 7000))
    nat.hear(server)
    y = q.udp("b", B, 6000)
    nat.send(y, b"hello", (S, 7000))
    other = nat.hear(server)[1]
    nat.send(x, b"meet", other)
    got = nat.hear(y, 0.5)
    q.tell("inside hosts meet by outside addresses (hairpin, RFC 4787 REQ-9)", bool(got and got[0] == b"meet" and got[1] == outside))


def half(bed, name):
    q = Asked(bed)
    www = os.path.join(bed.dir, "www-" + name)
    os.makedirs(www)
    with open(www + "/file", "wb") as f:
        f.write(bytes(200000))
    serve = [bed.spawn(space, ["/usr/bin/python3", "-m", "http.server", "8080", "--bind", at, "--directory", www], "http") for space, at in (("s", S), ("u", FAR))]
    w.wait_for(lambda: curl(bed, "s", "http://%s:8080/file" % S).startswith("200") and curl(bed, "u", "http://%s:8080/file" % FAR).startswith("200"), 10)
    for part in (web, names, paths, long_tcp, peers):
        try:
            part(q)
        except (OSError, TypeError, ValueError) as e:
            q.tell(part.__name__ + " goes to its end", str(e))
    q.close()
    for s in serve:
        s.stop()
    return q.answers


def test(tap, bed):
    nat.build(bed)
    behind(bed)
    watch = nat.Watch(bed)
    table = bed.file("reference.nft", RULES)
    bed.run("r", ["nft", "-f", table])
    reference = half(bed, "nftables")
    bed.run("r", "nft delete table ip reference")
    bed.run("r", "conntrack -F", check=False)
    watch.leaks = []
    for mode in nat.modes("never", "established"):
        bed.run("a", "ip route flush cache")
        text = nat.config("", mode=mode, outside="203.0.113.64").replace("    outside: [", STATIC + "    outside: [")
        with nat.Nat(tap, bed, watch, "", "nat44, " + mode, text=text) as net:
            got = half(bed, mode)
            for question, want in reference.items():
                if question in DIFFER:
                    tap.same((want, got.get(question)), DIFFER[question], "%s: differs as written down: %s" % (net.name, question))
                else:
                    tap.same(got.get(question), want, "%s: as nftables: %s" % (net.name, question))
            net.same([k for k in got if k not in reference], [], "nothing else was asked")
    ends = [k for k in reference if k.endswith("goes to its end")]
    tap.same(ends, [], "nftables: the reference went to its end")
    good = {k: v for k, v in reference.items() if k in ("curl, 0", "curl, 1", "curl, 2") or k.startswith("ping of")}
    tap.ok(all(str(v).startswith("200 200000") or v == "20 packets transmitted, 20 received" for v in good.values()), "nftables: the reference works", good)
    watch.close()


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natnft"))
