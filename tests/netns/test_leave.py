#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What happens when Millrace is gone: not one packet that the filter drops crosses from the first start to cleanup, however it ends.

    client c0 10.1.0.2 ── lan [ r: millrace, and a router for what it leaves alone ] wan ── 10.2.0.2 s0 server

The far side counts datagrams to port 9 (the filter drops them) and to port 7 (it lets them cross), and answers echo requests (no
pipeline wants them, the kernel routes them).  Where the program were missing for a moment, the kernel would route the first two as well: that it
does is shown with on_exit: pass.
"""
import json
import os
import re
import signal
import subprocess
import time

import bed as beds
import wire as w

EMULATED = bool(os.environ.get("MR_VM"))
RATES = (2000, 200) if EMULATED else (20000, 2000)  # filtered, allowed; an emulated processor does nothing else at 20 000
# A sanitizer takes this one for itself.
CRASH = signal.SIGKILL if w.build_dir_sanitized() else signal.SIGSEGV
READY_S = 90 if EMULATED else 20
CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
CLIENT_MAC, SERVER_MAC = "02:00:00:00:01:02", "02:00:00:00:02:02"

COUNT = """
table inet leave {
	chain in {
		type filter hook prerouting priority -300;
		udp dport 9 counter drop comment "filtered"
		udp dport 7 counter drop comment "allowed"
	}
}
"""

CONFIG = """version: 1
memory: { huge_pages: never }
flows: { capacity: 4k }
interfaces:
  lan: { device: lan%(lan)s }
%(wan)s
stages:
  guard: { type: filter, default: accept, rules: [ { name: closed, action: drop, proto: udp, dport: 9 } ] }
pipelines:
  out: { from: [ lan ], match: [ { dst: 10.2.0.0/24, proto: udp } ], stages: [ guard ], to: %(to)s }
%(more)s
"""


def config(lan="", wan="  wan: { device: wan }", to="wan", more=""):
    return CONFIG % dict(lan=lan, wan=wan, to=to, more=more)


def wire(bed):
    for space in "crs":
        bed.ns(space)
    # a frame of the client is addressed to its router, and so to the server when it crosses untouched
    bed.veth("c", "c0", "r", "lan", a_mac=CLIENT_MAC, b_mac=SERVER_MAC)
    bed.veth("r", "wan", "s", "s0", a_mac=CLIENT_MAC, b_mac=SERVER_MAC)
    for space, dev in (("c", "c0"), ("s", "s0")):
        bed.host(space, dev)
        bed.accept_redirects(space, dev)
    bed.accept_redirects("r", "lan")
    bed.run("c", "ip addr add 10.1.0.2/24 dev c0")
    bed.run("s", "ip addr add 10.2.0.2/24 dev s0")
    bed.run("r", "ip addr add 10.1.0.1/24 dev lan")
    bed.run("r", "ip addr add 10.2.0.1/24 dev wan")
    bed.run("c", "ip route add default via 10.1.0.1")
    bed.run("s", "ip route add default via 10.2.0.1")
    bed.sysctl("r", "net/ipv4/ip_forward", 1)
    # neighbours that never age: nothing of them interrupts
    for space, dev, ip, mac in (("c", "c0", "10.1.0.1", SERVER_MAC), ("r", "lan", CLIENT, CLIENT_MAC), ("r", "wan", SERVER, SERVER_MAC), ("s", "s0", "10.2.0.1", CLIENT_MAC)):
        bed.run(space, "ip neigh replace %s lladdr %s dev %s nud permanent" % (ip, mac, dev))
    subprocess.run(bed.enter("s") + ["nft", "-f", "-"], input=COUNT.encode(), check=True)


def counted(bed, name):
    found = json.loads(bed.run("s", ["nft", "-j", "list", "table", "inet", "leave"]))
    rule = next(o["rule"] for o in found["nftables"] if o.get("rule", {}).get("comment") == name)
    return next(x["counter"]["packets"] for x in rule["expr"] if "counter" in x)


def xdp_on(bed, dev, space="r"):
    """The number of the XDP program on a device, or None."""
    return json.loads(bed.run(space, ["ip", "-j", "-d", "link", "show", dev]))[0].get("xdp", {}).get("prog", {}).get("id")


def pins(instance):
    folder = "/sys/fs/bpf/millrace/" + instance
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def cleanup(bed, instance, *words, space="r"):
    done = subprocess.run(bed.enter(space) + [w.find_millrace(), "--name", instance, "cleanup", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Load:
    """Both flows of datagrams and echo requests, until stopped."""

    def __init__(self, bed):
        self.bed = bed
        gen = os.path.join(beds.build_dir(), "bench", "livegen")
        self.processes = []
        for port, rate in zip((9, 7), RATES):
            self.processes.append(bed.spawn(None, [gen, "--tx", "c0", "--tx-netns", bed.name("c"), "--smac", CLIENT_MAC, "--dmac", SERVER_MAC, "--src", CLIENT, "--dst", SERVER,
                                                   "--dport", port, "--flows", 16, "--rate", rate, "--warmup", 0, "--duration", 3600], name="livegen-%d" % port))
        self.ping = bed.spawn("c", ["ping", "-i", "0.01", "-W", "1", "-q", SERVER], name="ping")

    def alive(self):
        return all(p.child.poll() is None for p in self.processes + [self.ping])

    def stop(self):
        """Echo requests sent and not answered."""
        self.ping.stop(signal.SIGINT)
        for p in self.processes:
            p.stop(signal.SIGINT)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", self.ping.text())
        if not found:  # ended before it had begun
            return 0, 0
        return int(found.group(1)), int(found.group(1)) - int(found.group(2))


def gone_is_closed(tap, bed, path, mode):
    """Many ends and starts, and reloads between, under load."""
    instance = bed.name("r")
    with bed.millrace("r", path["one"]) as m:
        load = Load(bed)
        tap.ok(w.wait_for(lambda: counted(bed, "allowed") > 100), "%s: the allowed flow crosses" % mode)
        ids = {xdp_on(bed, "lan")}
        stopped = started = 0
        starts = [(signal.SIGTERM, "one"), (signal.SIGKILL, "one"), (CRASH, "two"), (signal.SIGABRT, "one"), (signal.SIGKILL, "two"), (signal.SIGTERM, "two"),
                  (signal.SIGKILL, "one"), (signal.SIGINT, "one"), (signal.SIGKILL, "one")][:4 if EMULATED or mode != "copy" else None]
        for how, after in starts:
            code = m.stop(how)
            stopped += code == (0 if how in (signal.SIGTERM, signal.SIGINT) else -how)
            time.sleep(0.1)
            stopped += xdp_on(bed, "lan") in ids and len(pins(instance)) == 1
            crossed = counted(bed, "allowed")
            time.sleep(0.2)
            stopped += counted(bed, "allowed") == crossed
            m = bed.millrace("r", path[after], timeout_s=READY_S)
            started += "takes over the program" in m.text() and len(pins(instance)) == 1
            ids.add(xdp_on(bed, "lan"))
            started += w.wait_for(lambda: counted(bed, "allowed") > crossed, 10)
        tap.same(stopped, 3 * len(starts), "%s: %d ends, by signals of every kind: the program stays, and what matches does not cross" % (mode, len(starts)))
        tap.same(started, 2 * len(starts), "%s: each start takes it over, says so, and the allowed flow crosses again" % mode)
        tap.same(len(ids), len(starts) + 1, "%s: every run has a program of its own" % mode)
        for n in range(6):
            bed.run("r", [w.find_millrace(), "--name", instance, "reload", path[("two", "one", "more")[n % 3]]])
        tap.same(counted(bed, "filtered"), 0, "%s: six reloads between, and no filtered packet crossed up to now" % mode)
        # a run that is killed while it starts
        for ms in (5, 10, 20, 40, 60, 80, 120):
            m.stop(signal.SIGKILL)
            m = bed.spawn("r", [w.find_millrace(), "--name", instance, "run", path["one"]], name="millrace")
            time.sleep(ms / 1000)
        m.stop(signal.SIGKILL)
        tap.ok(xdp_on(bed, "lan") and pins(instance), "%s: killed while it starts, the device is never without a program" % mode)
        bad = bed.file("bad.yaml", config(wan="  wan: { device: nowhere }"))
        done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", instance, "run", bad], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        tap.ok(done.returncode == 1 and xdp_on(bed, "lan") and pins(instance), "%s: a start that fails leaves what drops in force" % mode, done.stderr.decode())
        m = bed.millrace("r", path["one"], timeout_s=READY_S)
        m.instance, m.space = instance, "r"
        d = w.interface(w.show(bed, m), "lan")
        tap.ok(d["on_exit"] == "drop" and d["unserved"] == "drop", "%s: show says so" % mode, d)
        code, out, err = cleanup(bed, instance)
        tap.ok(code == 1 and str(m.pid) in err and not out, "%s: cleanup is refused while it runs, by its pid" % mode, (code, out, err))
        m.stop(signal.SIGKILL)
        time.sleep(0.1)
        tap.same(counted(bed, "filtered"), 0, "%s: of the filtered flow not one packet crossed" % mode)
        tap.ok(load.alive(), "%s: the load was there all the time" % mode)
        sent, lost = load.stop()
        tap.ok(sent > 100 and lost <= (0 if mode == "copy" else 2), "%s: echo requests, which nothing matches, were never interrupted" % mode, "%d of %d lost" % (lost, sent))
    return instance


def dropped_is_told(tap, bed, path, instance):
    """The next start says how many were dropped without it; a mode that cannot be taken over is refused."""
    other = bed.file("generic.yaml", config(lan=", mode: generic"))
    done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", instance, "run", other], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    tap.ok(done.returncode == 1 and "cleanup --name " + instance in done.stderr.decode(), "another mode cannot take over, and says what to do", done.stderr.decode())
    done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", instance + "-b", "run", path["one"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    tap.ok(done.returncode == 1 and "cleanup --name " + instance in done.stderr.decode() and xdp_on(bed, "lan"), "another instance is refused, too", done.stderr.decode())
    said = bed.run("r", [w.find_millrace(), "--name", instance, "check", path["one"]])
    tap.ok("left" in said and instance in said and "on_exit: drop" in said, "check tells of it", said)
    with bed.millrace("r", path["one"]) as m:
        found = re.search(r"dropped (\d+) packets", m.text())
        tap.ok(found and int(found.group(1)) > 0, "the start tells how many were dropped without it", m.text())
        m.stop(signal.SIGKILL)


def cleaned(tap, bed, instance):
    code, out, err = cleanup(bed, instance, "--device", "wan")
    tap.ok(code == 0 and "lan" not in out.replace(instance, "") and xdp_on(bed, "lan"), "cleanup of another device leaves this one", (code, out, err))
    code, out, err = cleanup(bed, instance, "--device", "lan")
    tap.ok(code == 0 and " on lan" in out and not xdp_on(bed, "lan") and not pins(instance), "cleanup of the device names and removes it", (code, out, err))
    code, out, err = cleanup(bed, instance, "--json")
    d = json.loads(out)
    tap.ok(code == 0 and [t["kind"] for t in d["data"]["things"]] == ["control-socket"] and d["schema"] == "millrace/cleanup/1", "cleanup --json tells of the socket", out)
    code, out, err = cleanup(bed, instance)
    tap.ok(code == 0 and "nothing left" in out and not err, "and then there is nothing left", (code, out, err))
    code, out, err = cleanup(bed, instance, "--device", "nosuch")
    tap.ok(code == 1 and "there is no device nosuch" in err and not out, "a device that is not there is no success", (code, out, err))
    tap.same(w.left_behind(bed, "r", instance), [], "indeed")
    before = counted(bed, "filtered")
    load = Load(bed)
    tap.ok(w.wait_for(lambda: counted(bed, "filtered") > before), "now the kernel routes what was filtered")
    load.stop()


def gone_is_open(tap, bed):
    """on_exit: pass under the same load: nothing stays, and the kernel takes over."""
    path = bed.file("pass.yaml", config(lan=", on_exit: pass"))
    for how in (signal.SIGTERM, signal.SIGKILL, CRASH):
        with bed.millrace("r", path) as m:
            load = Load(bed)
            w.wait_for(lambda: xdp_on(bed, "lan"))
            m.stop(how)
            before = counted(bed, "filtered")
            tap.ok(w.wait_for(lambda: counted(bed, "filtered") > before), "pass, %s: the kernel has the flow" % how.name)
            load.stop()
            cleanup(bed, m.instance)
            tap.same(w.left_behind(bed, "r", m.instance), [], "pass, %s: nothing is attached or pinned" % how.name)


def policy_changes(tap, bed, path):
    """By reload: drop to pass and back; the interface taken out and in again; by restart with a file that has it no more."""
    instance = bed.name("r")
    passing = bed.file("pass.yaml", config(lan=", on_exit: pass"))
    without = bed.file("without.yaml", "version: 1\nmemory: { huge_pages: never }\nflows: { capacity: 4k }\ninterfaces: { wan: { device: wan } }\n"
                       "pipelines: { out: { from: [ wan ], match: [ { proto: gre } ], to: back } }\n")
    reload = lambda p: bed.run("r", [w.find_millrace(), "--name", instance, "reload", p])
    with bed.millrace("r", path["one"]) as m:
        reload(passing)
        tap.ok(xdp_on(bed, "lan") and not pins(instance), "reload to on_exit: pass: it runs, and nothing is pinned")
        tap.same(w.interface(w.show(bed, m), "lan")["on_exit"], "pass", "and show says so")
        reload(path["one"])
        tap.same(len(pins(instance)), 1, "and back to drop")
        reload(without)
        tap.ok(not xdp_on(bed, "lan") and not pins(instance) and "on_exit: drop kept on lan is removed" in m.text(), "an interface that a reload takes out is let go, and the log says so", m.text())
        reload(path["one"])
        tap.ok(xdp_on(bed, "lan") and len(pins(instance)) == 1, "and is closed again with the next that has it")
        m.stop(signal.SIGKILL)
    with bed.millrace("r", without) as m:
        tap.ok(not xdp_on(bed, "lan") and not pins(instance) and re.search("removed the XDP program .* left on lan", m.text()), "a restart without the interface cleans it up and says so", m.text())
        tap.same(m.stop(), 0, "and ends with 0")
    with bed.millrace("r", path["one"]) as m:
        m.stop(signal.SIGKILL)
    with bed.millrace("r", passing) as m:
        tap.ok("takes over" in m.text() and not pins(instance) and xdp_on(bed, "lan"), "a restart with on_exit: pass takes over and pins nothing", m.text())
        m.stop(signal.SIGKILL)
    cleanup(bed, instance)
    tap.same(w.left_behind(bed, "r", instance), [], "so nothing stays")


def unserved(tap, bed):
    """A queue without a socket: what matches there is passed or dropped, and counted apart."""
    for policy in ("pass", "drop"):
        bed.clear()
        for space in "crs":
            bed.ns(space)
        bed.veth("c", "c0", "r", "lan", queues=2)
        bed.veth("r", "wan", "s", "s0")
        path = bed.file("queues.yaml", "version: 1\nmemory: { huge_pages: never }\nflows: { capacity: 4k }\n"
                        "interfaces: { lan: { device: lan, queues: [ 1 ], unserved: %s }, wan: { device: wan } }\n"
                        "pipelines: { out: { from: [ lan ], match: [ { proto: udp } ], to: wan } }\n" % policy)
        said = bed.run("r", [w.find_millrace(), "check", path])
        tap.ok(("are dropped" if policy == "drop" else "stay with the kernel") in said, "unserved: %s: check says what becomes of the other queue" % policy, said)
        with bed.millrace("r", path) as m:
            port = w.Port(bed, "c", "c0")
            for cpu in (0, 1):  # a veth picks the queue by the sending CPU
                os.sched_setaffinity(0, {cpu})
                for n in range(50):
                    port.send(w.packet("10.9.0.1", "10.9.0.2", w.UDP, w.udp("10.9.0.1", "10.9.0.2", n + 1, 9, b"unserved")))
            os.sched_setaffinity(0, set(range(os.cpu_count())))
            def steered():
                s = w.interface(w.show(bed, m), "lan")["steer"]
                return s if s["steered_packets"] + s["no_socket_packets"] + s["unserved_dropped_packets"] >= 100 else None
            s = w.wait_for(steered)
            tap.ok(s and s["unserved_dropped_packets" if policy == "drop" else "no_socket_packets"] > 0 and
                   s["no_socket_packets" if policy == "drop" else "unserved_dropped_packets"] == 0, "unserved: %s: and it does, counted" % policy, s)
            tap.same(w.interface(w.show(bed, m), "lan")["on_exit"], "pass", "unserved: %s: on_exit is another matter" % policy)
            m.stop(signal.SIGKILL)
        cleanup(bed, m.instance)
        tap.same(w.left_behind(bed, "r", m.instance), [], "unserved: %s: nothing stays" % policy)


def of_others(tap, bed, path):
    """A qdisc, a tc filter, an XDP program, a pin: named where they are in the way, and never touched."""
    instance = bed.name("r")
    folder = "/sys/fs/bpf/millrace/" + instance
    obj = os.path.join(beds.build_dir(), "tests", "netns", "neighbour.bpf.o")
    tc = os.path.join(beds.build_dir(), "kern", "handback.bpf.o")
    bed.run("r", "tc qdisc add dev lan clsact")
    bed.run("r", ["tc", "filter", "add", "dev", "lan", "ingress", "bpf", "da", "obj", tc, "sec", "tc"], check=False)
    foreign = "/sys/fs/bpf/%s-foreign" % instance
    bed.run("r", ["bpftool", "map", "create", foreign, "type", "array", "key", "4", "value", "4", "entries", "1", "name", "foreign"])
    try:
        before = bed.run("r", "tc filter show dev lan ingress")
        with bed.millrace("r", path["one"]) as m:
            tap.ok("clsact" in bed.run("r", [w.find_millrace(), "check", path["one"]]), "check names the qdisc of somebody else")
            m.stop(signal.SIGKILL)
        pin = pins(instance)[0]
        cleanup(bed, instance)
        tap.ok("clsact" in bed.run("r", "tc qdisc show dev lan") and before == bed.run("r", "tc filter show dev lan ingress"), "start, end and cleanup leave it alone")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        bed.run("r", ["bpftool", "map", "pin", "pinned", foreign, os.path.join(folder, pin)])
        done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", instance, "run", path["one"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        tap.ok(done.returncode == 1 and os.path.join(folder, pin) in done.stderr.decode() and "map" in done.stderr.decode(), "a pin of somebody else at our place is named, and refused", done.stderr.decode())
        code, out, err = cleanup(bed, instance)
        tap.ok(code == 0 and "left alone" in out and pins(instance) == [pin], "cleanup names it and leaves it", (code, out, err))
        os.unlink(os.path.join(folder, pin))
        os.rmdir(folder)
        if os.path.exists(obj):
            bed.run("r", ["ip", "link", "set", "dev", "lan", "xdp", "obj", obj, "sec", "xdp"])
            theirs = xdp_on(bed, "lan")
            done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", instance, "run", path["one"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
            code, out, err = cleanup(bed, instance)
            tap.ok(done.returncode == 1 and str(theirs) in done.stderr.decode() and xdp_on(bed, "lan") == theirs, "an XDP program of somebody else is named, and stays", done.stderr.decode())
            bed.run("r", "ip link set dev lan xdp off")
        else:
            tap.skip("an XDP program of somebody else", "neighbour.bpf.o is not built")
    finally:
        for p in (foreign,):
            if os.path.exists(p):
                os.unlink(p)
        bed.run("r", "tc qdisc del dev lan clsact", check=False)


def named(tap, bed, path):
    """A name with a dot, which the BPF file system does not take."""
    instance = bed.name("r") + ".dot"
    with bed.millrace("r", path["one"], instance=instance) as m:
        m.stop(signal.SIGKILL)
        tap.same(len(pins(instance.replace(".", "%2E"))), 1, "an instance with a dot in its name")
        code, out, err = cleanup(bed, instance)
        tap.ok(code == 0 and " on lan" in out and not os.path.exists("/sys/fs/bpf/millrace/" + instance.replace(".", "%2E")), "and its cleanup", (code, out, err))


def warned(tap, bed):
    """Who would lock himself out is told."""
    everything = config().replace("match: [ { dst: 10.2.0.0/24, proto: udp } ]", "match: all")
    said = [bed.run("r", [w.find_millrace(), "check", bed.file("all.yaml", text)]) for text in (everything, config(), everything.replace("device: lan", "device: lan, on_exit: pass"))]
    tap.same(["SSH" in s for s in said], [True, False, False], "check warns when this machine would not be reached any more")
    bed.run("r", "ip addr flush dev lan scope global")
    tap.ok("SSH" not in bed.run("r", [w.find_millrace(), "check", bed.file("all.yaml", everything)]), "but not where it has no address")
    bed.run("r", "ip addr add 10.1.0.1/24 dev lan")
    bed.run("r", "ip neigh replace %s lladdr %s dev lan nud permanent" % (CLIENT, CLIENT_MAC))


def device_gone(tap, bed, path):
    """The device of a pinned program goes while nobody runs; another namespace has the same name of an instance."""
    instance = bed.name("r")
    with bed.millrace("r", path["one"]) as m:
        m.stop(signal.SIGKILL)
    there = pins(instance)
    bed.run("r", "ip link del lan")
    bed.veth("c", "c0", "r", "lan", a_mac=CLIENT_MAC, b_mac=SERVER_MAC)
    with bed.millrace("r", path["one"]) as m:
        now = pins(instance)
        tap.ok(len(there) == 1 and len(now) == 1 and now != there and "is gone" in m.text(), "a device that went while nobody ran: its pin is cleaned up and said", (there, now, m.text()))
        bed.run("r", "ip link del lan")
        tap.ok(w.wait_for(lambda: not pins(instance)), "one that goes while it runs: at once")
        bed.veth("c", "c0", "r", "lan", a_mac=CLIENT_MAC, b_mac=SERVER_MAC)
        tap.ok(w.wait_for(lambda: pins(instance)), "and it is closed again when it is back", m.text())
        bed.run("r", "ip link set lan down")
        bed.run("r", "ip link set lan name lan9")
        bed.run("r", "ip link set lan9 up")
        m.stop(signal.SIGKILL)
    renamed = bed.file("renamed.yaml", config().replace("device: lan", "device: lan9"))
    with bed.millrace("r", renamed) as m:
        tap.ok("takes over" in m.text() and len(pins(instance)) == 1, "a device with another name is taken over by its number", m.text())
        m.stop(signal.SIGKILL)
    # the same instance name in another namespace, while nobody runs here
    bed.ns("o")
    bed.ns("p")
    bed.veth("o", "lan", "p", "p0")
    bed.veth("o", "wan", "p", "p1")
    with bed.millrace("o", path["one"], instance=instance) as m:
        tap.ok(xdp_on(bed, "lan", "o") and xdp_on(bed, "lan9") and len(pins(instance)) == 2, "one name in two namespaces: they do not meet", m.text())
        tap.ok("left alone" in m.text() and "another network namespace" in m.text(), "but it is said", m.text())
        m.stop(signal.SIGKILL)
    code, out, err = cleanup(bed, instance, space="r")
    tap.ok(code == 0 and "another network namespace" in out and not xdp_on(bed, "lan", "o") and not xdp_on(bed, "lan9"), "cleanup reaches both", (code, out, err))


def number_again(tap, bed):
    """The device of a pinned program goes to another namespace, and one with its name and number comes."""
    instance = bed.name("number")
    text = bed.file("gate.yaml", config().replace("device: lan", "device: gate"))
    bed.ns("q")
    bed.run("r", "ip link add gate index 7777 up type veth peer name gate1")
    with bed.millrace("r", text, instance=instance) as m:
        m.stop(signal.SIGKILL)
    there = pins(instance)
    bed.run("r", ["ip", "link", "set", "gate", "netns", bed.name("q")])
    bed.run("r", "ip link add gate index 7777 up type veth peer name gate2")
    with bed.millrace("r", text, instance=instance) as m:
        tap.ok(len(there) == 1 and xdp_on(bed, "gate") and not xdp_on(bed, "gate", "q"), "the program is on the device that is here, not on one of the same number that went", (there, m.text()))
        m.stop()
    cleanup(bed, instance)
    bed.run("r", "ip link del gate")
    bed.run("q", "ip link del gate")


def test(tap, bed):
    if not os.path.exists(os.path.join(beds.build_dir(), "bench", "livegen")):
        w.skip_all("no livegen is built")
    wire(bed)
    two = "  more: { from: [ lan ], match: [ { dst: 10.2.0.0/24, proto: tcp } ], stages: [ guard ], to: wan }"
    for mode in ("copy",) if os.environ.get("MR_ONCE") else ("copy", "generic"):
        lan = ", mode: %s" % mode
        path = dict(one=bed.file("one.yaml", config(lan)), two=bed.file("two.yaml", config(lan, more=two)),
                    more=bed.file("more.yaml", config(lan, wan="  wan: { device: wan, on_exit: drop }", more="  in: { from: [ wan ], match: [ { proto: gre } ], to: lan }")))
        instance = gone_is_closed(tap, bed, path, mode)
        if mode == "copy":
            dropped_is_told(tap, bed, path, instance)
        cleaned(tap, bed, instance)
        subprocess.run(bed.enter("s") + ["nft", "flush", "ruleset"], check=True)
        subprocess.run(bed.enter("s") + ["nft", "-f", "-"], input=COUNT.encode(), check=True)
    path = dict(one=bed.file("one.yaml", config()))
    gone_is_open(tap, bed)
    policy_changes(tap, bed, path)
    of_others(tap, bed, path)
    named(tap, bed, path)
    warned(tap, bed)
    device_gone(tap, bed, path)
    number_again(tap, bed)
    unserved(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "leave"))
