#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A worker that does not go on while the plan changes: said, nothing ended under its feet, and all is well once it goes on."""
import ctypes
import os
import platform
import subprocess

import wire as w

SRC, DST = "10.9.0.1", "10.9.0.2"
PROBE = w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 1, 9, b"probe"))
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17


def ptrace(what, tid):
    if ctypes.CDLL(None, use_errno=True).ptrace(ctypes.c_long(what), ctypes.c_long(tid), None, None):
        raise w.Failed("ptrace %#x: %s" % (what, os.strerror(ctypes.get_errno())))


class Stuck:
    """One thread stopped, the others not."""

    def __init__(self, tid):
        self.tid = tid

    def __enter__(self):
        ptrace(SEIZE, self.tid)
        ptrace(INTERRUPT, self.tid)
        os.waitpid(self.tid, 0x40000000)  # __WALL

    def __exit__(self, *exc):
        ptrace(DETACH, self.tid)


def worker(m):
    """The thread that uses the most processor time: the worker spins."""
    def used(tid):
        with open("/proc/%d/task/%s/stat" % (m.pid, tid)) as f:
            return sum(int(v) for v in f.read().rsplit(")", 1)[1].split()[11:13])
    return int(max((t for t in os.listdir("/proc/%d/task" % m.pid) if int(t) != m.pid), key=used))


def reload(bed, m, path):
    return subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", m.instance, "reload", path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)


def test(tap, bed):
    if platform.machine() != "x86_64":
        w.skip_all("the numbers of ptrace here are those of x86-64")
    w.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    spin = "flows: { capacity: 4k }\nworkers: { idle: spin }"
    config = w.plain(top=spin)
    bed.run("r", "ip link add spare type veth peer name spare1")
    bed.run("r", "ip link set spare up")
    bed.run("r", "ip link set spare1 up")
    more = config.replace("  wan:", "  spare: { device: spare }\n  wan:")
    with bed.millrace("r", bed.file("stuck.yaml", config)) as m:
        def crosses():
            client.send(PROBE)
            return server.take() is not None
        tap.ok(w.wait_for(crosses), "it runs")
        tid = worker(m)
        with Stuck(tid):
            d = reload(bed, m, bed.file("more.yaml", more))
            tap.ok(d.returncode == 1 and "did not take up" in d.stdout, "a reload that a worker does not take up fails and says so", d)
            bed.run("s", "ip link set s0 down")
            tap.ok(w.wait_for(lambda: m.text().count("did not take up") > 1), "so does a link that goes down", m.text())
        tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), "wan")["state"] == "down", 30), "taken up once the worker goes on")
        before = w.drops(w.settle(bed, m)).get("link-down", 0)
        client.send(PROBE)
        tap.ok(w.wait_for(lambda: w.drops(w.show(bed, m)).get("link-down", 0) > before), "by the workers too")
        bed.run("s", "ip link set s0 up")
        tap.ok(w.wait_for(crosses), "and packets cross again")
        tap.same(bed.ask(m, "show")["generation"], 1, "the generation is the first")
        d = reload(bed, m, bed.file("more.yaml", more))
        tap.ok(d.returncode == 0, "the same reload now succeeds", d)
        tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), "spare")["state"] == "up"), "with its interface")
        d = reload(bed, m, bed.file("stuck.yaml", config))
        tap.ok(d.returncode == 0 and "xdp" not in bed.run("r", "ip -d link show spare"), "and a reload takes it away again", d)
        tap.ok(w.wait_for(crosses), "packets cross")
        with Stuck(tid):
            bed.run("r", "ip link del wan")
            tap.ok(w.wait_for(lambda: m.text().count("device is gone, and a worker") > 0, 20), "a device that goes meanwhile is waited with", m.text())
        tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), "wan")["state"] == "absent", 30), "and taken out then")
        tap.same(m.stop(), 0, "ends with 0")
        tap.same(w.left_behind(bed, "r", m.instance), [], "and leaves nothing")


if __name__ == "__main__":
    w.sys.exit(w.main(test, "stuck"))
