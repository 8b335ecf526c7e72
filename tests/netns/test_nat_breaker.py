#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44 as an operator meets it: what check and run say, what explain leaves alone, numbers that add up."""
import os

import nat
import wire as w
from nat import A, A2, S

BLOCKS = "port_block: 16\nports: 4096-4127\nquarantine: 0s\nlimits: { sessions: 1 }\nlog: { events: blocks, file: %s }"


def lines(path):
    with open(path, encoding="ascii") as f:
        return [line.split()[2:] for line in f]


def explain_is_not_told(tap, bed, watch, mode):
    log = os.path.join(bed.dir, "explain.log")
    with nat.Nat(tap, bed, watch, BLOCKS % log, "explain", mode=mode, outside="203.0.113.64/31") as net:
        net.same(net.nat()["blocks_cnt"], 4, "blocks nobody was given yet are counted")
        net.same([a["blocks_cnt"] for a in net.nat("--addresses")["addresses"]], [2, 2], "also by address")

        def explain():
            return bed.run("r", [nat.find_millrace(), "--name", net.m.instance, "explain", "--in", "lan", "udp", A + ":999", "to", S + ":22"])
        net.ok("becomes" in explain(), "says what it would become")
        said = bed.run("r", [nat.find_millrace(), "--name", net.m.instance, "explain", "--in", "lan", "udp", A + ":999", "to", nat.BOX["wan"] + ":22"])
        net.ok("for the box itself" in said and "becomes" not in said, "what is for the box itself is not translated", said)
        outer, inner = net.udp("s", S, 7000), net.udp("a", A, 5000)
        net.ok(net.mapped(inner, outer), "a session")
        shown = bed.run("r", [nat.find_millrace(), "--name", net.m.instance, "show", "flows"])
        row = [line.split() for line in shown.splitlines() if A + ":5000" in line]
        net.ok(row and row[0][3].startswith("203.0.113.6") and row[0][4] == ">", "show flows says what an end becomes", shown)
        net.ok("nat44-session-limit" in explain(), "says what it would be refused for")
        net.same(net.nat()["refused"]["session-limit"], 0, "and counts nothing")
        w.wait_for(lambda: len(lines(log)) > 1, 3)
        net.same([line[0] for line in lines(log)], ["log-start", "block-add"], "the log tells of the block that was given, and of no other")


def hairpinned_ping_in_the_log(tap, bed, watch, mode):
    log = os.path.join(bed.dir, "ping.log")
    options = "static: [ { inside: %s, outside: 203.0.113.70 } ]\nlog: { file: %s }" % (A2, log)
    with nat.Nat(tap, bed, watch, options, "hairpinned ping", mode=mode) as net:
        out = bed.run("b", ["ping", "-n", "-c", "1", "-W", "3", "203.0.113.70"], check=False)
        net.ok("1 received" in out, "arrives", out)
        w.wait_for(lambda: len(lines(log)) > 2, 3)
        got = [line for line in lines(log) if line[0] == "session-add" and line[2].startswith(A2 + ":")]
        net.same([line[3].split(":")[0] for line in got], ["203.0.113.70"], "a line for the host it goes to")
        net.same([line[2].split(":")[1] for line in got], [line[3].split(":")[1] for line in got], "whose identifier is the same on both sides")


def what_check_says(tap, bed, watch, mode):
    outside = "198.51.100.100-198.51.100.101"

    def check(name, options, outside):
        path = bed.file(name, nat.config(options, mode=mode, outside=outside))
        return path, bed.run("r", [nat.find_millrace(), "check", path], check=False)
    with nat.Nat(tap, bed, watch, "announce: true", "check", mode=mode, outside=outside) as net:
        w.wait_for(lambda: "198.51.100.101" in bed.run("r", "ip addr show"), 5)
        said = check("again.yaml", "announce: true", outside)[1]
        net.ok("this box's own" not in said, "an address that is announced is not taken for one of the box", said[-600:])
    bed.sysctl("r", "net/ipv4/ip_local_port_range", "'32768 60999'")
    said = check("own.yaml", "leftover: kernel", nat.BOX["wan"])[1]
    tap.ok("ports 32768-60999 are the NAT's" in said and "ip_local_port_range" in said, "check: ports that the kernel takes too", said[-600:])
    said = check("apart.yaml", "leftover: kernel\nports: 61000-65535", nat.BOX["wan"])[1]
    tap.ok("are the NAT's" not in said, "check: ports of its own", said[-600:])
    for where, wrong in ((bed.dir, True), (bed.dir + "/no/folder/a.log", True), (bed.dir + "/folder/a.log", False), (bed.dir + "/a.log", False)):
        said = check("log.yaml", "log: { file: %s }" % where, nat.POOL)[1]
        tap.same("the log cannot be written: " + where in said, wrong, "check: a log at " + where[len(bed.dir):])
    path = check("run.yaml", "log: { file: %s }" % bed.dir, nat.POOL)[0]
    said = bed.run("r", ["sh", "-c", "exec %s --name %s run %s 2>&1" % (nat.find_millrace(), net.m.instance, path)], check=False)
    tap.ok("%s:" % path in said and "the log cannot be written: " + bed.dir in said, "run says where in the file", said)


def test(tap, bed):
    nat.build(bed)
    nat.cases(tap, bed, (explain_is_not_told, hairpinned_ping_in_the_log, what_check_says), nat.modes("never")[:1])


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natbreaker"))
