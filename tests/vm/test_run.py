#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The whole program on virtio-net: forward, hand back, reload, unplugged and plugged in again, killed and started again.

    g: g0 ──hub── r0 [ millrace, here ] r1 ──hub── s0 :s       (tests/vm/nics.h; named and addressed by test_zerocopy)

In zero-copy, in copy mode and with one interface in each, as far as this kernel's driver goes.
"""
import os
import signal
import socket
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "netns"))
import wire as w

CONFIG = """version: 1
flows: { capacity: 4k }
memory: { huge_pages: never }
interfaces:
  lan: { device: r0, mode: %(lan)s, on_exit: pass, promiscuous: true }
  wan: { device: r1, mode: %(wan)s, on_exit: pass, promiscuous: true }
stages:
  guard: { type: filter, default: accept, rules: [ %(rule)s ] }
pipelines:
  own: { from: [ lan ], match: [ { dst: 10.88.0.254 } ], stages: [ guard ], to: kernel }
  out: { from: [ lan ], match: all, except: [ { ethertype: 0x0806 } ], stages: [ guard ], to: wan }
  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }
"""
# ARP stays with the stack on the inner side, so neighbours are set by hand.
NO_RULE = "{ name: none, action: drop, proto: tcp, dport: 1 }"
NO_PING = "{ name: no-ping, action: drop, proto: icmp }"
DATAGRAMS = 400


def ask_outside(tap, line):
    with open("/dev/ttyS2", "r+b", buffering=0) as tty:
        tty.write(line.encode() + b"\n")
        answer = tty.readline().decode().strip()
    return tap.ok(answer == "ok", line, answer)


def ping(bed, host, cnt=10):
    out = bed.run("g", ["ping", "-q", "-c", cnt, "-i", "0.05", "-W", 3, host], check=False)
    return " 0% packet loss" in out


def datagrams(bed):
    """How many of DATAGRAMS, over 16 flows at a rate no queue overflows at, arrive."""
    got = set()
    there = w.enter(bed, "s", socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    there.bind(("10.88.0.2", 7000))
    there.settimeout(3)

    def take():
        try:
            while len(got) < DATAGRAMS:
                got.add(there.recv(2048)[:4])
        except socket.timeout:
            pass

    t = threading.Thread(target=take)
    t.start()
    here = [w.enter(bed, "g", socket.socket, socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
    for i in range(DATAGRAMS):
        here[i % 16].sendto(i.to_bytes(4, "big") + b"x" * (i * 3), ("10.88.0.2", 7000))
        time.sleep(0.001)
    t.join()
    for s in here + [there]:
        s.close()
    return len(got)


def millrace(bed, text):
    return bed.millrace(None, bed.file("vm.yaml", text), instance="vm", timeout_s=60)


def name_r1(bed):
    """The device that was plugged in, by its MAC address."""
    for dev in os.listdir("/sys/class/net"):
        with open("/sys/class/net/%s/address" % dev) as f:
            if f.read().strip() == "52:54:00:6d:72:03":
                bed.run(None, ["ip", "link", "set", dev, "down"])
                bed.run(None, ["ip", "link", "set", dev, "name", "r1"], check=False)
                bed.run(None, ["ip", "link", "set", "r1", "up"])
                return True
    return False


def state(bed, m, name):
    return w.interface(w.show(bed, m), name)["state"]


def traffic(tap, bed, m, what):
    tap.ok(ping(bed, "10.88.0.2"), what + ": ping")
    tap.ok(ping(bed, "fd88::2"), what + ": ping, IPv6")
    tap.same(datagrams(bed), DATAGRAMS, what + ": datagrams of 16 flows")
    return w.account(tap, bed, m, what)


def reload(tap, bed, m, lan, wan, what):
    for rule, answered in ((NO_PING, False), (NO_RULE, True)):
        bed.file("vm.yaml", CONFIG % dict(lan=lan, wan=wan, rule=rule))
        bed.ask(m, "reload")
        tap.same(ping(bed, "10.88.0.2", 3), answered, "%s: reload, ping %s" % (what, "passes" if answered else "is filtered"))


def unplugged(tap, bed, m, what):
    ask_outside(tap, "unplug r1")
    tap.ok(w.wait_for(lambda: state(bed, m, "wan") == "absent"), what + ": the unplugged interface is absent")
    tap.same(state(bed, m, "lan"), "up", what + ": the other is up")
    ask_outside(tap, "plug r1")
    tap.ok(w.wait_for(lambda: name_r1(bed)), what + ": plugged in again")
    tap.ok(w.wait_for(lambda: state(bed, m, "wan") == "up"), what + ": and taken up again")
    traffic(tap, bed, m, what + ", plugged in again")


def killed(tap, bed, m, text, what):
    m.stop(signal.SIGKILL)
    tap.ok("xdp" not in bed.run(None, "ip link show r0") and "xdp" not in bed.run(None, "ip link show r1"), what + ": kill -9 leaves no program attached")
    return millrace(bed, text)


def run(tap, bed, lan, wan, got):
    what = "%s to %s" % (lan, wan)
    text = CONFIG % dict(lan=lan, wan=wan, rule=NO_RULE)
    m = millrace(bed, text)
    d = traffic(tap, bed, m, what)
    tap.same([i["mode"] for i in d["interfaces"]], got, what + ": modes as expected")
    tap.ok(ping(bed, "10.88.0.254"), what + ": the appliance's own address answers through hand-back")
    d = w.account(tap, bed, m, what + ", handed back")
    tap.ok(w.interface(d, "lan")["kernel_packets"] >= 10, what + ": and was counted so")
    reload(tap, bed, m, lan, wan, what)
    unplugged(tap, bed, m, what)
    m = killed(tap, bed, m, text, what)
    traffic(tap, bed, m, what + ", started again")
    tap.same(m.stop(), 0, what + ": ends with 0")
    for dev in ("r0", "r1"):
        tap.ok("xdp" not in bed.run(None, ["ip", "link", "show", dev]), "%s: nothing is left on %s" % (what, dev))


def test(tap, bed):
    bed.prefix = "mr-vm"
    bed.run(None, [os.path.join(os.environ["MR_BUILD"], "tests", "vm", "test_zerocopy"), "setup"])
    bed.run(None, "ip addr add 10.88.0.254/32 dev r0", check=False)
    bed.run(None, "ip route replace 10.88.0.1/32 dev r0 src 10.88.0.254")
    macs = {s: bed.mac(s, s + "0") for s in "gs"}
    here = w.json.loads(bed.run(None, "ip -j link show r0"))[0]["address"]
    bed.run(None, ["ip", "neigh", "replace", "10.88.0.1", "lladdr", macs["g"], "dev", "r0"])
    for space, other, nr in (("g", "s", 2), ("s", "g", 1)):
        bed.run(space, ["ip", "neigh", "replace", "10.88.0.%d" % nr, "lladdr", macs[other], "dev", space + "0"])
    bed.run("g", ["ip", "neigh", "replace", "10.88.0.254", "lladdr", here, "dev", "g0"])
    if int(os.uname().release.split(".")[0]) >= 7:
        pairs = (("zerocopy", "zerocopy", ["zerocopy"] * 2), ("zerocopy", "copy", ["zerocopy", "copy"]))
    else:
        pairs = (("auto", "auto", ["copy"] * 2),)
    for lan, wan, got in pairs:
        run(tap, bed, lan, wan, got)


if __name__ == "__main__":
    if not os.environ.get("MR_VM"):
        w.skip_all("only in a guest of tests/vm/run --suite zerocopy")
    sys.exit(w.main(test, "vm"))
