#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A flow that is left to the kernel's stack: XDP passes it on, uncopied, and it is counted as before.

Between c and s the kernel of r routes what both pipelines give it; and r has servers of its own.
"""
import offload as o
import router as rt
import wire as w

PIPES = """  out: { from: [ lan ], match: all%s, to: kernel }
  in: { from: [ wan, wan2 ], match: all, to: kernel }
"""
CONFIG = """version: 1
memory: { huge_pages: never }
%s
interfaces:
  lan: { device: lan, on_exit: pass }
  wan: { device: wan, on_exit: pass }
  wan2: { device: wan2, on_exit: pass }
stages:
  guard: { type: filter, rules: [ { name: telnet, action: drop, proto: tcp, dport: 23 }, { name: udp, action: accept, proto: udp } ] }
pipelines:
%s"""


def through(tap, bed, net):
    m = net.m
    o.targets(bed)
    for family, near, far in rt.FAMILIES:
        v = "given to the kernel, IPv%d" % family
        with o.healthy(tap, bed, v):
            with o.Echo(bed, "s", far):
                a = o.Asker(bed, "c", near, far)
                o.goes_over(tap, bed, m, a.ask, v + ": UDP", "--port", a.port, cnt=2)
                d0, f0 = w.settle(bed, m), net.kernel_forwarded()
                with o.carried(tap, bed, m, v + ": UDP", least=400, most_up=20):
                    good = sum(a.ask(size) for size in range(12, 1412, 7))
                d1, f1 = w.settle(bed, m), net.kernel_forwarded()
                tap.same((good, a.lost), (200, 0), v + ": each question is answered")
                kernel = d1["totals"]["kernel_packets"] - d0["totals"]["kernel_packets"]
                tap.ok(400 <= f1 - f0 <= kernel <= f1 - f0 + 20, v + ": the kernel has forwarded what was given to it", (kernel, f1 - f0))
                a.close()
            with o.carried(tap, bed, m, v + ": TCP", least=8000, most_up=0.9):
                o.conversations(tap, bed, far, 2, v, size=6 << 20, threads=2)
            o.conversations(tap, bed, far, 500, v)
            o.ping(tap, bed, far, v)
        w.account(tap, bed, m, v)


def own(tap, bed, net):
    """Servers in r: only one direction is seen, so that `always` is needed."""
    m = net.m
    o.targets(bed)
    for near, box in ((rt.C4, rt.R4["lan"]), (rt.C6, rt.R6["lan"])):
        v = "the box itself, IPv%d" % (6 if ":" in near else 4)
        with o.healthy(tap, bed, v):
            with o.Echo(bed, "r", box):
                a = o.Asker(bed, "c", near, box)
                o.goes_over(tap, bed, m, a.ask, v, "--port", a.port, cnt=1)
                with o.carried(tap, bed, m, v + ": UDP", "lan", least=200, most_up=20):
                    tap.same((sum(a.ask(size) for size in range(12, 1412, 7)), a.lost), (200, 0), v + ": each question is answered")
                a.close()
            o.ping(tap, bed, box, v)
        w.account(tap, bed, m, v)


def test(tap, bed):
    text = CONFIG % (o.flows("8k"), PIPES % ", stages: [ guard ]")
    rt.one_half(tap, bed, "millrace", (lambda net: through(tap, bed, net),), dict(config=text, kernel_forwards=1 << 30))
    rt.one_half(tap, bed, "millrace", (lambda net: own(tap, bed, net),), dict(config=CONFIG % (o.flows(offload="always"), PIPES % "")))
    routed = o.route_config(o.flows(offload="always"))
    rt.one_half(tap, bed, "millrace", (lambda net: own(tap, bed, net),), dict(config=routed))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offker"))
