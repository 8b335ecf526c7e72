#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Path MTU discovery of connections that XDP carries: what does not fit comes up, its sender hears of it, and the rest goes on inside.

The network behind the router takes 1300 bytes; both ends announce segments for 1500 (test_route_mtu.py).
"""
import hashlib
import socket
import threading

import offload as o
import router as rt
import test_route_mtu as mtu
import wire as w


def from_the_start(tap, bed, net):
    for dev, way, sender in (("wan", "upload", "c"), ("lan", "download", "s")):
        with mtu.narrowed(net, dev):
            mtu.advmss(net, dev)
            for family, near, far in rt.FAMILIES:
                name = "%s over a smaller %s, IPv%d" % (way, dev, family)
                mtu.forget(net)
                with o.healthy(tap, bed, name), o.carried(tap, bed, net.m, name, least=3000, most_up=0.9):
                    tap.same(mtu.transfer(net, way, far, 8000000), 8000000, name)
                tap.same(mtu.known_mtu(net, sender, far if sender == "c" else near), 1300, name + ": the sender has learned it")
                if way == "upload":
                    out = net.run("c", ["ping", "-n", "-q", "-c", 20, "-i", "0.01", "-M", "do", "-s", 1300 - (28 if family == 4 else 48), far], check=False)
                    tap.ok("20 received" in out, name + ": ping of just this size", out)
        w.account(tap, bed, net.m, "smaller " + dev)


def under_way(tap, bed, net):
    """The network becomes smaller, and large again, under a connection that XDP carries."""
    data = bytes(range(256)) * (20 << 12)
    for family, near, far in rt.FAMILIES:
        name = "smaller under way, IPv%d" % family
        mtu.forget(net)
        listener = w.enter(bed, "s", socket.create_server, (far, 0), family=socket.AF_INET6 if family == 6 else socket.AF_INET)
        got, come = hashlib.sha256(), [0]

        def serve():
            conn, _ = listener.accept()
            with conn:
                while True:
                    part = conn.recv(1 << 16)
                    if not part:
                        return
                    got.update(part)
                    come[0] += len(part)
        t = threading.Thread(target=serve, daemon=True)
        t.start()
        with w.enter(bed, "c", socket.create_connection, listener.getsockname()[:2], timeout=60) as conn:
            port = conn.getsockname()[1]
            half = len(data) // 2
            # what is under way when the network becomes smaller does not fit any more
            with o.healthy(tap, bed, name, window=8000):
                conn.sendall(data[:half])
                o.goes_over(tap, bed, net.m, lambda: None, name, "--port", port, cnt=2)
                mtu.narrow(net, "wan", 1300)
                with o.carried(tap, bed, net.m, name, least=5000, most_up=0.9):
                    conn.sendall(data[half:])
                    w.wait_for(lambda: come[0] == len(data), 40)
            tap.same(mtu.known_mtu(net, "c", far), 1300, name + ": the sender has learned it")
        t.join(20)
        tap.same(got.hexdigest(), hashlib.sha256(data).hexdigest(), name + ": every byte arrives")
        listener.close()
        mtu.narrow(net, "wan", 1500)
    w.account(tap, bed, net.m, "under way")


def test(tap, bed):
    def all_of_it(net):
        o.targets(bed, (("c", "c0"), ("s", "s0"), ("t", "t0")))
        from_the_start(tap, bed, net)
        under_way(tap, bed, net)
    rt.one_half(tap, bed, "millrace", (all_of_it,), dict(config=o.route_config()))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "offmtu"))
