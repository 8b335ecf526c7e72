#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The whole program on virtio-net in the dispatcher of libxdp (attach: shared): forward, killed and started again, ended.

In zero-copy where this kernel's driver has it.  Beside programs of somebody else: tests/netns/test_dispatch.c.
"""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_run as run
import wire as w

CONFIG = """version: 1
flows: { capacity: 4k }
memory: { huge_pages: never }
interfaces:
  lan: { device: r0, mode: %(mode)s, attach: shared, promiscuous: true }
  wan: { device: r1, mode: %(mode)s, attach: shared, promiscuous: true }
pipelines:
  out: { from: [ lan ], match: all, to: wan }
  in: { from: [ wan ], match: all, to: lan }
"""


def attached(bed):
    return [dev for dev in ("r0", "r1") if "xdp" in bed.run(None, ["ip", "link", "show", dev])]


def test(tap, bed):
    bed.prefix = "mr-vm"
    bed.run(None, [os.path.join(os.environ["MR_BUILD"], "tests", "vm", "test_zerocopy"), "setup"])
    mode, got = ("zerocopy", "zerocopy") if int(os.uname().release.split(".")[0]) >= 7 else ("auto", "copy")
    text = CONFIG % dict(mode=mode)
    m = run.millrace(bed, text)
    d = run.traffic(tap, bed, m, "shared")
    tap.same([i["mode"] for i in d["interfaces"]], [got] * 2, "modes as expected")
    tap.ok("removed" not in m.text(), "a first start finds nothing to remove")
    m.stop(signal.SIGKILL)
    tap.same(attached(bed), ["r0", "r1"], "kill -9 leaves the dispatchers")
    m = run.millrace(bed, text)
    for dev in ("r0", "r1"):
        tap.ok("removed from %s the XDP program that an earlier run" % dev in m.text(), "the next start says what it removed from " + dev, m.text())
    tap.same(bed.run(None, "bpftool net").count(" driver id "), 2, "one dispatcher on each device")
    run.traffic(tap, bed, m, "started again")
    tap.same(m.stop(), 0, "ends with 0")
    tap.same(attached(bed), [], "nothing is left attached")
    tap.same(os.listdir("/sys/fs/bpf/xdp"), [], "nothing is left pinned")


if __name__ == "__main__":
    if not os.environ.get("MR_VM"):
        w.skip_all("only in a guest of tests/vm/run --suite zerocopy")
    sys.exit(w.main(test, "shared"))
