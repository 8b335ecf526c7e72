#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Addresses the kernel answers ARP for while the program runs: where they are put, renewed, moved, left alone and taken away.

    n (n0 203.0.113.1/24) ── wan [ r: millrace ] lan ── h

The stage is tests/plugin/life.c, which announces what its options say.
"""
import json
import os
import signal
import socket
import subprocess
import time

import wire as w

OURS, OTHER, FAR, LATER = "203.0.113.64", "203.0.113.65", "198.51.100.9", "203.0.113.70"
TEXT = """version: 1
plugins: [ %(plugins)s/life.so ]
flows: { capacity: 4k, offload: never }
memory: { huge_pages: never }
interfaces:
  wan: { device: wan, mode: copy }
  lan: { device: lan, mode: copy }
stages:
  a: { type: life, announce: [ %(addresses)s ]%(more)s }
pipelines:
  in: { from: [ wan ], match: [ { dst: 192.0.2.0/24 } ], stages: [ a ], to: lan }
"""
VALID_S = 30  # core/announce.h


def text(*addresses, more=""):
    return TEXT % dict(plugins=os.path.join(w.build_dir(), "tests", "plugin"), addresses=", ".join(addresses), more=more)


def addresses(bed, dev=None):
    """By address: the device and seconds it is valid for (None: for good)."""
    found = {}
    for d in json.loads(bed.run("r", "ip -j -4 addr show")):
        for a in d["addr_info"]:
            if not dev or d["ifname"] == dev:
                found.setdefault(a["local"], []).append((d["ifname"], a["prefixlen"], a["valid_life_time"] if a.get("dynamic") else None))
    return found


def on(bed, address):
    return [(dev, bits) for dev, bits, _ in addresses(bed).get(address, [])]


def wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def lay(bed):
    for space in ("n", "r", "h"):
        bed.ns(space)
    connect(bed)
    bed.veth("h", "h0", "r", "lan")


def connect(bed):
    bed.veth("n", "n0", "r", "wan")
    bed.run("n", "ip addr add 203.0.113.1/24 dev n0")
    bed.run("r", "ip addr add 203.0.113.2/24 dev wan")


class Listener:
    """ARP as a neighbour hears it."""

    def __init__(self, bed):
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        bed.move_thread("n")
        self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        self.s.bind(("n0", 0x0806))
        self.s.settimeout(0.2)
        import ctypes
        ctypes.CDLL(None).setns(here, 0x40000000)
        os.close(here)

    def announced(self, mac, address):
        """How many announcements (sender = target) of it are there by now."""
        cnt = 0
        while True:
            try:
                f = self.s.recv(2048)
            except socket.timeout:
                return cnt
            cnt += f[22:28] == w.mac(mac) and f[28:32] == w.address(address) == f[38:42] and f[:6] == b"\xff" * 6


def answers(bed, address):
    """Whether a neighbour's question is answered, and with whose MAC."""
    bed.run("n", "ip neigh flush all", check=False)
    bed.run("n", ["sh", "-c", "ping -c 1 -W 1 %s >/dev/null 2>&1 || true" % address])
    found = json.loads(bed.run("n", "ip -j neigh show to %s" % address) or "[]")
    return found[0].get("lladdr") if found else None


def reload(bed, m, path):
    subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", m.instance, "reload", path], check=True, stdout=subprocess.DEVNULL, timeout=60)


LOWEST = [VALID_S]


def went_up(bed):
    """What is left went down, and then up."""
    left = addresses(bed)[OURS][0][2]
    LOWEST[0] = min(LOWEST[0], left)
    return left > LOWEST[0]


def test_running(tap, bed):
    bed.run("r", "ip addr add %s/32 dev lan" % OTHER)
    heard = Listener(bed)
    mac = bed.mac("r", "wan")
    with bed.millrace("r", bed.file("a.yaml", text(OURS, OTHER, FAR))) as m:
        tap.same(on(bed, OURS), [("wan", 32)], "an address of a connected network is on its device")
        tap.same(on(bed, FAR), [("lo", 32)], "one of no network is on lo")
        tap.same(on(bed, OTHER), [("lan", 32)], "one that is there is left where it is")
        tap.ok("%s is an address of lan already" % OTHER in m.text(), "and that is said", m.text())
        valid = addresses(bed)[OURS][0][2]
        tap.ok(valid and valid <= VALID_S, "it is there for a while", valid)
        tap.ok(heard.announced(mac, OURS) >= 1, "neighbours are told")
        tap.same(answers(bed, OURS), mac, "a neighbour that asks is answered")
        tap.ok(wait(lambda: went_up(bed)), "it is renewed")
        bed.run("r", "ip addr del %s/32 dev wan" % OURS)
        tap.ok(wait(lambda: on(bed, OURS) == [("wan", 32)]), "one that somebody took away comes back")
        # somebody makes one permanent, and then it is theirs
        bed.run("r", "ip addr change %s/32 dev lo" % FAR)
        time.sleep(2)
        reload(bed, m, bed.file("b.yaml", text(OURS, LATER)))
        tap.same(on(bed, LATER), [("wan", 32)], "a reload adds what is new")
        tap.same(on(bed, FAR), [("lo", 32)], "what somebody made permanent meanwhile is left")
        tap.same(on(bed, OTHER), [("lan", 32)], "and what was there before")
        reload(bed, m, bed.file("c.yaml", text(OURS)))
        tap.same(on(bed, LATER), [], "a reload takes away what is not wanted any more")
        # the device goes and comes back
        bed.run("n", "ip link del n0")
        tap.ok(wait(lambda: on(bed, OURS) == [("lo", 32)]), "without the device it is on lo")
        connect(bed)
        tap.ok(wait(lambda: on(bed, OURS) == [("wan", 32)]), "and goes to it when it is there again")
        tap.same(answers(bed, OURS), bed.mac("r", "wan"), "which answers")
        tap.same(m.stop(), 0, "ends with 0")
    tap.same((on(bed, OURS), on(bed, FAR), on(bed, OTHER)), ([], [("lo", 32)], [("lan", 32)]), "at the end ours are gone, and others' are there")


def test_killed(tap, bed):
    path = bed.file("k.yaml", text(OURS))
    m = bed.millrace("r", path)
    tap.same(on(bed, OURS), [("wan", 32)], "again")
    m.stop(signal.SIGKILL)
    tap.same(on(bed, OURS), [("wan", 32)], "killed, it is there for a while")
    with bed.millrace("r", path) as m:
        tap.ok(wait(lambda: addresses(bed)[OURS][0][2] > VALID_S - 5), "the next run takes it over")
        tap.ok("already" not in m.text(), "as its own", m.text())
        m.stop(signal.SIGKILL)
    tap.ok(wait(lambda: on(bed, OURS) == [], 3 * VALID_S), "and when nobody renews it, it goes")


def test_check(tap, bed):
    bed.run("r", "ip neigh add proxy %s dev wan" % LATER)
    path = bed.file("check.yaml", text(LATER, FAR, "203.0.113.2", more=", warns: true"))
    done = subprocess.run(bed.enter("r") + [w.find_millrace(), "check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    out = done.stdout.decode()
    tap.same(done.returncode, 0, "warnings of a stage do not make check fail")
    said = [line.split("stages.a: ")[1] for line in out.splitlines() if "stages.a" in line]
    tap.same(sorted(line.split(": ", 1)[1] for line in said), ["local 0, on wan, proxied 1", "local 1, on -, proxied 0", "local 1, on wan, proxied 0"],
             "check says what the box does with an address")
    tap.ok(all(":9:" in line for line in out.splitlines() if "stages.a" in line), "with its place in the file", out)
    tap.same(on(bed, LATER), [], "and adds none")


def test(tap, bed):
    lay(bed)
    test_running(tap, bed)
    test_check(tap, bed)
    test_killed(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "announce"))
