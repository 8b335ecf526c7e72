#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Reloads and the kernel tier: what only a restart can begin, and that plans given up or replaced leave it usable."""
import offload as o
import test_stuck as stuck
import wire as w


def asked(bed, m, name, text):
    return stuck.reload(bed, m, bed.file(name, text))


def test_restart(tap, bed):
    o.wire(bed)
    never = w.plain(top="flows: { capacity: 1k, offload: never }")
    with bed.millrace("r", bed.file("never.yaml", never)) as m:
        d = asked(bed, m, "wants.yaml", never.replace("offload: never", "offload: established"))
        tap.ok(d.returncode and "flows.offload" in d.stdout and "needs a restart" in d.stdout, "a kernel tier cannot be begun with by a reload", d)
        d = asked(bed, m, "one.yaml", never.replace("  out: {", "  out: { offload: always,", 1))
        tap.ok(d.returncode and "pipelines.out.offload" in d.stdout, "nor by one pipeline", d)
        d = asked(bed, m, "silent.yaml", never.replace(", offload: never", ""))
        tap.ok(d.returncode == 0, "who says nothing about it goes on without", d)
        tap.same(m.stop(), 0, "never: ends with 0")
    bed.clear()


def test_given_up(tap, bed):
    o.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    there = w.packet(stuck.SRC, stuck.DST, w.UDP, w.udp(stuck.SRC, stuck.DST, 1, 9, b"probe"))
    config = w.plain(top="flows: { capacity: 1k, offload: established, offload_after: 1 }\nworkers: { idle: spin }")

    def turn():
        client.send(there)
        server.send(w.swapped(w.packet(stuck.DST, stuck.SRC, w.UDP, w.udp(stuck.DST, stuck.SRC, 9, 1, b"reply"))))

    with bed.millrace("r", bed.file("given.yaml", config)) as m:
        o.goes_over(tap, bed, m, turn, "before", "--addr", stuck.SRC)
        with stuck.Stuck(stuck.worker(m)):
            d = asked(bed, m, "given.yaml", config)
            tap.ok(d.returncode == 1 and "did not take up" in d.stdout, "a reload is given up", d)
            server.take_cnt(0)
            for n in range(20):
                client.send(there)
            tap.same(len(server.take_cnt(20)), 20, "the plan before is in force again: XDP sends while the worker stands still")
        for n in range(3):
            d = asked(bed, m, "given.yaml", config)
            tap.ok(d.returncode == 0, "reload %d" % n, d)
            o.goes_over(tap, bed, m, turn, "after reload %d" % n, "--addr", stuck.SRC)
            w.settle(bed, m)
            with o.carried(tap, bed, m, "after reload %d" % n, least=20):
                for _ in range(20):
                    client.send(there)
        tap.ok("not used by this configuration" not in m.text(), "there was a half for every plan", m.text())
        tap.same(m.stop(), 0, "given up: ends with 0")
        tap.same(w.left_behind(bed, "r", m.instance), [], "and leaves nothing")


def test(tap, bed):
    test_restart(tap, bed)
    test_given_up(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offrel"))
