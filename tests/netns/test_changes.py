#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What an administrator changes on a device while it is in use: its MTU, its address, its name, its namespace."""
import signal

import wire as w

SRC, DST = "10.9.0.1", "10.9.0.2"
REPLY = w.packet(DST, SRC, w.UDP, w.udp(DST, SRC, 9, 1, b"reply"))


def long_packet(ip_bytes):
    return w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 1, 9, bytes(ip_bytes - 28)))


def test_mtu(tap, bed, client, server):
    for space, dev in (("c", "c0"), ("r", "lan"), ("s", "s0")):
        bed.run(space, "ip link set %s mtu 1700" % dev)
    with bed.millrace("r", bed.file("mtu.yaml", w.plain())) as m:
        def mtu_is(n):
            bed.run("r", "ip link set wan mtu %d" % n)
            tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), "wan")["mtu_bytes"] == n), "MTU %d is shown" % n)
            tap.ok(w.wait_for(lambda: "wan: MTU is %d" % n in m.text()), "and said", m.text())

        def crosses(ip_bytes, want, name):
            before = w.drops(w.settle(bed, m)).get("too-big", 0)
            client.send(long_packet(ip_bytes))
            tap.same(w.wait_for(server.take, 2) is not None, want, name)
            if not want:
                tap.same(w.drops(w.settle(bed, m)).get("too-big", 0), before + 1, "by name")
        crosses(1600, False, "1600 bytes do not leave where the MTU is 1500")
        mtu_is(1700)
        crosses(1600, True, "raised to 1700 they do")
        crosses(1600, True, "and so does the next packet of the flow")
        mtu_is(1200)
        crosses(1300, False, "lowered to 1200, 1300 bytes do not")
        crosses(1200, True, "1200 do")
        w.account(tap, bed, m, "MTU")
        bed.run("r", "ip link set wan address 02:00:00:00:77:77")
        tap.ok(w.wait_for(lambda: w.interface(w.show(bed, m), "wan")["mac"] == "02:00:00:00:77:77"), "a changed address is shown")
        bed.run("r", "ip link set wan mtu 1500")
        tap.same(m.stop(), 0, "MTU: ends with 0")


def test_away(tap, bed, client, server):
    """Away in another namespace and back between two looks at it: the same number, the same name, and no socket on it any more."""
    with bed.millrace("r", bed.file("away.yaml", w.plain())) as m:
        m.child.send_signal(signal.SIGSTOP)
        bed.run("r", "ip link set wan netns " + bed.name("c"))
        bed.run("c", "ip link set wan netns " + bed.name("r"))
        bed.host("r", "wan")
        bed.run("r", "ip link set wan up")
        m.child.send_signal(signal.SIGCONT)

        def crosses():
            server.send(REPLY)
            return client.take() is not None
        tap.ok(w.wait_for(crosses, 10), "away and back unseen: it is taken up again, without a packet sent there", w.show(bed, m, "interfaces"))
        tap.same(w.interface(w.show(bed, m), "wan")["opened_cnt"], 2, "it was opened anew")
        w.account(tap, bed, m, "away and back")
        tap.same(m.stop(), 0, "away: ends with 0")


def offload(bed, dev):
    return [l.split()[1] for l in bed.run("r", "ethtool -k " + dev).splitlines() if l.startswith("rx-vlan-offload:")]


def test_name(tap, bed, client, server):
    """Under another name it is the same device."""
    bed.run("r", "ethtool -K wan rxvlan on", check=False)
    before = offload(bed, "wan")
    with bed.millrace("r", bed.file("name.yaml", w.plain())) as m:
        if before == ["on"]:
            tap.same(offload(bed, "wan"), ["off"], "rx-vlan offload is off while it runs")
        bed.run("r", "ip link set wan down")
        bed.run("r", "ip link set wan name outside")
        bed.run("r", "ip link set outside up")

        def crosses():
            server.send(REPLY)
            return client.take() is not None
        tap.ok(w.wait_for(crosses, 10), "renamed, it goes on")
        tap.same(w.interface(w.show(bed, m), "wan")["device"], "outside", "and the new name is shown")
        tap.same(m.stop(), 0, "name: ends with 0")
    if before == ["on"]:
        tap.same(offload(bed, "outside"), ["on"], "rx-vlan offload is on again under the new name")
    else:
        tap.skip("rx-vlan offload under the new name", "this kernel's veth cannot switch it")


def test(tap, bed):
    w.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    test_mtu(tap, bed, client, server)
    test_away(tap, bed, client, server)
    test_name(tap, bed, client, server)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "changes"))
