#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Reload under load: a good file loses no packet and keeps sockets and flows, a bad one changes nothing and says why."""
import os
import signal
import subprocess

import wire as w

RULES = """stages:
  guard:
    type: filter
    rules:
      - { name: telnet, action: drop, proto: udp, dport: 23 }
%s"""
STAGED = ", stages: [ guard ]"
ONE = w.plain(interface=", rx_ring: 8192", stages=RULES % "", out=STAGED, into=STAGED)
# other rules, another order of pipelines on one side, an exception the kernel's tables must learn
TWO = w.plain(interface=", rx_ring: 8192", stages=RULES % "      - { name: more, action: drop, src: [ 10.8.0.0/16, \"fd00:8::/32\" ] }\n", out=STAGED,
              into=", except: [ { proto: tcp, dport: 179 } ]" + STAGED)
CUT = w.plain(interface=", rx_ring: 8192", stages=RULES % "      - { name: cut, action: drop, proto: udp, sport: 7003 }\n", out=STAGED, into=STAGED)

# what is wrong, the text, where it says so (line and column of the mistake)
BAD = (("unknown key", ONE.replace("rules:", "ruels:"), (10, 5)),
       ("bad prefix", TWO.replace("10.8.0.0/16", "10.8.0.0/33"), (12, 44)),
       ("dangling stage", ONE.replace("out: { from: [ lan ], match: all, stages: [ guard ]", "out: { from: [ lan ], match: all, stages: [ gurad ]"), (14, 47)),
       ("changed device", ONE.replace("device: wan", "device: lan2"), (6, 3)),
       ("missing device", ONE.replace("  wan: {", "  dmz: { device: nowhere }\n  wan: {"), (6, 3)),
       ("another memory", ONE.replace("huge_pages: never", "huge_pages: never, frames: 999"), None),
       ("no YAML", "version: 1\ninterfaces: [\n", (3, 1)))


def reload(bed, m, *path):
    """Exit code and what it wrote to stderr."""
    done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", m.instance, "reload", *path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stderr.decode()


def generation(bed, m):
    return bed.ask(m, "show")["generation"]


def numbers(value, path=""):
    """All counters of an answer, by where they are."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from numbers(v, path + "/" + k)
    elif isinstance(value, list):
        for n, v in enumerate(value):
            name = v.get("name", v.get("queue", v.get("interface", n))) if isinstance(v, dict) else n
            yield from numbers(v, "%s/%s" % (path, name))
    elif isinstance(value, int) and not isinstance(value, bool) and (path.endswith("_packets") or path.endswith("_bytes")):
        if not path.endswith(("unaccounted_packets", "unfinished_packets", "held_packets", "memory_bytes", "frame_bytes", "range_bytes", "mtu_bytes")):
            yield path, value


class Monotonic:
    """Remembers counters and what went back; what is not shown for a while (a pipeline of the other file) is to go on from where it was."""

    def __init__(self):
        self.last, self.back = {}, []

    def look(self, bed, m):
        now = dict(numbers(w.show(bed, m)))
        self.back += ["%s from %d to %d" % (k, self.last[k], v) for k, v in now.items() if v < self.last.get(k, 0)]
        self.last.update(now)


def test_load(tap, bed, client, server):
    good = [bed.file("one.yaml", ONE), bed.file("two.yaml", TWO)]
    bad = [(what, bed.file("bad%d.yaml" % n, text), at) for n, (what, text, at) in enumerate(BAD)]
    with bed.millrace("r", good[0]) as m:
        stream, counters = w.Stream(client, server), Monotonic()
        w.wait_for(lambda: len(stream.arrived) > 100)
        flows = {f["id"]: f for f in w.show(bed, m, "flows")["flows"]}
        generations, codes = [generation(bed, m)], []
        for n in range(20):
            codes.append(reload(bed, m, good[1 - n % 2])[0])
            generations.append(generation(bed, m))
            counters.look(bed, m)
            if n < len(bad):
                what, path, at = bad[n]
                code, said = reload(bed, m, path)
                where = "%s:%d:%d:" % (path, *at) if at else path + ":"
                tap.ok(code == (1 if what == "missing device" else 2) and where in said and len(said.splitlines()) == 1, "%s: refused in one sentence with its place" % what, (code, where, said))
                tap.same(generation(bed, m), generations[-1], "%s: nothing changed" % what)
        tap.same(codes, [0] * 20, "20 reloads under load succeed")
        tap.same(generations, list(range(1, 22)), "each is one generation further")
        failures = w.show(bed, m)["reload_failures_cnt"]
        tap.same(failures, len(BAD), "the refused ones are counted")
        # the same by signal: the file it runs is read again
        path = w.show(bed, m)["path"]
        for n, text in enumerate((ONE, TWO, ONE)):
            bed.file(os.path.basename(path), text)
            m.child.send_signal(signal.SIGHUP)
            tap.ok(w.wait_for(lambda: generation(bed, m) == 22 + n), "SIGHUP number %d takes hold" % (n + 1))
            counters.look(bed, m)
        with open(path, "w") as f:
            f.write(BAD[0][1])
        m.child.send_signal(signal.SIGHUP)
        tap.ok(w.wait_for(lambda: w.show(bed, m)["reload_failures_cnt"] == failures + 1), "SIGHUP with a bad file is refused")
        tap.same(generation(bed, m), 24, "and changes nothing")
        tap.ok("%s:10:5:" % path in m.text(), "and the log says where it is wrong", m.text())
        after = {f["id"]: f for f in w.show(bed, m, "flows")["flows"]}
        lost = stream.stop()
        tap.same((lost, stream.behind), ([], 0), "of %d packets none is lost, and none comes behind a later one of its flow" % stream.sent)
        d = w.account(tap, bed, m, "reload")
        tap.same(set(after), set(flows), "the flows are the same sessions")
        tap.ok(all(after[i]["age_ms"] > flows[i]["age_ms"] and after[i]["forward"]["packets"] > flows[i]["forward"]["packets"] for i in flows),
               "with their age and counters kept", after)
        tap.same([i["opened_cnt"] for i in d["interfaces"]], [1, 1], "no socket was opened again")
        tap.same(counters.back, [], "no counter ever went back")
        tap.same(m.stop(), 0, "ends with 0")


def matches(turn):
    """The stream is matched by another pipeline and another entry each time, among many; what it is never is unmatched."""
    others = ["{ src: 10.%d.%d.0/24, proto: udp, dport: [ %d ] }" % (100 + turn, n, n + 1) for n in range(100)]
    mine = ["{ dst: 10.9.0.0/24, proto: [ udp, tcp ] }", "{ src: [ 10.9.0.1, \"fd00::/16\" ] }", "{ proto: udp, dport: [ 1-10 ] }"][turn]
    others.insert((7, 55, 98)[turn], mine)
    name = ("first", "second", "first")[turn]
    pipelines = "  %s:\n    from: [ lan ]\n    match:\n%s\n    to: wan\n" % (name, "\n".join("      - " + o for o in others))
    more = "  other: { from: [ lan ], match: [ { proto: gre } ], to: wan }\n"
    text = w.plain(interface=", rx_ring: 8192", top="workers: { count: 2 }\nflows: { capacity: 4k }")
    return text[:text.index("  out:")] + (more + pipelines if turn == 1 else pipelines + more) + text[text.index("  in:"):]


def test_matches(tap, bed, client, server):
    files = [bed.file("matches%d.yaml" % n, matches(n)) for n in range(3)]
    with bed.millrace("r", files[0]) as m:
        stream, counters = w.Stream(client, server), Monotonic()
        w.wait_for(lambda: len(stream.arrived) > 100)
        codes = []
        for n in range(1, 16):
            codes.append(reload(bed, m, files[n % 3])[0])
            counters.look(bed, m)
        lost = stream.stop()
        tap.same(codes, [0] * 15, "15 reloads that change what is matched, and by which pipeline")
        tap.same((lost, stream.behind), ([], 0), "of %d packets none is lost, none overtaken" % stream.sent)
        d = w.account(tap, bed, m, "matches")
        tap.same(w.interface(d, "lan")["steer"]["passed_packets"], 0, "none was left to the kernel in between")
        tap.same(counters.back, [], "no counter went back")
        codes = reload(bed, m, files[1])[0], reload(bed, m, files[0])[0]
        counters.look(bed, m)
        tap.same((codes, counters.back), ((0, 0), []), "nor did one of a pipeline that was away")
        tap.same(w.interface(d, "lan")["received_packets"], stream.sent, "each packet is counted once")
        tap.same(m.stop(), 0, "ends with 0")


def test_storm(tap, bed, client, server):
    """Many at once: SIGHUPs without a pause and reloads side by side, then the end in the middle of one."""
    one, two = bed.file("one.yaml", ONE), bed.file("two.yaml", TWO)
    with bed.millrace("r", one) as m:
        stream = w.Stream(client, server)
        w.wait_for(lambda: len(stream.arrived) > 100)
        clients = [subprocess.Popen(bed.enter("r") + [w.find_millrace(), "--name", m.instance, "reload", (one, two)[n % 2]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for n in range(12)]
        for _ in range(50):
            m.child.send_signal(signal.SIGHUP)
        tap.same([c.wait(60) for c in clients], [0] * 12, "12 reloads at once among 50 SIGHUPs all succeed")
        lost = stream.stop()
        tap.same(lost, [], "of %d packets none is lost" % stream.sent)
        w.account(tap, bed, m, "storm")
        tap.ok(generation(bed, m) >= 13, "each is a generation", generation(bed, m))
        for _ in range(5):
            m.child.send_signal(signal.SIGHUP)
        m.child.send_signal(signal.SIGTERM)
        tap.same(m.stop(timeout_s=30), 0, "SIGTERM among SIGHUPs ends it with 0")
        tap.same(w.left_behind(bed, "r", m.instance), [], "and leaves nothing")


def test_rules(tap, bed, client, server):
    """A rule takes hold on flows that exist, from the moment reload returns."""
    one, cut = bed.file("one.yaml", ONE), bed.file("cut.yaml", CUT)
    frames = [w.packet("10.9.0.1", "10.9.0.2", w.UDP, w.udp("10.9.0.1", "10.9.0.2", 7000 + n, 9, b"rules")) for n in range(8)]
    with bed.millrace("r", one) as m:
        for name, path, let in (("before", None, frames), ("rule added", cut, frames[:3] + frames[4:]), ("rule removed", one, frames)):
            if path:
                tap.same(reload(bed, m, path)[0], 0, name + ": reload")
            for f in frames * 3:
                client.send(f)
            tap.same(sorted(server.take_cnt(3 * len(let))), sorted(let * 3), name + ": holds for every flow at once")
        w.account(tap, bed, m, "rules")
        tap.same(w.drops(w.show(bed, m)), {"filter-blocked": 3}, "what it dropped is counted by name")
        tap.same(w.show(bed, m)["flows"]["created_cnt"], 8, "no flow was made anew")


def test_interfaces(tap, bed, client, server):
    """An interface comes and goes by reload, the others do not notice."""
    bed.ns("d")
    w.quiet(bed, "d")
    bed.veth("d", "d0", "r", "dmz", a_mac=w.CLIENT_MAC)
    bed.host("d", "d0")
    bed.run("r", "ethtool -K dmz gro off")
    dmz = w.Port(bed, "d", "d0")
    with_dmz = ONE.replace("  wan: {", "  dmz: { device: dmz }\n  wan: {").replace("out: { from: [ lan ]", "out: { from: [ lan, dmz ]")
    one, two = bed.file("one.yaml", ONE), bed.file("dmz.yaml", with_dmz)
    frame = w.packet("10.9.0.3", "10.9.0.2", w.UDP, w.udp("10.9.0.3", "10.9.0.2", 1, 9, b"from the dmz"))
    with bed.millrace("r", one) as m:
        stream = w.Stream(client, server)
        for n in range(2):
            tap.same(reload(bed, m, two)[0], 0, "an interface is added")
            before = stream.others.count(frame)
            for _ in range(50):
                dmz.send(frame)
            tap.ok(w.wait_for(lambda: stream.others.count(frame) - before == 50), "its packets are forwarded", stream.others.count(frame) - before)
            tap.same(reload(bed, m, one)[0], 0, "it is removed")
            dev = next(d for d in w.json.loads(bed.run("r", "ip -j -d link show dev dmz")))
            tap.ok("xdp" not in dev, "nothing stays attached to it")
            dmz.send(frame)
        lost = stream.stop()
        tap.same(lost, [], "of %d packets of the others none is lost" % stream.sent)
        tap.same(stream.others.count(frame), 100, "nothing crosses from an interface that is gone")
        d = w.account(tap, bed, m, "interfaces")
        gone = w.interface(d, "dmz")
        tap.same((gone["state"], gone["received_packets"]), ("removed", 100), "its counters stay")
        tap.same(m.stop(), 0, "ends with 0")
        tap.same(w.left_behind(bed, "r", m.instance), [], "leaves nothing")


def test(tap, bed):
    w.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    for part in (test_load, test_matches, test_storm, test_rules, test_interfaces):
        part(tap, bed, client, server)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "reload"))
