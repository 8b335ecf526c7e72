#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: what survives a reload, also under traffic."""
import threading
import time

import nat
import wire as w
from nat import A, B, S


def talks(net, inner, outer, outside):
    """Both ways, by the same outside end."""
    return net.reaches(inner, outer.getsockname(), outer) == outside and net.reaches(outer, outside, inner) == outer.getsockname()


def survives(tap, bed, watch, mode):
    with nat.Nat(tap, bed, watch, "", "reload, " + mode, mode=mode, outside="203.0.113.64/31") as net:
        outer, udp = net.udp("s", S, 7000), [net.udp("a", A, 5000 + n) for n in range(4)]
        out = [net.mapped(u, outer) for u in udp]
        listener = net.listen("s", S, 7100)
        tcp = net.tcp("a", A, 5100)
        conn = net.connects(tcp, (S, 7100), listener)
        if not net.ok(conn and None not in out, "sessions are there", (conn, out)):
            return
        changes = (("nothing", "", "203.0.113.64/31"), ("an address more", "", "203.0.113.64/30"), ("limits", "limits: { sessions: 8, mappings: 6 }", "203.0.113.64/30"),
                   ("time-outs", "timeouts: { udp: 150s, udp_unreplied: 120s, tcp_established: 8000s }", "203.0.113.64/30"), ("mapping and filtering", "mapping: address-dependent\nfiltering: address-dependent", "203.0.113.64/30"),
                   ("ports", "ports: 30000-30999", "203.0.113.64/30"))
        for what, options, outside in changes:
            said = net.reload(options, mode=mode, outside=outside)
            net.ok(all(talks(net, u, outer, o) for u, o in zip(udp, out)), "changed: %s: mappings stay" % what, (said, out, net.drops()))
            conn[0].sendall(b"down " + what.encode())
            tcp.sendall(b"up " + what.encode())
            net.same([tcp.recv(100), conn[0].recv(100)], [b"down " + what.encode(), b"up " + what.encode()], "changed: %s: TCP goes on" % what)
            if what == "limits":
                got = [bool(net.mapped(net.udp("a", A, 5200 + n), outer, wait_s=0.3)) for n in range(4)]
                net.ok(got[-1] is False, "a limit holds for what is new", got)
                net.dropped("nat44-mapping-limit" if "nat44-mapping-limit" in net.drops() else "nat44-session-limit")
            if what == "time-outs":
                left = {f["remaining_ms"] // 10000 for f in net.flows("--proto", "udp", "--port", "5000")}
                net.ok(left <= {14, 15}, "time-outs hold for sessions that live", left)
            if what == "ports":
                new = net.mapped(net.udp("b", B, 5000), outer)
                net.ok(new and 30000 <= new[1] <= 30999, "ports hold for what is new", new)


def under_traffic(tap, bed, watch, mode):
    """Reloads while hosts talk: nobody's outside end changes, and as good as nothing is lost."""
    with nat.Nat(tap, bed, watch, "", "reloads under traffic, " + mode, mode=mode, outside="203.0.113.64/31") as net:
        server = net.udp("s", S, 7000)
        hosts = [net.udp("a", "100.64.0.%d" % (2 + n % 8), 5000 + n) for n in range(16)] + [net.udp("b", B, 5000 + n) for n in range(4)]
        going, asking, seen, counts = [True], [True], {}, [0, 0]

        def tell():
            while going[0]:
                got = nat.hear(server, 0.1)
                if got:
                    server.sendto(got[0] + b" %s:%d" % (got[1][0].encode(), got[1][1]), got[1])

        def ask():
            n = 0
            while asking[0]:
                n += 1
                time.sleep(0.02)
                for k, h in enumerate(hosts):
                    h.sendto(b"%d" % n, (S, 7000))
                for k, h in enumerate(hosts):
                    counts[0] += 1
                    got = nat.hear(h, 0.5)
                    while got and not got[0].startswith(b"%d " % n):
                        got = nat.hear(h, 0.5)
                    counts[1] += bool(got)
                    if got:
                        seen.setdefault(k, set()).add(got[0].split()[1])
        threads = [threading.Thread(target=t, daemon=True) for t in (tell, ask)]
        for t in threads:
            t.start()
        w.wait_for(lambda: len(seen) == len(hosts), 5)
        for n in range(6):
            net.reload("limits: { sessions: %d }" % (100 + n), mode=mode, outside="203.0.113.64/31" + (", 203.0.113.%d" % (80 + n) if n % 2 else ""))
            time.sleep(0.15)
        for going_on, t in zip((asking, going), reversed(threads)):  # who answers, last
            going_on[0] = False
            t.join(20)
        net.same([k for k, v in seen.items() if len(v) != 1], [], "after six reloads each of 20 has the outside end it had")
        net.same(len({x for v in seen.values() for x in v}), 20, "each its own")
        net.ok(counts[0] > 200 and counts[0] - counts[1] <= counts[0] // 50, "%d questions answered" % counts[1], counts)


def refused(tap, bed, watch, mode):
    """A bad file changes nothing."""
    with nat.Nat(tap, bed, watch, "", "a bad reload, " + mode, mode=mode) as net:
        outer, inner = net.udp("s", S, 7000), net.udp("a", A, 5000)
        out = net.mapped(inner, outer)
        for options, outside in (("port_block: 63", nat.POOL), ("", "203.0.113.0/33"), ("mapping: some", nat.POOL), ("ports: 5-1", nat.POOL)):
            net.reload(options, mode=mode, outside=outside, check=False)
            net.ok(talks(net, inner, outer, out), "%s %s: nothing changed" % (options, outside))


def test(tap, bed):
    wanted = nat.modes("never", "always")
    nat.build(bed)
    nat.cases(tap, bed, (survives, under_traffic), wanted)
    nat.cases(tap, bed, (refused,), wanted[:1])


if __name__ == "__main__":
    w.sys.exit(w.main(test, "natrld"))
