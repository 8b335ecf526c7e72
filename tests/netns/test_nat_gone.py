#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: what a removed address or rule ends, and that nothing leaves untranslated when the program is killed."""
import os
import re
import signal
import time

import nat
import wire as w
from nat import A, S, T
from test_nat_reload import talks


def removed(tap, bed, watch, mode):
    with nat.Nat(tap, bed, watch, "", "an address removed, " + mode, mode=mode, outside="203.0.113.64/31") as net:
        outer = net.udp("s", S, 7000)
        socks = [net.udp("a", "100.64.0.%d" % n, 5000) for n in range(2, 10)]
        out = [net.mapped(u, outer) for u in socks]
        if not net.ok(len({o[0] for o in out}) == 2, "both addresses are used", out):
            return
        lost = [n for n, o in enumerate(out) if o[0] == nat.OUT % 65]
        said = net.reload("", mode=mode, outside="203.0.113.64")
        net.ok(re.search(r"\b%d\b.*session|session.*\b%d\b" % (len(lost), len(lost)), said + net.m.text()[-500:]), "the reload says how many sessions it ends: %d" % len(lost), said + net.m.text()[-500:])
        w.wait_for(lambda: not net.flows("--addr", nat.OUT % 65), 5)
        net.same(net.flows("--addr", nat.OUT % 65), [], "they are gone")
        for n, u in enumerate(socks):
            if n in lost:
                net.same(net.reaches(outer, out[n], u, 0.2), None, "nobody reaches the removed address's mapping any more")
                got = net.mapped(u, outer)
                net.same(got and got[0], nat.OUT % 64, "its host has another address with its next packet")
            else:
                net.ok(talks(net, u, outer, out[n]), "those of the other stay")
    with nat.Nat(tap, bed, watch, "static:\n", "x", text=nat.config("", mode=mode).replace("    outside: [", "    static: [ { inside: 100.64.0.2, outside: 203.0.113.70 } ]\n    outside: [")) as net:
        net.name = "a static rule removed, " + mode
        outer, inner = net.udp("s", S, 7000), net.udp("a", A, 5000)
        net.same(net.mapped(inner, outer), (nat.OUT % 70, 5000), "it translates")
        net.reload("", mode=mode)
        got = net.mapped(inner, outer)
        net.ok(got and got[0] != nat.OUT % 70, "the session is ended, the next packet is mapped dynamically", got)


def killed(tap, bed, watch, mode):
    """on_exit is drop where a NAT serves: after kill -9 nothing leaves, translated or not, until the next start."""
    net = nat.Nat(tap, bed, watch, "", "killed, " + mode, mode=mode)
    outer, inner = net.udp("s", S, 7000), net.udp("a", A, 5000)
    other = net.udp("t", T, 7000)
    out = net.mapped(inner, outer)
    for _ in range(300):
        net.reaches(inner, (S, 7000), outer)
        if any(f["forward"]["offloaded"] for f in net.flows("--port", "5000")) or mode == "never":
            break
    net.ok(out, "traffic flows")
    os.kill(net.m.pid, signal.SIGKILL)
    net.m.child.wait(5)
    time.sleep(1.5)  # the heartbeat is old then
    for n in range(10):
        nat.send(inner, b"x", (S, 7000))
        nat.send(inner, b"x", (T, 7000))
    net.same(net.reaches(inner, (S, 7000), outer, 0.3), None, "nothing leaves, to the old end")
    bed.run("a", ["ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", S], check=False)
    net.same(nat.hear(other, 0.2), None, "nothing leaves, to a new end")
    fin = net.tcp("a", A, 5100)
    fin.settimeout(0.5)
    net.same(net.connects(fin, (S, 7100), net.listen("s", S, 7100)), None, "no TCP either")
    fin.close()
    for s in net.socks:
        s.close()
    watch.told(tap, net.name)
    with nat.Nat(tap, bed, watch, "", "started after kill -9, " + mode, mode=mode) as again:
        outer, inner = again.udp("s", S, 7000), again.udp("a", A, 5000)
        again.ok(again.mapped(inner, outer), "translates again")


def test(tap, bed):
    nat.each(tap, bed, (removed, killed), nat.modes("never", "always"))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natgon"))
