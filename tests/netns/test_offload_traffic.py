#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Real traffic of real hosts inside XDP: TCP in bulk and in thousands of short connections, ping, UDP; a wire behind a filter, tagged too, and a router."""
import offload as o
import router as rt
import wire as w

FILTER = """stages:
  guard:
    type: filter
    default: drop
    rules:
      - { name: arp, action: accept, ethertype: arp }
      - { name: telnet, action: drop, proto: tcp, dport: 23 }
      - { name: out, action: accept, interface: lan }
      - { name: back, action: accept, state: [ established, related ] }
      - { name: nd, action: accept, proto: icmp6 }
"""
STAGED = ", stages: [ guard ]"


def traffic(tap, bed, m, families, name, cnt):
    for family, near, far in families:
        v = "%s, IPv%d" % (name, family)
        with o.healthy(tap, bed, v):
            with o.Echo(bed, "s", far):
                a = o.Asker(bed, "c", near, far)
                o.goes_over(tap, bed, m, a.ask, v + ": UDP", "--port", a.port)
                with o.carried(tap, bed, m, v + ": UDP", least=600, most_up=40):
                    good = sum(a.ask(size) for size in list(range(12, 1400, 14)) * 3)
                tap.same((good, a.lost), (300, 0), v + ": UDP of all sizes, every question answered")
                a.close()
            o.conversations(tap, bed, far, 2, v, size=12 << 20, threads=2)
            o.ping(tap, bed, far, v)
            o.ping(tap, bed, far, v, "-s", "1400", cnt=100)
            o.conversations(tap, bed, far, cnt, v)
        # what comes up: handshakes, ends, and what is on its way until the flow has gone over
        with o.healthy(tap, bed, v + ": iperf3", o.IPERF_RESETS):
            for words in ((), ("-R",)):
                with o.carried(tap, bed, m, v + ": iperf3", least=20000, most_up=0.9):
                    o.iperf(tap, bed, far, v, words)
        w.account(tap, bed, m, v)


def test_wire(tap, bed):
    o.wire(bed, hosts=True)
    text = w.plain(top=o.flows("32k"), stages=FILTER, out=STAGED, into=STAGED, interface=", rx_ring: 4096, tx_ring: 4096")
    with bed.millrace("r", bed.file("wire.yaml", text)) as m:
        traffic(tap, bed, m, o.FAMILIES, "wire behind a filter", 1500)
        tap.same(m.stop(), 0, "wire: ends with 0")
    bed.clear()


def test_tagged(tap, bed):
    """Frames with one tag and with two cross inside XDP as they are."""
    o.wire(bed)
    c, s = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    with bed.millrace("r", bed.file("tagged.yaml", w.plain(top=o.flows("1k")))) as m:
        for tags in ((5,), (5, 6), ((7, w.QINQ), 8)):
            for family, near, far in o.FAMILIES:
                name = "tags %s, IPv%d" % (tags, family)

                def there(n, size=40):
                    return w.packet(near, far, w.UDP, w.udp(near, far, 1000, 9, (b"%08d" % n).ljust(size)), tags=tags)

                def back(n, size=40):
                    return w.swapped(w.packet(far, near, w.UDP, w.udp(far, near, 9, 1000, (b"%08d" % n).ljust(size)), tags=tags))

                def turn():
                    c.send(there(0))
                    s.send(back(0))
                o.goes_over(tap, bed, m, turn, name, "--addr", near)
                w.settle(bed, m)
                s.take_cnt(0), c.take_cnt(0)
                with o.carried(tap, bed, m, name, least=1000):
                    for n in range(500):
                        c.send(there(n, n * 2))
                        s.send(back(n, n * 2))
                    tap.same(s.take_cnt(500), [there(n, n * 2) for n in range(500)], name + ": one way they arrive as sent, in order")
                    tap.same(c.take_cnt(500), [back(n, n * 2) for n in range(500)], name + ": and the other")
        w.account(tap, bed, m, "tags")
        tap.same(m.stop(), 0, "tags: ends with 0")
    o.close_all(c, s)
    bed.clear()


def test_route(tap, bed):
    def all_of_it(net):
        o.targets(bed, (("c", "c0"), ("s", "s0"), ("t", "t0")))
        traffic(tap, bed, net.m, rt.FAMILIES, "route", 1500)
    text = o.route_config(o.flows("32k"), stages=FILTER, out=STAGED, into=STAGED)
    rt.one_half(tap, bed, "millrace", (all_of_it,), dict(config=text))


def test(tap, bed):
    for part in (test_wire, test_tagged, test_route):
        part(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offtra"))
