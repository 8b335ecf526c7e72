#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Reload of a router: an interface that routes lead out of comes and goes, and the packets for it go by the kernel, then by us, and none is lost."""
import subprocess

import router as rt
import wire as w

WITHOUT = rt.config().replace("  wan: { device: wan }\n", "").replace("from: [ wan, wan2 ]", "from: [ wan2 ]")
BAD = rt.config().replace("  wan2: {", "  dmz: { device: nowhere }\n  wan2: {")


class Source:
    """What w.Stream sends, in frames to the router."""

    def __init__(self, port):
        self.port = port

    def send(self, frame):
        self.port.send(bytes.fromhex(rt.MACS["lan"].replace(":", "")) + bytes.fromhex(rt.MACS["c0"].replace(":", "")) + frame[12:])


def reload(bed, m, path):
    return subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", m.instance, "reload", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60).returncode


def test(tap, bed):
    rt.build(bed)
    for space, address in (("r", rt.C4), ("r", rt.S4)):
        bed.run(space, "ping -c 1 -W 5 %s" % address)
    for dev, address in (("lan", rt.C4), ("wan", rt.S4)):
        bed.run("r", "ip neigh replace %s lladdr %s dev %s nud permanent" % (address, rt.MACS[{"lan": "c0", "wan": "s0"}[dev]], dev))
    one, two, bad = bed.file("without.yaml", WITHOUT), bed.file("with.yaml", rt.config()), bed.file("bad.yaml", BAD)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    with bed.millrace("r", one) as m:
        stream = w.Stream(Source(client), server, pps=5000, src=rt.C4, dst=rt.S4)
        w.wait_for(lambda: len(stream.arrived) > 100)
        for n in range(5):
            tap.same(reload(bed, m, bad), 1, "a reload is refused when it has opened one interface and lacks another")
            tap.same(reload(bed, m, two), 0, "the interface comes")
            before = w.show(bed, m)["totals"]["forwarded_packets"]
            tap.ok(w.wait_for(lambda: w.show(bed, m)["totals"]["forwarded_packets"] > before + 100), "and is routed to")
            tap.same(reload(bed, m, one), 0, "it goes")
            before = w.show(bed, m)["totals"]["kernel_packets"]
            tap.ok(w.wait_for(lambda: w.show(bed, m)["totals"]["kernel_packets"] > before + 100), "and the kernel routes what is for it")
        lost = stream.stop()
        tap.same((len(lost), lost[:5]), (0, []), "of %d packets none is lost" % stream.sent)
        d = w.account(tap, bed, m, "reloads")
        tap.same({k: v for k, v in w.drops(d).items() if v}, {}, "none is dropped")
        tap.same(m.stop(), 0, "ends with 0")


if __name__ == "__main__":
    w.sys.exit(w.main(test, "rreload"))
