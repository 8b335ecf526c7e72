#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What `show interfaces` and `check` say of an interface's kernel tier, and that it follows the devices: GRO of the peer, a peer that is down,
links, generic mode, configurations that want none; and that a wire goes on whatever they say."""
import json
import subprocess

import wire as w


def config(interface="", top="flows: { capacity: 4k }", pipeline=""):
    text = w.plain(interface=interface, top=top)
    return text.replace(", to: wan", pipeline + ", to: wan")


def offload(bed, m, name):
    return w.interface(w.show(bed, m, "interfaces"), name)["offload"]


def check(bed, text):
    words = bed.enter("r") + [w.find_millrace(), "check", "--json", bed.file("check.yaml", text)]
    done = subprocess.run(words, stdout=subprocess.PIPE, timeout=60, check=True)
    return {i["name"]: i["offload"] for i in json.loads(done.stdout)["data"]["interfaces"]}


def no_target(o):
    """What is said of a veth whose peer has nothing switched on."""
    return "before 6.3" if "before 6.3" in o["out_why"] else "ethtool -K s0 gro on"


def says(tap, o, way, is_, part, name):
    tap.ok(o[way] is is_ and part in o[way + "_why"] and bool(o[way + "_why"]) is not is_, "%s: %s %s, %r" % (name, way, o[way], o[way + "_why"]))


def becomes(tap, bed, m, interface, is_, part, name):
    w.wait_for(lambda: offload(bed, m, interface)["out"] is is_ and part in offload(bed, m, interface)["out_why"])
    says(tap, offload(bed, m, interface), "out", is_, part, name)


def crosses(tap, bed, m, name, cnt=40):
    """One flow, so that it goes over where it may."""
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    frames = [w.packet("10.9.0.1", "10.9.0.2", w.UDP, w.udp("10.9.0.1", "10.9.0.2", 1000, 9, b"%d" % n)) for n in range(cnt)]
    for f in frames:
        client.send(f)
    tap.ok(sorted(server.take_cnt(cnt)) == sorted(frames), "%s: %u frames cross" % (name, cnt))
    w.account(tap, bed, m, name)
    client.close()
    server.close()


def unforeseen(tap, bed, m):
    """GRO goes while the peer is down.  Linux 6.18 says afterwards that frames are taken, and they are not: what is lost is counted, and the
    interface is out at once.  Where the kernel knows better, nothing is lost."""
    bed.accept_redirects("s", "s0")
    becomes(tap, bed, m, "wan", True, "", "GRO on again")
    crosses(tap, bed, m, "a target again")
    before = offload(bed, m, "wan")
    bed.run("s", ["ip", "link", "set", "s0", "down"])
    becomes(tap, bed, m, "wan", False, "down", "down")
    bed.run("s", ["ethtool", "-K", "s0", "gro", "off"])
    bed.run("s", ["ip", "link", "set", "s0", "up"])
    w.wait_for(lambda: w.interface(w.show(bed, m, "interfaces"), "wan")["state"] == "up")
    w.wait_for(lambda: "down" not in offload(bed, m, "wan")["out_why"])
    believed = offload(bed, m, "wan")["out"]
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    frames = [w.packet("10.9.0.1", "10.9.0.2", w.UDP, w.udp("10.9.0.1", "10.9.0.2", 1000, 9, b"%d" % n)) for n in range(30)]
    for f in frames:
        client.send(f)
    arrived = len(server.take_cnt(0))
    d = w.account(tap, bed, m, "GRO that went while the peer was down")
    o = offload(bed, m, "wan")
    lost, sent = o["lost_packets"] - before["lost_packets"], o["sent_packets"] - before["sent_packets"]
    tap.same((arrived + lost, w.drops(d).get("redirect-lost", 0)), (30, o["lost_packets"]),
             "believed: %s, %u sent by the kernel tier, %u lost, %u arrived: every one is accounted for, as redirect-lost" % (believed, sent, lost, arrived))
    if believed:
        tap.ok(lost > 0 and lost == sent, "what the kernel tier sent was lost")

        def out():  # it is tried again after a rest, so it is asked again too
            client.send(frames[0])
            return "refused" in offload(bed, m, "wan")["out_why"]
        tap.ok(w.wait_for(out), "an egress that refuses is out", offload(bed, m, "wan")["out_why"])
    client.close()
    server.close()
    crosses(tap, bed, m, "by the workers")


def follows(tap, bed):
    w.wire(bed)
    bed.run("s", ["ethtool", "-K", "s0", "gro", "off"])
    told = check(bed, config())
    says(tap, told["lan"], "in", True, "", "check")
    says(tap, told["wan"], "out", False, no_target(told["wan"]), "check, the peer's GRO off")
    with bed.millrace("r", bed.file("mr.yaml", config(top="flows: { capacity: 4k, offload: always }"))) as m:
        says(tap, offload(bed, m, "lan"), "in", True, "", "a wire")
        says(tap, offload(bed, m, "wan"), "out", False, no_target(offload(bed, m, "wan")), "the peer's GRO off")
        crosses(tap, bed, m, "no target")
        tap.same(offload(bed, m, "wan")["sent_packets"], 0, "nothing was sent by the kernel tier")
        bed.accept_redirects("s", "s0")
        if w.wait_for(lambda: offload(bed, m, "wan")["out"]):
            says(tap, offload(bed, m, "wan"), "out", True, "", "GRO switched on")
            says(tap, check(bed, config())["wan"], "out", True, "", "check, GRO on")
            crosses(tap, bed, m, "a target")
            o = offload(bed, m, "wan")
            tap.ok(o["sent_packets"] > 0 and o["sent_bytes"] >= 42 * o["sent_packets"] and o["lost_packets"] == 0,
                   "the kernel tier sent %u packets, %u bytes, none lost" % (o["sent_packets"], o["sent_bytes"]))
            bed.run("s", ["ip", "link", "set", "s0", "down"])
            becomes(tap, bed, m, "wan", False, "down", "the peer is down")
            bed.run("s", ["ip", "link", "set", "s0", "up"])
            becomes(tap, bed, m, "wan", True, "", "and up")
            bed.run("s", ["ethtool", "-K", "s0", "gro", "off"])
            becomes(tap, bed, m, "wan", False, "ethtool -K s0 gro on", "GRO switched off")
            crosses(tap, bed, m, "no target any more")
            unforeseen(tap, bed, m)
        else:  # Linux before 6.3 tells nothing of a peer in another namespace
            says(tap, offload(bed, m, "wan"), "out", False, "before 6.3", "GRO switched on, and this kernel does not tell")


def reasons(tap, bed):
    for space, dev in (("c", "c0"), ("s", "s0")):
        bed.accept_redirects(space, dev)
    for name, text, part in (
            ("generic mode", config(interface=", mode: generic"), "generic mode"),
            ("offload: never", config(top="flows: { capacity: 4k, offload: never }"), "no pipeline from it"),
            ("state: none", config(pipeline=", state: none"), "no pipeline from it")):
        told = check(bed, text)
        says(tap, told["lan"], "in", False, part, "check, " + name)
        with bed.millrace("r", bed.file("mr.yaml", text)) as m:
            says(tap, offload(bed, m, "lan"), "in", False, part, name)
            crosses(tap, bed, m, name)
            tap.same(offload(bed, m, "wan")["sent_packets"], 0, name + ": nothing was sent by the kernel tier")
    with bed.millrace("r", bed.file("mr.yaml", config(top="flows: { capacity: 4k, offload: never }"))) as m:
        says(tap, offload(bed, m, "wan"), "out", False, "there is no kernel tier", "nothing wants one")


def test(tap, bed):
    follows(tap, bed)
    reasons(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offload-devices"))
