#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What goes wrong while it runs: starvation, links and devices that go and come, kill -9, other programs and instances.

After each the sums close, no frame is missing, and traffic flows again by itself.
"""
import os
import signal
import subprocess

import wire as w

SRC, DST = "10.9.0.1", "10.9.0.2"
PROBE = w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 1, 9, b"probe"))
REPLY = w.packet(DST, SRC, w.UDP, w.udp(DST, SRC, 9, 1, b"reply"))


def flows_again(tap, name, client, server):
    """Packets cross in both directions: sent until they do, then every one of twenty."""
    for way, tx, rx, frame in (("out", client, server, PROBE), ("in", server, client, REPLY)):
        def crosses():
            tx.send(frame)
            return rx.take() is not None
        if not tap.ok(w.wait_for(crosses, 15), "%s: traffic flows again, %s" % (name, way)):
            continue
        rx.take_cnt(0)
        # one after the other: how many fit at once is not the question
        arrived = 0
        for _ in range(20):
            tx.send(frame)
            arrived += w.wait_for(rx.take, 5) == frame
        tap.same(arrived, 20, "%s: and no packet is lost any more, %s" % (name, way))


def taken(tap, d, name):
    """What the XDP program sent to the socket arrived there or was counted by the kernel as lost."""
    for i in d["interfaces"]:
        lost = i["kernel_rx_dropped_packets"] + i["kernel_rx_ring_full_packets"]
        tap.same(i["rx_packets"] + lost, i["steer"]["steered_packets"], "%s, %s: steered = received + lost at the socket" % (name, i["name"]))


def flood(port, cnt):
    frames = [w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 2000 + n, 9, bytes(60))) for n in range(64)]
    for n in range(cnt):
        port.send(frames[n % 64])


WORKERS = "workers: { count: %d }\nflows: { capacity: 4k }"


def test_starvation(tap, bed, client, server, workers):
    for mode in ("copy", "generic"):
        name = "64 frames, %s, %d worker%s" % (mode, workers, "s" * (workers > 1))
        with bed.millrace("r", bed.file("small.yaml", w.plain(interface=", mode: " + mode, memory=", frames: 64", top=WORKERS % workers))) as m:
            flood(client, 5000)
            server.take_cnt(0)
            flows_again(tap, name + ", flood", client, server)
            d = w.account(tap, bed, m, name + ", flood")
            tap.same(d["frames"]["total_cnt"], 64, name + ": the pool has as many frames as were asked for")
            taken(tap, d, name)
            m.child.send_signal(signal.SIGSTOP)
            flood(client, 3000)
            m.child.send_signal(signal.SIGCONT)
            server.take_cnt(0)
            flows_again(tap, name + ", stopped for a while", client, server)
            d = w.account(tap, bed, m, name + ", stopped for a while")
            taken(tap, d, name + ", stopped for a while")
            tap.same(m.stop(), 0, name + ": ends with 0")


def test_pause(tap, bed, client, server):
    """A second without the program under load: what did not fit is the kernel's loss, counted, and then it goes on."""
    with bed.millrace("r", bed.file("pause.yaml", w.plain(interface=", rx_ring: 256"))) as m:
        stream = w.Stream(client, server)
        w.wait_for(lambda: len(stream.arrived) > 100)
        m.child.send_signal(signal.SIGSTOP)
        at = stream.sent
        w.wait_for(lambda: stream.sent > at + 2000)
        m.child.send_signal(signal.SIGCONT)
        seen = len(stream.arrived)
        tap.ok(w.wait_for(lambda: len(stream.arrived) > seen + 300), "after SIGSTOP and SIGCONT the stream goes on")
        lost = stream.stop()
        d = w.account(tap, bed, m, "pause")
        taken(tap, d, "pause")
        t, lan = d["totals"], w.interface(d, "lan")
        tap.same(len(lost), lan["kernel_rx_dropped_packets"] + lan["kernel_rx_ring_full_packets"] + t["dropped_packets"], "what is missing is what was counted as lost")


def test_links(tap, bed, client, server):
    with bed.millrace("r", bed.file("links.yaml", w.plain())) as m:
        for space, dev, iface in (("s", "s0", "wan"), ("r", "wan", "wan"), ("c", "c0", "lan"), ("r", "lan", "lan")):
            name = "%s of %s down" % (dev, space)
            before = w.drops(w.settle(bed, m)).get("link-down", 0)
            bed.run(space, "ip link set %s down" % dev)
            tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), iface)["state"] == "down"), name + ": shown as down")
            if iface == "wan":
                flood(client, 500)
                d = w.account(tap, bed, m, name)
                tap.same(w.drops(d).get("link-down", 0) - before, 500, name + ": what would leave there is dropped by name")
            bed.run(space, "ip link set %s up" % dev)
            tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), iface)["state"] == "up"), name + ": up again")
            flows_again(tap, name, client, server)
            w.account(tap, bed, m, name + " and up")
        # flapping under load
        stream = w.Stream(client, server)
        for _ in range(5):
            bed.run("s", "ip link set s0 down")
            bed.run("s", "ip link set s0 up")
            bed.run("r", "ip link set wan down")
            bed.run("r", "ip link set wan up")
        seen = len(stream.arrived)
        tap.ok(w.wait_for(lambda: len(stream.arrived) > seen + 200), "after links flapped under load the stream goes on")
        stream.stop()
        w.account(tap, bed, m, "flapping links")
        tap.same(m.stop(), 0, "links: ends with 0")


def test_device(tap, bed, client, server, workers, queues):
    """The device is deleted and made again under load, three times, each end of the wire once and one twice."""
    first = w.plain(top=WORKERS % workers)
    with bed.millrace("r", bed.file("device.yaml", first)) as m:
        for n, (iface, dev, space, host) in enumerate((("wan", "wan", "s", "s0"), ("lan", "lan", "c", "c0"), ("wan", "wan", "s", "s0"))):
            name = "%d worker%s, %s deleted, number %d" % (workers, "s" * (workers > 1), dev, n + 1)
            steered = w.interface(w.show(bed, m), iface)["steer"]["steered_packets"]
            stream = w.Stream(client, server) if iface == "wan" else None
            if stream:
                w.wait_for(lambda: len(stream.arrived) > 50)
            bed.run("r", "ip link del " + dev)
            tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), iface)["state"] == "absent"), name + ": shown as absent")
            why = w.interface(w.show(bed, m), iface)["why"]
            tap.ok(dev in why, name + ": and why", why)
            if stream:
                before = w.drops(w.show(bed, m)).get("link-down", 0)
                tap.ok(w.wait_for(lambda: w.drops(w.show(bed, m)).get("link-down", 0) > before), name + ": what would leave there is dropped by name")
                stream.stop()
            w.account(tap, bed, m, name)
            if n == 2:
                # a reload while it is away: the device comes back into the configuration of then
                cut = first.replace("stages:", "").replace("match: all, to: lan", "match: all, except: [ { proto: udp, sport: 10 } ], to: lan")
                done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", m.instance, "reload", bed.file("cut.yaml", cut)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                tap.same(done.returncode, 0, name + ": a reload meanwhile succeeds")
                tap.same(w.interface(w.show(bed, m), iface)["state"], "absent", name + ": and it is still absent")
            bed.veth(space, host, "r", dev, a_mac=w.SERVER_MAC if space == "s" else w.CLIENT_MAC, queues=queues[space == "s"])
            bed.host(space, host)
            bed.run("r", "ethtool -K %s gro off" % dev)
            if space == "s":
                server.close()
                server = w.Port(bed, "s", "s0")
            else:
                client.close()
                client = w.Port(bed, "c", "c0")
            tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), iface)["state"] == "up"), name + ": made again, it is taken up by itself")
            flows_again(tap, name, client, server)
            d = w.account(tap, bed, m, name + " and back")
            i = w.interface(d, iface)
            tap.same(i["opened_cnt"], n // 2 + 2, name + ": opened once more")
            tap.ok(i["steer"]["steered_packets"] > steered, name + ": its counters go on from where they were", (steered, i["steer"]))
            taken(tap, d, name)
        passed = w.interface(w.settle(bed, m), "wan")["steer"]["passed_packets"]
        server.send(w.packet(DST, SRC, w.UDP, w.udp(DST, SRC, 10, 1)))
        tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), "wan")["steer"]["passed_packets"] == passed + 1), "device: the exception of the reload holds on the new device")
        tap.same(m.stop(), 0, "device: ends with 0")
        tap.same(w.left_behind(bed, "r", m.instance), [], "device: leaves nothing")
    return client, server


def attempt(bed, config, instance):
    """`run` where it should refuse: exit code and what it wrote."""
    done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", instance, "run", config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.returncode, done.stdout.decode()


def refused(tap, name, got, *words):
    code, said = got
    tap.ok(code == 1 and len(said.splitlines()) == 1 and all(word in said for word in words), name + ": refused in one sentence", got)


def test_others(tap, bed, client, server):
    config, name = bed.file("others.yaml", w.plain()), bed.name("r")
    livegen = os.path.join(w.build_dir(), "bench", "livegen")
    if os.path.exists(livegen):
        # its sink is an XDP program that is not ours
        foreign = bed.spawn("r", [livegen, "--tx", "c0", "--tx-netns", bed.name("c"), "--sink", "lan", "--duration", 300, "--rate", 10])
        tap.ok(w.wait_for(lambda: "prog/xdp" in bed.run("r", "ip -d link show lan")), "a foreign XDP program is attached", foreign.text())
        before = bed.run("r", "ip -d link show lan")
        refused(tap, "a foreign XDP program on the device", attempt(bed, config, name), "lan", "already has an XDP program, sink", "others.yaml:5:3:")
        tap.same(bed.run("r", "ip -d link show lan"), before, "and it stays as it was")
        tap.ok("xdp" not in bed.run("r", "ip -d link show wan"), "and nothing is attached elsewhere")
        foreign.stop(signal.SIGKILL)
        w.wait_for(lambda: "xdp" not in bed.run("r", "ip -d link show lan"))
    else:
        tap.skip("a foreign XDP program", "no livegen at " + livegen)
    zero = bed.file("zero.yaml", w.plain(interface=", mode: zerocopy"))
    refused(tap, "zerocopy on a driver without", attempt(bed, zero, name), "lan", "veth", "zero")
    tap.same(w.left_behind(bed, "r", name), [], "and nothing is left")

    # two instances side by side, each with an interface of its own, `back`
    one, two = (bed.file(d + ".yaml", "version: 1\nmemory: { huge_pages: never }\ninterfaces: { x: { device: %s } }\n"
                         "pipelines: { p: { from: [ x ], match: all, to: back } }\n" % d) for d in ("lan", "wan"))
    with bed.millrace("r", one, instance=name + "-1") as first, bed.millrace("r", two, instance=name + "-2") as second:
        def echoes(port, frame):
            port.send(frame)
            return port.take_cnt(1, 5) == [w.swapped(frame)]
        tap.ok(echoes(client, PROBE) and echoes(server, REPLY), "two instances work side by side")
        tap.same([bed.ask(m, "show")["instance"] for m in (first, second)], [name + "-1", name + "-2"], "each answers by its name")
        refused(tap, "control socket in use", attempt(bed, config, name + "-1"), name + "-1", "sock")
        refused(tap, "device of another instance", attempt(bed, config, name + "-3"), "lan", "in use by the running instance '%s-1'" % name)
        done = subprocess.run(bed.enter("r") + [w.find_millrace(), "check", config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        tap.ok(done.returncode == 0 and "in use by the running instance '%s-1'" % name in done.stdout.decode(), "check: a device of a running instance is only a note", done)
        tap.ok(echoes(client, PROBE) and echoes(server, REPLY), "which both of them do not notice")
        tap.same(first.stop(), 0, "one ends")
        tap.ok(echoes(server, REPLY), "the other goes on")
        tap.ok("xdp" not in bed.run("r", "ip -d link show lan") and "xdp" in bed.run("r", "ip -d link show wan"), "each took only its own away")
        second.child.send_signal(signal.SIGINT)
        second.child.wait(20)
        tap.same(second.child.returncode, 0, "SIGINT ends with 0")


def test_kill(tap, bed, client, server):
    config, name = bed.file("kill.yaml", w.plain()), bed.name("r")
    for n, sig in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)):
        with bed.millrace("r", config) as m:
            stream = w.Stream(client, server)
            tap.ok(w.wait_for(lambda: len(stream.arrived) > 50), "%s under load, number %d: it runs" % (sig.name, n + 1))
            m.child.send_signal(sig)
            m.child.wait(20)
            stream.stop()
            tap.same(m.child.returncode, 0 if sig == signal.SIGTERM else -9, "%s: it ends" % sig.name)
            # a killed program cannot take its socket's file away; the next start does
            def left():
                return [x for x in w.left_behind(bed, "r", name) if sig == signal.SIGTERM or not x.startswith("the socket")]
            w.wait_for(lambda: not left())  # the kernel detaches when the last reference is gone, after the process
            tap.same(left(), [], "%s: nothing stays attached, no TAP" % sig.name)
        server.take_cnt(0)
    with bed.millrace("r", config) as m:
        flows_again(tap, "started again", client, server)
        w.account(tap, bed, m, "started again")


def test(tap, bed):
    for workers, queues in ((1, (1, 1)), (2, (2, 1))):
        w.wire(bed, queues=queues)
        client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
        test_starvation(tap, bed, client, server, workers)
        client, server = test_device(tap, bed, client, server, workers, queues)
        if workers == 1:
            for part in (test_pause, test_links, test_others, test_kill):
                part(tap, bed, client, server)
        client.close()
        server.close()
        bed.clear()


if __name__ == "__main__":
    w.sys.exit(w.main(test, "faults"))
