#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`to: back`: what was received leaves where it came in, with its MAC addresses swapped and nothing else changed."""
import wire as w

CONFIG = """version: 1
%s
memory: { huge_pages: never }
flows: { capacity: 1k }
interfaces:
  lan: { device: lan, mode: %s }
pipelines:
  echo: { from: [ lan ], match: all, to: back%s }
"""


def frames():
    for src, dst in (("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")):
        for n in (0, 1, 18, 600, 1400):
            yield w.packet(src, dst, w.UDP, w.udp(src, dst, 1000 + n % 3, 9, (bytes(range(256)) * 6)[:n]))
        yield w.packet(src, dst, w.TCP, w.tcp(src, dst, 1000, 80))
        yield w.packet(src, dst, w.UDP, w.udp(src, dst, 1000, 9, b"tagged"), tags=(7,))
        yield w.packet(src, dst, w.UDP, w.udp(src, dst, 1000, 9, b"tagged"), tags=((100, w.QINQ), 7))
        # a TTL of 1 passes: echoing is no hop
        yield w.packet(src, dst, w.UDP, w.udp(src, dst, 1000, 9, b"last"), **({"hops": 1} if ":" in src else {"ttl": 1}))
    yield w.eth(b"\0\1" + b"arp" * 14, w.ARP)
    yield w.eth(b"lldp" * 12, 0x88CC)


def test(tap, bed):
    for space in "cr":
        bed.ns(space)
        w.quiet(bed, space)
    bed.veth("c", "c0", "r", "lan")
    bed.host("c", "c0")
    bed.run("r", "ethtool -K lan gro off")
    port = w.Port(bed, "c", "c0")
    for mode in ("copy", "generic"):
        for state, workers in (("", ""), (", state: none", ""), ("", "workers: { idle: spin }"), ("", "workers: { idle: poll, cores: 0 }")):
            name = mode + state + ", " * bool(workers) + workers
            if workers and mode == "generic":
                continue  # how a worker waits has nothing to do with the mode
            with bed.millrace("r", bed.file("back.yaml", CONFIG % (workers, mode, state))) as m:
                sent = list(frames()) * 3
                for f in sent:
                    port.send(f)
                got = port.take_cnt(len(sent))
                tap.same(len(got), len(sent), name + ": every frame comes back")
                tap.same(sorted(got), sorted(w.swapped(f) for f in sent), name + ": MACs swapped, the rest as it was")
                d = w.account(tap, bed, m, name)
                tap.same(d["totals"]["forwarded_packets"], len(sent), name + ": counted as forwarded")
                tap.same(d["flows"]["live_cnt"] > 0, not state, name + ": sessions only where they are wanted")
                tap.same(m.stop(), 0, name + ": ends with 0")
    tap.same(w.left_behind(bed, "r", m.instance), [], "leaves nothing")


if __name__ == "__main__":
    w.sys.exit(w.main(test, "back"))
