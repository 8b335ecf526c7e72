#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: who had what when: the log, `nat who`, `show nat` (RFC 6888 section 4, REQ-12, REQ-14)."""
import datetime
import os
import re
import time

import nat
import wire as w
from nat import A, A2, B, S, T

LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) cgn (\S+)(?: (.*))?$")


def lines(path):
    with open(path) as f:
        return [LINE.match(l.rstrip("\n")) for l in f]


def events(path, kind):
    return [m.group(3) for m in lines(path) if m and m.group(2) == kind]


def who(net, *words, check=False):
    return net.bed.run("r", [nat.find_millrace(), "--name", net.m.instance, "nat", "who", *words], check=check)


def sessions(tap, bed, watch, mode):
    path = os.path.join(bed.dir, "sessions-%s.log" % mode)
    with nat.Nat(tap, bed, watch, "log: { events: sessions, file: %s }\ntimeouts: { udp: 1s, udp_unreplied: 1s, icmp: 1s }" % path, "log of sessions, " + mode, mode=mode) as net:
        out = net.outside_of("a0", A, 5000, S, 9)
        icmp = net.over(w.ip4(A2, S, w.ICMP, w.echo(A2, S, 8, 55)), "a0", "s0", lambda p: p[9] == w.ICMP)
        ends = net.connects(net.tcp("b", B, 5100), net.listen("s", S, 7100).getsockname(), net.socks[-1])
        want = "udp %s:5000 %s:%d %s:9" % (A, out[0], out[1], S)
        net.ok(w.wait_for(lambda: want in events(path, "session-add")), "a line for a UDP session", events(path, "session-add"))
        net.ok(icmp and w.wait_for(lambda: any(l.startswith("icmp %s:55 " % A2) for l in events(path, "session-add"))), "for a query", events(path, "session-add"))
        net.ok(ends and w.wait_for(lambda: "tcp %s:5100 %s:%d %s:7100" % ((B,) + ends[1] + (S,)) in events(path, "session-add")), "for TCP", events(path, "session-add"))
        net.same([l for l in open(path).read().splitlines() if not LINE.match(l)], [], "every line has the documented form")
        net.ok(w.wait_for(lambda: [l for l in events(path, "session-delete") if l.startswith(want)], 8), "a line when it has ended", events(path, "session-delete"))
        deleted = [l.split()[4:] for l in events(path, "session-delete") if l.startswith(want)]
        net.ok(deleted and deleted[0][0] == "1" and deleted[0][2] == "0" and int(deleted[0][4]) > 900, "with its packets, bytes and age", deleted)
        now = datetime.datetime.utcnow()
        stamps = [datetime.datetime.strptime(m.group(1), "%Y-%m-%dT%H:%M:%S.%fZ") for m in lines(path) if m]
        net.ok(stamps and all(abs((now - s).total_seconds()) < 60 for s in stamps), "times are those of the clock, in UTC")
        # nat who
        said = who(net, "%s:%d" % out, "--log", path)
        net.ok(A + ":5000" in said, "`nat who` tells whose it was, after it has ended", said)
        said = who(net, "%s:%d" % out)
        net.ok(A + ":5000" in said, "also without --log: from the file of the running instance", said)
        if ends:
            said = who(net, "%s:%d" % ends[1], "--proto", "tcp", "--log", path)
            net.ok(B + ":5100" in said, "and whose it is", said)
        when = stamps[0] - datetime.timedelta(minutes=10)
        said = who(net, "%s:%d" % out, "--at", when.strftime("%Y-%m-%dT%H:%M:%SZ"), "--log", path)
        net.ok(A not in said, "ten minutes before it was nobody's", said)
        # the file is moved away, as logrotate does
        os.rename(path, path + ".1")
        ports = iter(range(6000, 6999))
        net.ok(w.wait_for(lambda: net.outside_of("a0", A, next(ports), T, 9, to="t0") and os.path.exists(path), 10), "a file that was moved away is made anew")
        net.outside_of("a0", A, 7000, T, 9, to="t0")
        net.ok(w.wait_for(lambda: [l for l in events(path, "session-add") if ":7000 " in l]), "and written to")
    net.ok(events(path, "log-end"), "the end is written", open(path).read()[-300:])


def hairpin(tap, bed, watch, mode):
    path = os.path.join(bed.dir, "hairpin-%s.log" % mode)
    with nat.Nat(tap, bed, watch, "log: { events: sessions, file: %s }" % path, "log of a hairpin, " + mode, mode=mode) as net:
        b = net.outside_of("b0", B, 6000, S, 9)
        a = net.outside_of("a0", A, 5000, S, 9)
        net.over(w.ip4(A, b[0], w.UDP, w.udp(A, b[0], 5000, b[1])), "a0", "b0", lambda p: p[9] == w.UDP)

        def found():
            got = events(path, "session-add")
            return [l for l in got if l.startswith("udp %s:5000 %s:%d %s:%d" % ((A,) + a + b))] and [l for l in got if l.startswith("udp %s:6000 %s:%d %s:%d" % ((B,) + b + a))]
        net.ok(w.wait_for(found), "two lines, one for each inside host", events(path, "session-add"))


def blocks(tap, bed, watch, mode):
    path = os.path.join(bed.dir, "blocks-%s.log" % mode)
    with nat.Nat(tap, bed, watch, "log: { events: blocks, file: %s }\nport_block: 64\nports: 20000-29983\nquarantine: 1s\ntimeouts: { udp: 1s, udp_unreplied: 1s }" % path, "log of blocks, " + mode, mode=mode) as net:
        outs = [net.outside_of("a0", A, 5000 + n, S, 9) for n in range(20)]
        net.ok(w.wait_for(lambda: events(path, "block-add")), "a line for the block")
        net.same(len(events(path, "block-add")), 1, "one for 20 sessions (REQ-14)")
        m = re.match(r"^- (\S+) (\S+) (\d+)-(\d+)$", events(path, "block-add")[0])
        net.ok(m and m.group(1) == A and m.group(2) == outs[0][0] and int(m.group(4)) - int(m.group(3)) == 63 and all(int(m.group(3)) <= o[1] <= int(m.group(4)) for o in outs),
               "with the inside and outside address and the ports", (events(path, "block-add"), outs))
        net.ok(S not in open(path).read(), "no destination is logged (REQ-12)")
        said = who(net, "%s:%d" % outs[3], "--log", path)
        net.ok(A in said, "`nat who` answers from it", said)
        net.ok(w.wait_for(lambda: events(path, "block-delete"), 12), "a line when it is given back", open(path).read())


def overrun(tap, bed, watch, mode):
    path = os.path.join(bed.dir, "fast-%s.log" % mode)
    with nat.Nat(tap, bed, watch, "log: { events: sessions, file: %s, rate: 50 }" % path, "log too fast, " + mode, mode=mode) as net:
        net.port("s0")
        for n in range(600):
            net.send(w.ip4(A, S, w.UDP, w.udp(A, S, 5000 + n, 9)), "a0")
        net.ok(w.wait_for(lambda: events(path, "lost")), "what was lost is said in the log itself", open(path).read()[-300:])
        time.sleep(1.2)
        net.outside_of("a0", A, 7000, S, 9)
        w.wait_for(lambda: sum(int(l.split()[0]) for l in events(path, "lost")) + len(events(path, "session-add")) >= 601, 5)
        lost, written = sum(int(l.split()[0]) for l in events(path, "lost")), len(events(path, "session-add"))
        net.same(lost + written, 601, "written and lost are all there were")
        net.ok(written < 400, "no faster than allowed", written)
        told = net.nat()["log"]
        net.same([told["written_cnt"], told["lost_cnt"]], [written, lost], "`show nat` counts them")


def show(tap, bed, watch, mode):
    with nat.Nat(tap, bed, watch, "ports: 20000-29999", "show, " + mode, mode=mode) as net:
        out = [net.outside_of("a0", A, 5000 + n, S, 9) for n in range(5)]
        net.outside_of("b0", B, 6000, T, 9, to="t0")
        net.same([net.nat()[k] for k in ("subscribers_cnt", "mappings_cnt", "mappings_made_cnt")], [2, 6, 6], "subscribers and mappings are counted")
        addresses = net.nat("--addresses")["addresses"]
        net.same(len(addresses), 4, "--addresses: all of them")
        of_a = [x for x in addresses if x["address"] == out[0][0]]
        net.ok(of_a and of_a[0]["udp"]["taken_cnt"] >= 5, "--addresses: ports taken", addresses)
        subscribers = net.nat("--subscribers")["subscribers"]
        net.ok([x for x in subscribers if x["inside"] == A and x["sessions_cnt"] == 5 and x["mappings_cnt"] == 5], "--subscribers", subscribers)
        net.ok(subscribers and subscribers[0]["inside"] == A, "--subscribers: by use", subscribers)
        for words, cnt in ((("--mappings", "--inside", A), 5), (("--mappings", "--inside", "%s:5002" % A), 1), (("--mappings", "--outside", "%s:%d" % out[2]), 1), (("--mappings", "--limit", "2"), 2)):
            got = net.nat(*words)["mappings"]
            net.same(len(got), cnt, " ".join(words))
        got = net.nat("--mappings", "--outside", "%s:%d" % out[2])["mappings"]
        net.same([(x["inside"], x["inside_port"]) for x in got], [(A, 5002)], "--outside finds the inside end")
        text = bed.run("r", [nat.find_millrace(), "--name", net.m.instance, "show", "nat"])
        net.ok("cgn" in text, "and for people", text)


def test(tap, bed):
    nat.each(tap, bed, (sessions,) + tuple(nat.with_deaf(c) for c in (hairpin, blocks, overrun, show)), nat.modes("always"))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natlog"))
