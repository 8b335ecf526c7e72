#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Hand-back: what a pipeline gives `to: kernel` reaches the appliance's own stack, IPv4 and IPv6, native and generic mode.

Everything to the appliance's addresses is matched, so ping and TCP are answered only if hand-back works.
"""
import socket
import threading

import wire as w

CONFIG = """version: 1
memory: { huge_pages: never }
flows: { capacity: 1k }
interfaces:
  lan: { device: lan, on_exit: pass, mode: %s }
stages:
  guard: { type: filter, rules: [ { name: closed, action: drop, proto: tcp, dport: 81 } ] }
pipelines:
  own: { from: [ lan ], match: all, stages: [ guard ], to: kernel }
"""
SIZES = (1, 100, 1400, 20000)


def answer(listener):
    while True:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        with conn:
            data = b""
            conn.settimeout(20)
            while not data.endswith(b"!"):
                data += conn.recv(1 << 16)
            conn.sendall(data[::-1])


def exchange(bed, host, port, size, timeout_s=20):
    """What a listener of the appliance sends back for `size` bytes; None if nothing."""
    try:
        with w.enter(bed, "c", socket.create_connection, (host, port), timeout=timeout_s) as conn:
            conn.sendall(b"x" * size + b"!")
            data = b""
            while len(data) < size + 1:
                part = conn.recv(1 << 16)
                if not part:
                    break
                data += part
            return data
    except OSError:
        return None


def run(tap, bed, mode):
    for space in "cr":
        bed.ns(space)
    bed.veth("c", "c0", "r", "lan")
    bed.host("c", "c0")
    for n, (space, dev) in enumerate((("c", "c0"), ("r", "lan")), 1):
        bed.run(space, "ip addr add 10.9.0.%d/24 dev %s" % (n, dev))
        bed.run(space, "ip addr add fd00:9::%d/64 dev %s nodad" % (n, dev))
    bed.run("r", "ethtool -K lan gro off")
    listeners = []
    with bed.millrace("r", bed.file("kernel.yaml", CONFIG % mode)) as m:
        for host, family in (("10.9.0.2", socket.AF_INET), ("fd00:9::2", socket.AF_INET6)):
            out = bed.run("c", ["ping", "-q", "-c", 20, "-i", "0.02", "-W", 10, host], check=False)
            tap.ok(" 0% packet loss" in out, "%s: ping to the matched own address %s answers" % (mode, host), out)
            out = bed.run("c", ["ping", "-q", "-c", 3, "-i", "0.1", "-W", 10, "-s", 1400, host], check=False)
            tap.ok(" 0% packet loss" in out, "%s: with 1400 bytes too" % mode, out)
            for port in (80, 81):
                listener = w.enter(bed, "r", socket.create_server, (host, port), family=family)
                listeners.append(listener)
                threading.Thread(target=answer, args=(listener,), daemon=True).start()
            sizes = [len(exchange(bed, host, 80, n) or "") for n in SIZES]
            tap.same(sizes, [n + 1 for n in SIZES], "%s: TCP to a listener of the appliance, %s" % (mode, host))
            tap.same(exchange(bed, host, 81, 1, 0.7), None, "%s: a port the filter closes does not answer, %s" % (mode, host))
        d = w.account(tap, bed, m, mode)
        i = w.interface(d, "lan")
        tap.ok(i["kernel_packets"] > 100 and i["kernel_packets"] == i["received_packets"] - i["dropped_packets"],
               mode + ": all but the drops went to the kernel", i)
        tap.same(set(i["dropped"]), {"filter-blocked"}, mode + ": and those are the filter's")
        tap.same(i["steer"]["steered_packets"], i["received_packets"], mode + ": nothing was taken twice")
        tap.same(i["steer"]["handed_back_packets"], i["kernel_packets"] if mode == "generic" else 0, mode + ": in generic mode the program lets pass what comes back")
        flows = w.show(bed, m, "flows", "--proto", "icmp")["flows"]
        tap.ok(flows and all(f["forward"]["to"] == "kernel" for f in flows), mode + ": ping is a session whose way is the kernel", flows)
        tap.same(m.stop(), 0, mode + ": ends with 0")
        tap.same(w.left_behind(bed, "r", m.instance), [], mode + ": leaves nothing, no TAP either")
        out = bed.run("c", ["ping", "-q", "-c", 2, "-i", "0.1", "-W", 10, "10.9.0.2"], check=False)
        tap.ok(" 0% packet loss" in out, mode + ": afterwards the stack answers by itself", out)
    for listener in listeners:
        listener.close()


def test(tap, bed):
    for mode in ("copy", "generic"):
        run(tap, bed, mode)
        bed.clear()


if __name__ == "__main__":
    w.sys.exit(w.main(test, "kernel"))
