#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every verb of the command line against a running instance: exit codes, sentences, JSON, what adds up."""
import json
import os
import signal
import socket
import stat
import subprocess
import time

import bed as netbed

CONFIG = """version: 1
interfaces: { lan: { device: lan, on_exit: pass }, wan: { device: wan, on_exit: pass } }
stages: { guard: { type: filter, default: accept, rules: [ { name: telnet, action: drop, proto: tcp, dport: %d } ] } }
pipelines:
  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }
  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }
"""


class Cli:
    def __init__(self, bed, m, tap):
        self.bed, self.m, self.tap = bed, m, tap

    def run(self, *words, instance=None):
        argv = self.bed.enter(self.m.space) + [netbed.find_millrace(), "--name", instance or self.m.instance, *words]
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, text=True, cwd=self.bed.dir)

    def refused(self, code, says, *words, **named):
        """One sentence on stderr, nothing on stdout, the right exit code."""
        d = self.run(*words, **named)
        good = d.returncode == code and says in d.stderr and not d.stdout and d.stderr.count("\n") == 1
        self.tap.ok(good, "%s: exit %d, '%s'" % (" ".join(words) or "nothing", code, says), "%d %s%s" % (d.returncode, d.stdout, d.stderr))

    def data(self, *words):
        return json.loads(self.run(*words, "--json").stdout)["data"]


def reads(cli, tap):
    for what in ("", "interfaces", "pipelines", "stages", "flows", "drops", "frames", "workers", "config"):
        words = ["show"] + ([what] if what else [])
        text, answer = cli.run(*words), json.loads(cli.run(*words, "--json").stdout)
        tap.ok(text.returncode == 0 and text.stdout and not text.stderr, " ".join(words), text.stderr)
        tap.same(answer["schema"], "millrace/%s/1" % "-".join(words), "its schema")
        tap.same((answer["instance"], answer["generation"]), (cli.m.instance, 1), "its instance and generation")


def adds_up(cli, tap):
    t = cli.data("show")["totals"]
    parts = t["forwarded_packets"] + t["kernel_packets"] + t["dropped_packets"] + t["held_packets"]
    tap.ok(t["received_packets"] > 20 and t["received_packets"] == parts and t["unaccounted_packets"] == 0, "received = sum of outcomes", t)
    drops = cli.data("show", "drops")["drops"]
    tap.ok(sum(d["packets"] for d in drops) == t["dropped_packets"] > 0, "drops by reason = dropped", drops)
    f = cli.data("show", "frames")["frames"]
    tap.same(sum(f[k] for k in ("pool_cnt", "fill_cnt", "rx_cnt", "tx_cnt", "held_cnt")), f["total_cnt"], "frames sum to the pool")


def flows(cli, tap):
    one = cli.data("show", "flows", "--proto", "icmp", "--addr", "10.9.0.0/24")
    tap.same(one["total_cnt"], 1, "the ping is one flow")
    f = one["flows"][0]
    tap.same((f["source"], f["destination"], f["state"], f["pipeline"], f["forward"]["packets"], f["reply"]["packets"]),
             ("10.9.0.1", "10.9.0.2", "established", "out", 20, 20), "and is told right")
    tap.same(cli.data("show", "flows", "--limit", "0")["shown_cnt"], 0, "--limit 0 only counts")
    tap.same(cli.data("flows", "delete", "--proto", "icmp")["deleted_cnt"], 1, "flows delete")
    tap.same(cli.data("show", "flows", "--proto", "icmp")["total_cnt"], 0, "it is gone")


def explain(cli, tap):
    before = cli.data("show")["totals"]["received_packets"]
    d = cli.data("explain", "--in", "lan", "tcp", "10.9.0.1:1", "to", "10.9.0.2:23")
    tap.same((d["verdict"], d["pipeline"]), ("drop", "out"), "explain a packet that is dropped")
    d = cli.data("explain", "--in", "lan", "tcp 10.9.0.1:1 > 10.9.0.2:80")
    tap.same((d["verdict"], d["egress"]), ("forward", "wan"), "explain a packet that is forwarded")
    tap.same(cli.data("show")["totals"]["received_packets"], before, "nothing was counted")


def top(cli, tap):
    d = cli.run("top", "--count", "2", "--interval", "200ms")
    tap.ok(d.returncode == 0 and d.stdout.count("packets/s") == 2 and "\033" not in d.stdout, "top in plain lines", d)
    lines = cli.run("--json", "top", "--count", "2", "--interval", "200ms").stdout.splitlines()
    tap.same([json.loads(l)["schema"] for l in lines], ["millrace/top/1"] * 2, "top in JSON, one object a line")


def reload(bed, cli, tap):
    bed.file("b.yaml", CONFIG % 24)
    bed.file("bad.yaml", CONFIG.replace("accept", "maybe") % 24)
    d = cli.run("reload", "b.yaml")
    tap.ok(d.returncode == 0, "reload", d.stderr)
    cli.refused(2, "bad.yaml:3:", "reload", os.path.join(bed.dir, "bad.yaml"))
    d = cli.data("explain", "--in", "lan", "tcp 10.9.0.1:1 > 10.9.0.2:24")
    tap.same(d["verdict"], "drop", "the good file is in force, the bad one changed nothing")


def misuse(bed, cli):
    cli.refused(2, "did you mean 'show'", "shwo")
    cli.refused(2, "did you mean 'drops'", "show", "dorps")
    cli.refused(2, "did you mean --addr", "show", "flows", "--adr", "10.0.0.0/8")
    cli.refused(2, "--proto belongs to", "show", "drops", "--proto", "tcp")
    cli.refused(2, "--limit belongs to: millrace show flows, millrace show routes, millrace show nat", "show", "neighbours", "--limit", "1")
    cli.refused(2, "digits, ., - and _", "show", instance="a b")
    cli.refused(2, "no prefix", "show", "flows", "--addr", "lan")
    cli.refused(2, "there are: out, in", "show", "flows", "--pipeline", "x")
    cli.refused(2, "say which flows", "flows", "delete")
    cli.refused(2, "there are: lan, wan", "explain", "--in", "x", "icmp 10.9.0.1 > 10.9.0.2")
    cli.refused(2, "'tpc' is no protocol", "explain", "--in", "lan", "tpc 10.9.0.1 > 10.9.0.2")
    cli.refused(2, "No such file", "run", "/nonexistent.yaml")
    cli.refused(1, "no instance", "show", instance="nobody-is-called-this")
    entries = ", ".join("{ dst: 10.0.%d.0/24 }" % n for n in range(256))
    bed.file("many.yaml", "version: 1\ninterfaces: { x: { pcap: in.pcap } }\npipelines:\n  p: { from: [ x ], match: [ %s ], to: back }\n"
             "  q: { from: [ x ], match: [ { dst: 10.1.0.0/16 } ], to: back }\n" % entries)
    cli.refused(2, "many.yaml:5:", "check", os.path.join(bed.dir, "many.yaml"))


def standard_files(bed, cli, tap):
    """Closed or full: said with exit 1, and what is printed never lands in a file the program opened."""
    bed.file("free.yaml", "version: 1\ninterfaces: { x: { pcap: in.pcap } }\npipelines: { p: { from: [ x ], match: all, to: back } }\n")
    with open(os.path.join(bed.dir, "in.pcap"), "wb") as f:
        f.write(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    for verb in ("version", "help", "help config", "help drops", "show", "show flows", "show --json", "check free.yaml"):
        for where in ("> /dev/full", ">&-"):
            line = "exec %s --name %s %s %s" % (netbed.find_millrace(), cli.m.instance, verb, where)
            d = subprocess.run(bed.enter("r") + ["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, text=True, cwd=bed.dir)
            tap.ok(d.returncode == 1 and d.stderr.count("\n") == 1, "%s %s: exit 1 and one sentence" % (verb, where), d)
    odd = os.path.join(os.fsencode(bed.dir), b"odd\xff.yaml")
    os.link(os.path.join(bed.dir, "free.yaml"), odd)
    d = subprocess.run([netbed.find_millrace(), "check", "--json", odd], stdout=subprocess.PIPE, cwd=bed.dir)
    tap.ok(d.returncode == 0 and json.loads(d.stdout)["file"].endswith("odd?.yaml"), "check --json of a file whose name is no UTF-8", d)
    with open(os.path.join(bed.dir, "in.pcap"), "ab") as f:
        f.write(bytes.fromhex("00000000000000003c0000003c000000") + bytes(60))
    bed.file("out.yaml", "version: 1\nmemory: { huge_pages: never }\ninterfaces: { x: { pcap: in.pcap, out: out.pcap } }\n"
             "pipelines: { p: { from: [ x ], match: all, to: back } }\n")
    line = "exec %s --name %s-closed run out.yaml <&- >&- 2>&-" % (netbed.find_millrace(), cli.m.instance)
    tap.same(subprocess.run(["sh", "-c", line], timeout=60, cwd=bed.dir).returncode, 0, "run with every standard file closed")
    with open(os.path.join(bed.dir, "out.pcap"), "rb") as f:
        tap.same(len(f.read()), 24 + 16 + 60, "its capture holds the packet and nothing else")


def main():
    tap = netbed.Tap()
    with netbed.Bed("cli") as bed:
        for space in ("a", "r", "b"):
            bed.ns(space)
        bed.veth("a", "eth0", "r", "lan")
        bed.veth("b", "eth0", "r", "wan")
        for space, n in (("a", 1), ("b", 2)):
            bed.host(space, "eth0")
            bed.run(space, "ip addr add 10.9.0.%d/24 dev eth0" % n)
        config = bed.file("a.yaml", CONFIG % 23)
        with bed.millrace("r", config) as m:
            cli = Cli(bed, m, tap)
            path = "/run/millrace/%s.sock" % m.instance
            tap.same(stat.S_IMODE(os.stat(path).st_mode), 0o600, "the socket is root's alone")
            tap.ok("0% packet loss" in bed.run("a", "ping -q -c 20 -i 0.02 10.9.0.2"), "ping crosses")
            bed.run("a", ["timeout", "0.5", "bash", "-c", ": < /dev/tcp/10.9.0.2/23"], check=False)
            reads(cli, tap)
            adds_up(cli, tap)
            flows(cli, tap)
            explain(cli, tap)
            top(cli, tap)
            reload(bed, cli, tap)
            misuse(bed, cli)
            standard_files(bed, cli, tap)
            cli.refused(1, "another instance answers", "run", config)
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(b"garbage\n" + b"x" * 100000)
                time.sleep(0.2)
            tap.ok(cli.run("show").returncode == 0, "it goes on after garbage on its socket")
            tap.same(m.stop(signal.SIGINT), 0, "SIGINT: exit 0")
            tap.ok(not os.path.exists(path), "the socket is gone")
    return tap.done()


if __name__ == "__main__":
    raise SystemExit(main())
