#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What changes while XDP carries a load: rules, routes, neighbours, addresses, MTUs, links, sessions, the configuration's own numbers.

Numbered packets of four flows run all the time.  After each change every packet goes where the change says, none the old way: captured at
two sinks, s and t.  How soon is measured elsewhere (bench/); here a change told by the kernel is waited for, one by a command that returns
is not.
"""
import struct
import subprocess
import threading
import time

import offload as o
import router as rt
import wire as w

FLOWS = [(family, src, dst, sport) for sport in (8100, 8101) for family, src, dst in ((4, rt.C4, rt.ANY4), (6, rt.C6, rt.ANY6))]
PIPES = """  out: { from: [ lan ], match: all%s, to: %s }
  in: { from: [ wan, wan2 ], match: all, to: lan }
"""
ROUTED = """  out: { from: [ lan ], match: all, to: route }
  in: { from: [ wan, wan2 ], match: all, to: route }
"""
CONFIG = """version: 1
memory: { huge_pages: never }
%s
interfaces:
%s%spipelines:
%s"""
GUARD = """stages:
  guard: { type: filter, rules: [ { name: cut, action: drop, proto: udp, sport: %d }, { name: rest, action: accept, proto: udp } ] }
"""


def config(pipes, order=("lan", "wan", "wan2"), stages=""):
    return CONFIG % (o.flows(), "".join("  %s: { device: %s, on_exit: pass }\n" % (d, d) for d in order), stages, pipes)


class Load:
    """Numbered packets from c, flow after flow, and an answer from s now and then; who received them."""

    def __init__(self, net, pps=2000):
        self.net, self.pps, self.sent, self.going, self.pad = net, pps, 0, True, 0
        self.made = {}
        self.arrived = {"s": {}, "t": {}}
        self.ports = {d: net.port(d) for d in ("c0", "s0", "t0")}
        self.threads = [threading.Thread(target=f, args=a, daemon=True) for f, a in ((self.send, ()), (self.receive, ("s",)), (self.receive, ("t",)))]
        for t in self.threads:
            t.start()

    def frames(self, k, pad):
        """A flow's packet but for its number, and its answer.  A number and its complement leave the checksum as it is."""
        if (k, pad) not in self.made:
            family, src, dst, sport = FLOWS[k]
            ip = rt.ip(src, dst, w.UDP, w.udp(src, dst, sport, 9, bytes(pad) + b"load" + struct.pack("!II", 0, 0xFFFFFFFF)), **(dict(frag=0x4000) if family == 4 else {}))
            self.made[k, pad] = self.net.frame(ip)[:-8], self.net.frame(rt.ip(dst, src, w.UDP, w.udp(dst, src, 9, sport, b"answer")), "s0")
        return self.made[k, pad]

    def send(self):
        start, base = time.monotonic(), 0
        while self.going:
            there, back = self.frames(self.sent % len(FLOWS), self.pad)
            self.ports["c0"].send(there + struct.pack("!II", self.sent, self.sent ^ 0xFFFFFFFF))
            if self.sent % 40 < len(FLOWS):
                try:
                    self.ports["s0"].send(back)
                except OSError:
                    pass  # its link is down
            self.sent += 1
            ahead = start + (self.sent - base) / self.pps - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            elif ahead < -0.05:
                start, base = time.monotonic(), self.sent

    def receive(self, sink):
        while self.going:
            f = self.ports[sink + "0"].take()
            if f and f[-12:-8] == b"load":
                self.arrived[sink].setdefault(struct.unpack("!I", f[-8:-4])[0], []).append(f[:12])

    def passed(self, cnt, want, patience_s):
        """The next cnt packets, once they are sent and those that should had time to arrive: {number: sinks}."""
        first = self.sent + 1
        w.wait_for(lambda: self.sent >= first + cnt)
        w.wait_for(lambda: all(n in self.arrived["s"] or n in self.arrived["t"] for n in range(first, first + cnt) if want(n % len(FLOWS))), patience_s)
        time.sleep(0.05)
        return {n: "".join(x * len(self.arrived[x].get(n, ())) for x in "st") for n in range(first, first + cnt)}

    def heads(self, sink, first):
        """(destination, source) addresses of what came to a sink from a number on."""
        return {(h[:6].hex(":"), h[6:].hex(":")) for n, hs in list(self.arrived[sink].items()) if n >= first for h in hs}

    def stop(self):
        self.going = False
        for t in self.threads:
            t.join(5)


def go(tap, load, name, want, strict=False, inside=True):
    """From now on (or, when the kernel has told, from soon on) each flow goes to `want`: a sink, "" for nowhere, or a function of the
    flow's number; in XDP too, once it is there again."""
    want = want if callable(want) else lambda k, to=want: to
    net = load.net

    def odd(cnt, patience_s=10):
        return {n: way for n, way in load.passed(cnt, want, patience_s).items() if way != want(n % len(FLOWS))}
    if not strict:
        w.wait_for(lambda: not odd(20, 0.5), 15)
    wrong = odd(200)
    tap.ok(not wrong, name + ": every packet goes the new way", dict(list(wrong.items())[:10]))
    if inside:
        flows = [k for k in range(len(FLOWS)) if want(k)]
        ports = {FLOWS[k][3] for k in flows}
        mine = lambda: [f["forward"] for f in w.show(net.bed, net.m, "flows", "--proto", "udp")["flows"]  # noqa: E731
                        if ports & {f["source_port"], f["destination_port"]} and f["forward"] and f["source_port"] != 9]
        over = w.wait_for(lambda: o.never() or sum(f["offloaded"] for f in mine()) >= len(flows), 15)
        tap.ok(over, name + ": in XDP again", mine())
        before = w.show(net.bed, net.m)
        wrong = odd(200)
        after = w.show(net.bed, net.m)
        came_up, grown = o.up(after, "lan") - o.up(before, "lan"), o.received(after, "lan") - o.received(before, "lan")
        # what a drop keeps out of the records comes up
        up_at_most = grown * (len(FLOWS) - len(flows)) // len(FLOWS) + 20
        tap.ok(not wrong and (o.never() or came_up <= up_at_most), name + ": and there every packet goes the new way", (dict(list(wrong.items())[:10]), came_up, grown))


def reload(net, text):
    path = net.bed.file("change.yaml", text)
    subprocess.run(net.bed.enter("r") + [w.find_millrace(), "--name", net.m.instance, "reload", path], check=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def commands(tap, load):
    """By commands of Millrace: in force when they return."""
    net = load.net
    go(tap, load, "the start", "s")
    base = config(PIPES % (", stages: [ guard ]", "wan"), stages=GUARD % 1)
    reload(net, base)
    go(tap, load, "a filter is put in", "s", strict=True)
    reload(net, base.replace("sport: 1 ", "sport: 8100 "))
    go(tap, load, "a rule drops two of the flows", lambda k: "" if FLOWS[k][3] == 8100 else "s", strict=True)
    reload(net, base)
    go(tap, load, "and no more", "s", strict=True)
    reload(net, config(PIPES % ("", "wan2")))
    go(tap, load, "another egress", "t", strict=True)
    other = "  more: { from: [ wan2 ], match: [ { dst: 192.0.2.0/24 } ], to: wan }\n" + PIPES % ("", "wan")
    reload(net, config(other, order=("wan2", "wan", "lan")))
    go(tap, load, "other numbers of everything", "s", strict=True)
    reload(net, config(PIPES % ("", "wan")).replace("in: {", "zz: {").replace("out: {", "aa: {"))
    go(tap, load, "other names", "s", strict=True)
    ids = {f["id"] for f in w.show(net.bed, net.m, "flows", "--proto", "udp")["flows"]}
    created = w.show(net.bed, net.m)["flows"]["created_cnt"]
    for port in (8100, 8101):
        net.bed.ask(net.m, "flows", "delete", "--port", port)
    go(tap, load, "sessions deleted", "s", strict=True)
    tap.ok(w.show(net.bed, net.m)["flows"]["created_cnt"] >= created + len(ids) >= created + 4, "they are made anew")


def told_by_the_kernel(tap, load):
    """Routes, neighbours, addresses, MTUs, links."""
    net, run = load.net, load.net.run
    reload(net, config(ROUTED))
    go(tap, load, "routed", "s", strict=True)

    def route(*words):
        run("r", ["ip", "route", words[0], "10.99.0.0/24", "via", *words[1]])
        run("r", ["ip", "-6", "route", words[0], "fd00:99::/64", "via", *words[2]])
    route("replace", [rt.T4], [rt.T6])
    go(tap, load, "a route moves", "t")
    route("replace", [rt.S4], [rt.S6])
    go(tap, load, "and back", "s")
    run("r", "ip route add %s/32 via %s" % (rt.ANY4, rt.T4))
    go(tap, load, "a longer prefix", lambda k: "t" if FLOWS[k][0] == 4 else "s")
    run("r", "ip route del %s/32" % rt.ANY4)
    go(tap, load, "and gone", "s")
    run("r", "ip route add blackhole %s/32" % rt.ANY4)
    go(tap, load, "a blackhole", lambda k: "" if FLOWS[k][0] == 4 else "s")
    run("r", "ip route del blackhole %s/32" % rt.ANY4)
    go(tap, load, "and gone again", "s")
    # the neighbour has another address
    other = "02:00:00:00:99:02"

    def heads(name, want):
        def same():
            first = load.sent
            load.passed(40, lambda k: "s", 1)
            return load.heads("s", first) == {want}
        w.wait_for(same, 15)
        go(tap, load, name, "s")
        first = load.sent
        load.passed(100, lambda k: "s", 10)
        tap.same(load.heads("s", first), {want}, name + ": all frames are from and to the right station")
    for lladdr, name in ((other, "a neighbour's address changes"), (rt.MACS["s0"], "and back again")):
        for address in (rt.S4, rt.S6):
            run("r", "ip neigh replace %s lladdr %s dev wan nud permanent" % (address, lladdr))
        heads(name, (lladdr, rt.MACS["wan"]))
    mine = "02:00:00:00:02:77"
    run("r", "ip link set wan address " + mine)
    for address in (rt.S4, rt.S6):
        run("r", "ip neigh replace %s lladdr %s dev wan nud permanent" % (address, rt.MACS["s0"]))
    heads("the egress changes its address", (rt.MACS["s0"], mine))
    # a smaller MTU: what does not fit comes up and is answered
    load.pad = 1300
    go(tap, load, "larger packets", "s")
    run("r", "ip link set wan mtu 1280")
    go(tap, load, "the link takes less", "", inside=False)
    dropped = w.drops(w.show(net.bed, net.m)).get("too-big", 0)
    tap.ok(dropped > 200, "they are dropped for their size", dropped)
    load.pad = 1200
    go(tap, load, "smaller ones", "s")
    run("r", "ip link set wan mtu 1500")
    load.pad = 1300
    go(tap, load, "the link takes more", "s")
    load.pad = 0


def links(tap, load):
    net, run = load.net, load.net.run
    run("r", "ip link set wan down")
    go(tap, load, "the link is down", "", inside=False)
    run("r", "ip link set wan up")
    for address in (rt.S4, rt.S6):
        run("r", "ip neigh replace %s lladdr %s dev wan nud permanent" % (address, rt.MACS["s0"]))
    run("r", "ip -6 addr replace %s/64 dev wan nodad" % rt.R6["wan"])
    run("r", "ip route replace 10.99.0.0/24 via %s" % rt.S4)
    run("r", "ip -6 route replace fd00:99::/64 via %s" % rt.S6)
    go(tap, load, "and up again", "s")
    run("s", "ip link set s0 down")
    go(tap, load, "the far end of the link is down", "", inside=False)
    run("s", "ip link set s0 up")
    o.targets(net.bed, (("s", "s0"),))
    go(tap, load, "and up", "s")


def test(tap, bed):
    def all_of_it(net):
        o.targets(bed, (("c", "c0"), ("s", "s0"), ("t", "t0")))
        o.fixed_neighbours(bed)
        hushed = [o.Counter(bed, x, x + "0") for x in "cst"]
        load = Load(net)
        try:
            for part in (commands, told_by_the_kernel, links):
                part(tap, load)
        finally:
            load.stop()
        o.close_all(*hushed)
    rt.one_half(tap, bed, "millrace", (all_of_it,), dict(config=config(PIPES % ("", "wan")), kernel_forwards=100))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offchg"))
