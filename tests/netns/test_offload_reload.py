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


# What a configuration says of the flows from lan, whether they are XDP's then, and why not.
WORDS = (
    ("established", "", "", True, None),
    ("never", "", "", False, "off"),
    ("always", "", "", True, None),
    ("established", ", offload_after: 1000000", "", False, "packets"),
    ("never", "", ", offload: always", True, None),
    ("always", "", ", offload: never", False, "off"),
    ("always", "", ", state: none", False, None),
    ("established", ", offload_after: 1", "", True, None),
)


def test_words(tap, bed):
    """Words that change while datagrams go by, answered ones: none is lost or overtaken, whatever tier it met."""
    o.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")

    def config(word, more, pipeline):
        text = w.plain(top="flows: { capacity: 4k, offload: %s%s }" % (o.wanted(word), more), interface=", rx_ring: 4096")
        return text.replace("out: { from: [ lan ], match: all, to: wan", "out: { from: [ lan ], match: all, to: wan" + ("" if o.never() else pipeline))

    def whys(m):
        """Of the directions that come in by lan, which are forward ones where they began there."""
        found = w.show(bed, m, "flows")["flows"]
        return [f["forward" if f["source"] == o.C4 else "reply"] for f in found]

    def follows(m, inside, why):
        sides = whys(m)
        return sides and all(s["offloaded"] == inside and s["offload_why"] == why for s in sides)

    with bed.millrace("r", bed.file("words.yaml", config("always", "", ""))) as m:
        stream = w.Stream(client, server, pps=3000, flows=20)
        for word, more, pipeline, inside, why in WORDS:
            name = " ".join(("offload: %s%s%s" % (word, more, pipeline)).split())
            d = asked(bed, m, "words.yaml", config(word, more, pipeline))
            tap.ok(d.returncode == 0, name, d)
            for k in range(20):
                server.send(w.swapped(w.packet(o.S4, o.C4, w.UDP, w.udp(o.S4, o.C4, 9, 7000 + k, b"reply"))))
            n = stream.sent
            w.wait_for(lambda: stream.sent > n + 300)
            if not o.never() and "none" not in pipeline:
                tap.ok(w.wait_for(lambda: follows(m, inside, why)), name + ": " + (why or "all of them are XDP's"), whys(m))
            before, n = w.show(bed, m), stream.sent
            w.wait_for(lambda: stream.sent > n + 900)
            after = w.show(bed, m)
            # packets under way, and sums that are some milliseconds old, belong to neither
            up, all_of = o.up(after, "lan") - o.up(before, "lan"), o.received(after, "lan") - o.received(before, "lan")
            tap.ok(up < all_of // 10 if inside and not o.never() else up > all_of * 9 // 10, name + ": and so they are", (up, all_of))
        lost = stream.stop()
        w.account(tap, bed, m, "words")
        tap.same((lost, stream.behind), ([], 0), "of %d datagrams none is lost, none comes behind a later one of its flow" % stream.sent)
    bed.clear()


def test(tap, bed):
    test_words(tap, bed)
    test_restart(tap, bed)
    test_given_up(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offrel"))
