#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Where XDP cannot carry a flow, the flow tier does: no packet is lost, and `show interfaces` says why.

Devices whose peers take no redirected frames, or take them no longer; generic mode; a device shared with other programs; one that is deleted.
"""
import os
import subprocess

import offload as o
import wire as w

C4, S4 = o.C4, o.S4


def ways(bed, m, dev):
    """(in, why not, out, why not) of an interface."""
    x = w.interface(w.show(bed, m, "interfaces"), dev)["offload"]
    return x["in"], x["in_why"], x["out"], x["out_why"]


def said(bed, m, dev, key):
    """What show interfaces says in the end; what changes is noticed within a second or so."""
    return w.wait_for(lambda: w.interface(w.show(bed, m, "interfaces"), dev)["offload"][key + "_why"], 10)


class Talk:
    """Numbered packets of a conversation both ways, and what arrived."""

    def __init__(self, client, server):
        self.ports, self.sent, self.arrived = {"c": client, "s": server}, {"c": [], "s": []}, {"c": [], "s": []}
        self.n = 0

    def turn(self):
        self.n += 1
        for way, src, dst, sp, dp in (("c", C4, S4, 7000, 9), ("s", S4, C4, 9, 7000)):
            f = w.packet(src, dst, w.UDP, w.udp(src, dst, sp, dp, b"talk%08d" % self.n))
            f = f if way == "c" else w.swapped(f)
            self.sent[way].append(f)
            self.ports[way].send(f)

    def turns(self, cnt):
        for _ in range(cnt):
            self.turn()

    def came(self):
        """(lost, more than once or not ours), both ways together."""
        lost = odd = 0
        for way, to in (("c", "s"), ("s", "c")):
            got = self.ports[to].take_cnt(len(self.sent[way]), 2)  # all has settled
            lost += len(set(self.sent[way]) - set(got))
            odd += len(got) - len(set(got) & set(self.sent[way]))
            self.sent[way] = []
        return lost, odd


def stays_below(tap, bed, m, talk, name, why):
    """All packets cross, in the flow tier, and the flow says why."""
    talk.turns(20)
    w.settle(bed, m)
    talk.turns(100)
    d = w.account(tap, bed, m, name)
    tap.same(talk.came(), (0, 0), name + ": every packet arrives, once")
    tap.same((o.up(d), len(o.sides(bed, m, "--port", 7000))), (o.received(d), 2), name + ": all by user space")
    if not o.never():
        got = {s["offload_why"] for s in o.sides(bed, m, "--port", 7000)}
        # where no interface has one, there is none
        tap.ok(got <= {why, "no-kernel-tier"}, name + ": show flows says why", got)


def no_targets(tap, bed, client, server):
    """Peers without GRO and without XDP; then with, then without."""
    with bed.millrace("r", bed.file("plain.yaml", w.plain(top=o.flows()))) as m:
        talk = Talk(client, server)
        stays_below(tap, bed, m, talk, "peers without GRO", "egress")
        if not o.never():
            for dev in ("lan", "wan"):
                is_in, in_why, is_out, out_why = ways(bed, m, dev)
                tap.same((is_in, in_why, is_out), (True, "", False), "%s: it may come in but not go out" % dev)
                tap.ok("GRO" in out_why, "%s: what to do about it" % dev, out_why)
        bed.accept_redirects("s", "s0")
        o.goes_over(tap, bed, m, talk.turn, "GRO of one is switched on: one direction", "--port", 7000, cnt=1)
        bed.accept_redirects("c", "c0")
        o.goes_over(tap, bed, m, talk.turn, "GRO of both", "--port", 7000, cnt=2)
        w.settle(bed, m)
        tap.same(talk.came(), (0, 0), "nothing was lost on the way")
        before = w.drops(w.settle(bed, m)).get("redirect-lost", 0)
        for turn in range(3):
            for n in range(50):
                talk.turn()
            child = bed.spawn("s", "ethtool -K s0 gro off")
            talk.turns(400)
            child.child.wait(20)
            w.wait_for(lambda: o.never() or not ways(bed, m, "wan")[2], 10)
            talk.turns(100)
            d = w.account(tap, bed, m, "GRO off while it carries")
            lost = w.drops(d).get("redirect-lost", 0) - before
            before += lost
            tap.same(talk.came(), (lost, 0), "GRO off while it carries: what did not arrive (%d) is counted by name" % lost)
            talk.turns(100)
            w.settle(bed, m)
            tap.same(talk.came(), (0, 0), "and then nothing is lost")
            if not o.never():
                tap.ok("GRO" in said(bed, m, "wan", "out"), "show interfaces says why", ways(bed, m, "wan"))
            bed.accept_redirects("s", "s0")
            o.goes_over(tap, bed, m, talk.turn, "and on again", "--port", 7000, cnt=2)
        w.settle(bed, m)
        tap.same(talk.came(), (0, 0), "nothing was lost")
        w.account(tap, bed, m, "GRO")
        tap.same(m.stop(), 0, "GRO: ends with 0")


def generic(tap, bed, client, server):
    with bed.millrace("r", bed.file("generic.yaml", w.plain(top=o.flows(), interface=", mode: generic"))) as m:
        stays_below(tap, bed, m, Talk(client, server), "generic mode", "interface")
        if not o.never():
            for dev in ("lan", "wan"):
                is_in, in_why = ways(bed, m, dev)[:2]
                tap.ok(not is_in and "generic" in in_why, "generic mode: %s says so" % dev, in_why)


def shared(tap, bed, client, server):
    """With the dispatcher of libxdp."""
    path = bed.file("shared.yaml", w.plain(top=o.flows(), interface=", attach: shared"))
    try:
        m = bed.millrace("r", path, timeout_s=30)
    except w.Failed as e:
        tap.skip("attach: shared", "libxdp cannot attach here: %s" % str(e).splitlines()[-1][:200])
        return
    stays_below(tap, bed, m, Talk(client, server), "attach: shared", "interface")
    if not o.never():
        is_in, in_why = ways(bed, m, "lan")[:2]
        tap.ok(not is_in and "shared" in in_why, "attach: shared: show interfaces says so", in_why)
    tap.same(m.stop(), 0, "attach: shared: ends with 0")


def deleted(tap, bed, client, server):
    """The egress goes while it is sent to, and comes back as another device; or at once, as one with the same number."""
    with bed.millrace("r", bed.file("deleted.yaml", w.plain(top=o.flows()))) as m:
        for turn in range(4):
            at_once = turn % 2
            before = w.interface(w.show(bed, m), "wan")
            name = "deleted %d%s" % (turn + 1, ", the same number at once" if at_once else "")
            talk = Talk(client, server)
            o.goes_over(tap, bed, m, talk.turn, name, "--port", 7000, cnt=2)
            talk.turns(50)
            child = bed.spawn("r", "ip link del wan")
            for _ in range(300):
                client.send(talk.sent["c"][0])
            child.child.wait(20)
            if not at_once:
                tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), "wan")["state"] == "absent"), name + ": it is seen to be gone")
                for _ in range(50):
                    client.send(talk.sent["c"][0])
                w.account(tap, bed, m, name)
            if not o.never() and not at_once:
                tap.ok(not ways(bed, m, "wan")[2] and not any(s["offloaded"] for s in o.sides(bed, m, "--port", 7000) if s["to"] == "wan"), name + ": nothing is carried there")
            server.close()
            bed.veth("r", "wan", "s", "s0", b_mac=w.SERVER_MAC, index=before["ifindex"] if at_once else None)
            bed.host("s", "s0")
            bed.run("r", "ethtool -K wan gro off")
            o.targets(bed, (("s", "s0"),))
            server = w.Port(bed, "s", "s0")
            now = w.wait_for(lambda: [i for i in [w.interface(w.show(bed, m), "wan")] if i["state"] == "up" and i["opened_cnt"] > before["opened_cnt"]])
            tap.ok(now and (now[0]["ifindex"] == before["ifindex"]) == bool(at_once), name + ": it is taken up again", now)
            tap.ok(now and now[0]["offload"]["sent_packets"] >= before["offload"]["sent_packets"], name + ": what was sent is not forgotten")
        talk = Talk(client, server)
        client.take_cnt(0)
        o.goes_over(tap, bed, m, talk.turn, "and goes on", "--port", 7000, cnt=2)
        talk.turns(100)
        w.account(tap, bed, m, "and goes on")
        talk.came()
        talk.turns(100)
        tap.same(talk.came(), (0, 0), "as before")
        tap.same(m.stop(), 0, "deleted: ends with 0")
    return server


def test(tap, bed):
    w.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    no_targets(tap, bed, client, server)
    o.targets(bed)
    generic(tap, bed, client, server)
    if os.path.isdir("/sys/fs/bpf") and subprocess.run(["mountpoint", "-q", "/sys/fs/bpf"]).returncode == 0:
        shared(tap, bed, client, server)
    else:
        tap.skip("attach: shared", "there is no BPF file system")
    deleted(tap, bed, client, server)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offfal"))
