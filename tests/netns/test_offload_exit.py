#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The program is gone while XDP carries: with on_exit: drop nothing is carried a second later, with on_exit: pass at once; the next start goes on.

    c0 ── lan [ r: millrace ] wan ── s0      numbered packets from c all the time
"""
import signal
import struct
import threading
import time

import offload as o
import wire as w


class Stream:
    """Numbered packets of a conversation; c keeps asking, s answers now and then."""

    def __init__(self, client, server):
        self.client, self.server, self.sent, self.last, self.going = client, server, 0, -1, True
        ip = w.packet(o.C4, o.S4, w.UDP, w.udp(o.C4, o.S4, 7000, 9, struct.pack("!II", 0, 0xFFFFFFFF)))
        self.there = ip[:-8]  # a number and its complement leave the checksum as it is
        self.back = w.swapped(w.packet(o.S4, o.C4, w.UDP, w.udp(o.S4, o.C4, 9, 7000, b"answer")))
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.send, self.receive)]
        for t in self.threads:
            t.start()

    def send(self):
        while self.going:
            self.client.send(self.there + struct.pack("!II", self.sent, self.sent ^ 0xFFFFFFFF))
            if self.sent % 10 == 0:
                self.server.send(self.back)
            self.sent += 1
            time.sleep(0.001)

    def receive(self):
        while self.going:
            f = self.server.take()
            if f and len(f) == 50:
                self.last = struct.unpack("!I", f[-8:-4])[0]

    def flows(self):
        """True when what is sent now arrives."""
        n = self.sent
        return w.wait_for(lambda: self.last > n, 10)

    def silent(self):
        """True when nothing of the next packets arrives."""
        n = self.sent
        w.wait_for(lambda: self.sent >= n + 200)
        time.sleep(0.1)
        return self.last < n

    def stop(self):
        self.going = False
        for t in self.threads:
            t.join(5)


def ends(tap, bed, stream, policy, hows):
    text = w.plain(top=o.flows()).replace("on_exit: pass", "on_exit: " + policy)
    path = bed.file(policy + ".yaml", text)
    m = bed.millrace("r", path)
    for how in hows:
        name = "on_exit: %s, %s" % (policy, how.name)
        tap.ok(stream.flows(), name + ": packets cross")
        o.goes_over(tap, bed, m, lambda: time.sleep(0.05), name, "--port", 7000, cnt=2)
        before = w.show(bed, m)
        n = stream.sent
        w.wait_for(lambda: stream.sent > n + 100)
        now = w.show(bed, m)
        grown, came_up = o.received(now) - o.received(before), o.up(now) - o.up(before)
        tap.ok(grown >= 50 and (o.never() or came_up <= 5), name + ": by XDP", (grown, came_up))
        if how == signal.SIGSTOP:  # nobody's heart beats, but it is there
            m.child.send_signal(how)
            tap.ok(w.wait_for(stream.silent, 15), name + ": nothing is carried any more")
            m.child.send_signal(signal.SIGCONT)
            tap.ok(stream.flows(), name + ": and again, when it goes on")
            o.goes_over(tap, bed, m, lambda: time.sleep(0.05), name + ", when it goes on", "--port", 7000, cnt=2)
            break
        m.stop(how)
        # a heart that does not beat is noticed after a second
        tap.ok(w.wait_for(stream.silent, 15), name + ": nothing is carried any more")
        tap.ok(stream.silent(), name + ": and nothing later")
        m = bed.millrace("r", path)
    tap.same(m.stop(), 0, "on_exit: %s: ends with 0" % policy)
    tap.ok(stream.silent(), "on_exit: %s: when it has ended nothing is carried" % policy)
    bed.run("r", [w.find_millrace(), "--name", m.instance, "cleanup"], check=False)
    tap.same(w.left_behind(bed, "r", m.instance), [], "on_exit: %s: nothing is left behind after cleanup" % policy)


def paused(tap, bed, client, server):
    """A second without the program under load: what came up meanwhile is not overtaken by what XDP carries when it goes on."""
    with bed.millrace("r", bed.file("paused.yaml", w.plain(top=o.flows(offload="always")))) as m:
        stream = w.Stream(client, server, pps=20000, flows=1)
        o.goes_over(tap, bed, m, lambda: time.sleep(0.05), "paused", "--port", 7000, cnt=1)
        at_first = stream.behind  # it may have gone over while the queue was never empty
        for _ in range(3):
            m.child.send_signal(signal.SIGSTOP)
            time.sleep(1.2)
            m.child.send_signal(signal.SIGCONT)
            time.sleep(0.8)
        o.goes_over(tap, bed, m, lambda: time.sleep(0.05), "paused, when it goes on", "--port", 7000, cnt=1)
        stream.stop()
        # XDP waits 0.3 s at most (docs/semantics.md): a worker kept from its CPU for longer may still hold a batch, once.  Were nothing waited for, 120 are
        # overtaken in the three pauses.
        behind = stream.behind - at_first
        tap.ok(behind <= 64, "paused: what came up meanwhile was not overtaken", behind)
        w.account(tap, bed, m, "paused")


def test(tap, bed):
    o.wire(bed)
    paused(tap, bed, w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0"))
    stream = Stream(w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0"))
    ends(tap, bed, stream, "drop", (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP))
    ends(tap, bed, stream, "pass", (signal.SIGKILL, signal.SIGTERM))
    stream.stop()


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offexi"))
