#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What is changed on a device and put back: channels, rx-vlan offload, promiscuous mode; over a clean end, kill -9, the next start and
`cleanup`.  What is refused and warned about: queues without a socket, wires between zones."""
import json
import os
import re
import signal
import subprocess

import wire as w


def channels(bed, dev="lan"):
    """(rx, tx) now."""
    text = bed.run("r", ["ethtool", "-l", dev]).split("Current hardware settings")[1]
    return tuple(int(re.search(r"%s:\s+(\d+)" % d, text).group(1)) for d in ("RX", "TX"))


def rx_vlan(bed, dev="lan"):
    return "rx-vlan-offload: on" in bed.run("r", ["ethtool", "-k", dev])


def promiscuity(bed, dev):
    return json.loads(bed.run("r", ["ip", "-j", "-d", "link", "show", dev]))[0]["promiscuity"]


def state_file(m):
    return "/run/millrace/%s.state" % m.instance


def bed_of_two(bed, peer_queues=1):
    """Two queues on every device; the hosts send on `peer_queues`, so that the appliance may have fewer than it could."""
    w.wire(bed, queues=(2, 2))
    for space, dev in (("c", "c0"), ("s", "s0")):
        bed.run(space, ["ethtool", "-L", dev, "rx", 2, "tx", peer_queues])


def millrace(bed, *words):
    done = subprocess.run(bed.enter("r") + [w.find_millrace(), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def kill(m):
    m.child.send_signal(signal.SIGKILL)
    m.child.wait(20)


def check(bed, text):
    return millrace(bed, "check", "--json", bed.file("check.yaml", text))


def warnings(bed, text):
    code, out, err = check(bed, text)
    return json.loads(out)["data"]["warnings"] if code == 0 else [err]


def crosses(tap, bed, m, name):
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    for way, (tx, rx) in (("out", (client, server)), ("in", (server, client))):
        frames = [w.packet("10.9.0.1", "10.9.0.2", w.UDP, w.udp("10.9.0.1", "10.9.0.2", 1000 + n, 9, b"%d" % n)) for n in range(50)]
        for f in frames:
            tx.send(f)
        tap.ok(sorted(rx.take_cnt(len(frames))) == sorted(frames), "%s: 50 frames cross, %s" % (name, way))
    w.account(tap, bed, m, name)
    client.close()
    server.close()


def set_and_restored(tap, bed):
    bed_of_two(bed)
    bed.run("r", ["ethtool", "-L", "lan", "rx", 2, "tx", 2])
    one, keep = (bed.file(n, w.plain(interface=i)) for n, i in (("one.yaml", ", channels: 1"), ("keep.yaml", "")))
    with bed.millrace("r", one) as m:
        tap.same((channels(bed), channels(bed, "wan")), ((1, 1), (1, 1)), "channels: 1 is set before the sockets are opened")
        i = w.interface(w.show(bed, m), "lan")
        tap.same((i["queue_cnt"], i["device_queue_cnt"], i["unserved_queue_cnt"], i["channels_set"]), (1, 1, 0, 1), "and shown")
        tap.ok(os.path.exists(state_file(m)), "what was there before is written down")
        crosses(tap, bed, m, "channels: 1")
        tap.same(m.stop(), 0, "ends with 0")
        tap.same((channels(bed), channels(bed, "wan")), ((2, 2), (2, 2)), "and restored at the end")
        tap.ok(not os.path.exists(state_file(m)), "with nothing left written down")
    with bed.millrace("r", one) as m:
        kill(m)
        tap.same(channels(bed), (1, 1), "kill -9 leaves them")
    with bed.millrace("r", keep) as m:
        tap.same((channels(bed), w.interface(w.show(bed, m), "lan")["queue_cnt"]), ((2, 2), 2), "the next start with channels: keep has those of before")
        tap.ok("put back on lan" in m.text(), "and says so", m.text())
        tap.same(m.stop(), 0, "ends with 0")
    with bed.millrace("r", one) as m:
        kill(m)
    with bed.millrace("r", one) as m:
        tap.same(channels(bed), (1, 1), "kill -9, start again with channels: 1")
        m.stop()
        tap.same(channels(bed), (2, 2), "the end restores those before the first run")
    with bed.millrace("r", one) as m:
        kill(m)
        code, out, err = millrace(bed, "--name", m.instance, "cleanup")
        tap.same((code, channels(bed), os.path.exists(state_file(m))), (0, (2, 2), False), "cleanup after kill -9 restores them")
    with bed.millrace("r", one) as m:
        bed.run("r", ["ethtool", "-L", "lan", "rx", 2, "tx", 2])
        tap.ok(w.wait_for(lambda: "has 2 receive queues now, 1 of them without a socket" in m.text()), "queues that appear are said", m.text())
        tap.same(w.interface(w.show(bed, m), "lan")["unserved_queue_cnt"], 1, "and shown")
        crosses(tap, bed, m, "with a queue more")
        m.stop()
        tap.same(channels(bed), (2, 2), "what somebody else has set stays")
    bed.clear()


def fewer(tap, bed):
    """The kernel takes away no queue that has a socket."""
    w.wire(bed, queues=(2, 2))
    for space, dev in (("c", "c0"), ("s", "s0")):
        bed.run(space, ["ethtool", "-L", dev, "rx", 2, "tx", 1])
    with bed.millrace("r", bed.file("two.yaml", w.plain(top="workers: { count: 2 }\nflows: { capacity: 4k }"))) as m:
        done = subprocess.run(bed.enter("r") + ["ethtool", "-L", "lan", "rx", "1", "tx", "1"], stderr=subprocess.PIPE)
        tap.ok(done.returncode != 0, "a queue with a socket cannot be taken away")
        crosses(tap, bed, m, "after that")
    bed.clear()


def refused(tap, bed):
    bed_of_two(bed)
    code, _, err = check(bed, w.plain(interface=", queues: 1"))
    tap.ok(code == 2 and "lan has 2 receive queues and 1 of them would have a socket: set channels: 1" in err, "queues without a socket are refused with a hint", err)
    for key in ("channels: 1", "channels: keep", "unserved: pass", "unserved: drop"):
        code, out, err = check(bed, w.plain(interface=", queues: 1, " + key))
        tap.same(code, 0, "unless it is said: queues: 1, %s %s" % (key, err))
    code, _, err = check(bed, w.plain(interface=", channels: 3"))
    tap.ok(code and "lan can have at most 2 channels, not 3" in err, "more channels than the device can have", err)
    bed.run("r", "ip tuntap add tap0 mode tap")
    bed.run("r", "ip link set tap0 up")
    code, _, err = check(bed, w.plain(interface=", channels: 1").replace("device: lan", "device: tap0"))
    tap.ok(code and "tap0 (driver tun) has no channels that could be set" in err, "a device without channels", err)
    code, _, err = check(bed, w.plain(interface=", channels: 0"))
    tap.ok(code == 2 and "want a number of 1 to 64 or keep" in err, "channels: 0", err)
    bed.clear()


def told(tap, bed):
    w.wire(bed, queues=(2, 2))
    two = "workers: { count: 2 }\nflows: { capacity: 4k }"
    got = warnings(bed, w.plain(top=two, interface=", mode: generic"))
    tap.ok(any("lan: in generic mode this driver does not tell the queue of a packet" in t for t in got), "check warns: generic mode on veth spreads nothing", got)
    got = warnings(bed, w.plain(top=two, interface=", queues: 1, unserved: pass"))
    tap.ok(any("lan: 1 queue for 2 workers" in t for t in got), "check warns: fewer queues than workers", got)
    got = warnings(bed, w.plain().replace("device: lan", "device: lan, zone: red").replace("device: wan", "device: wan, zone: blue"))
    tap.ok(any("ends of one wire but of different zones ('red', 'blue')" in t for t in got), "check warns: a wire between two zones", got)
    tap.same(warnings(bed, w.plain()), [], "and of nothing where nothing is wrong")
    code, out, _ = check(bed, w.plain())
    i = json.loads(out)["data"]["interfaces"][0]
    tap.same((i["rss"], i["promiscuous"], i["channels_set"]), ("the driver tells none", True, None), "check tells RSS, promiscuous mode and channels")
    code, out, _ = millrace(bed, "check", bed.file("text.yaml", w.plain()))
    tap.ok("2 queue(s), promiscuous" in out and "RSS: the driver tells none" in out, "in words too", out)
    bed.clear()


KERNEL = """version: 1
flows: { capacity: 4k }
memory: { huge_pages: never }
interfaces: { lan: { device: lan%s }, wan: { device: wan } }
pipelines: { out: { from: [ lan ], match: all, to: %s } }
"""


def device_modes(tap, bed):
    w.wire(bed)
    bed.run("r", ["ethtool", "-K", "lan", "rxvlan", "on"])
    tap.same((rx_vlan(bed), promiscuity(bed, "lan")), (True, 0), "before: rx-vlan offload on, not promiscuous")
    with bed.millrace("r", bed.file("l2.yaml", w.plain())) as m:
        tap.same((rx_vlan(bed), promiscuity(bed, "lan"), promiscuity(bed, "wan")), (False, 1, 1), "on a wire: rx-vlan offload off, promiscuous by itself")
        tap.same([i["promiscuous"] for i in w.show(bed, m)["interfaces"]], [True, True], "and shown")
        m.stop()
        tap.same((rx_vlan(bed), promiscuity(bed, "lan"), promiscuity(bed, "wan")), (True, 0, 0), "restored at the end")
    with bed.millrace("r", bed.file("l2.yaml", w.plain(interface=""))) as m:
        kill(m)
        tap.same((rx_vlan(bed), promiscuity(bed, "lan")), (False, 0), "kill -9: not promiscuous any more, rx-vlan offload still off")
    with bed.millrace("r", bed.file("l2.yaml", w.plain())) as m:
        m.stop()
        tap.same(rx_vlan(bed), True, "the end of the next run restores what the killed one had found")
    with bed.millrace("r", bed.file("l2.yaml", w.plain())) as m:
        kill(m)
    with bed.millrace("r", bed.file("other.yaml", KERNEL.replace("lan: { device: lan%s }, ", "").replace("from: [ lan ]", "from: [ wan ]") % "kernel")) as m:
        tap.same(rx_vlan(bed), True, "a start without that device restores it")
        tap.ok("put back on lan what an earlier run of this instance had changed: receive offloads" in m.text(), "and says so", m.text())
    with bed.millrace("r", bed.file("wire.yaml", KERNEL % ("", "kernel"))) as m:
        tap.same(promiscuity(bed, "lan"), 0, "not a wire: not promiscuous")
        bed.file("wire.yaml", KERNEL % ("", "wan"))
        code, _, err = millrace(bed, "--name", m.instance, "reload")
        tap.same((code, promiscuity(bed, "lan")), (0, 1), "a reload makes it one " + err)
        bed.file("wire.yaml", KERNEL % (", promiscuous: false", "wan"))
        code, _, err = millrace(bed, "--name", m.instance, "reload")
        tap.same((code, promiscuity(bed, "lan")), (0, 0), "a reload that says promiscuous: false " + err)
    bed.clear()


def test(tap, bed):
    set_and_restored(tap, bed)
    fewer(tap, bed)
    refused(tap, bed)
    told(tap, bed)
    device_modes(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "queues"))
