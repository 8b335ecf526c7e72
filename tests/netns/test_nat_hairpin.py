#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44: inside hosts talk by outside addresses; static translations and forwards; exempt destinations; protocols without ports."""
import nat
import wire as w
from nat import A, A2, A3, B, S, T

STATIC = """static:
  - { inside: 100.64.0.2, outside: 203.0.113.70 }
  - { inside: 100.64.1.0/30, outside: 203.0.113.72/30 }
  - { inside: 100.64.0.3, outside: 203.0.113.64, proto: tcp, ports: 443, inside_ports: 8443 }
  - { inside: 100.64.0.3, outside: 203.0.113.64, proto: udp, ports: 6000-6009, inside_ports: 7000-7009 }"""


def static_config(**kw):
    """config() indents line by line: the list of `static` keeps its own."""
    return nat.config("", **kw).replace("    outside: [", "    " + STATIC.replace("\n", "\n    ") + "\n    outside: [")


def hairpin(tap, bed, watch, mode):
    """RFC 4787 REQ-9, RFC 5382 REQ-8."""
    for kind in ("endpoint-independent", "address-and-port-dependent"):
        with nat.Nat(tap, bed, watch, "filtering: " + kind, "hairpin, filtering %s, %s" % (kind, mode), mode=mode) as net:
            probe, x, y = net.udp("s", S, 7000), net.udp("a", A, 5000), net.udp("b", B, 6000)
            out = {k: net.mapped(k, probe) for k in (x, y)}
            if kind != "endpoint-independent":  # both must have spoken to the other's outside end
                nat.send(y, b"open", out[x])
                nat.hear(x, 0.3)
            net.same(net.reaches(x, out[y], y), out[x], "UDP: b sees a's outside address and port (REQ-9a)")
            net.same(net.reaches(y, out[x], x), out[y], "UDP: and a b's")
            same = net.udp("a", A3, 5001)
            out[same] = net.mapped(same, probe)
            if kind != "endpoint-independent":
                nat.send(same, b"open", out[x])
                nat.hear(x, 0.3)
            net.same(net.reaches(x, out[same], same), out[x], "UDP: two hosts of one network")
            for n in range(50):
                if not net.reaches(x, out[y], y) or not net.reaches(y, out[x], x):
                    net.ok(False, "UDP: 100 more", n)
                    break
            else:
                net.ok(True, "UDP: 100 more")
            if kind != "endpoint-independent":
                continue
            # TCP: b has connected to somebody, its mapping is found by a
            outer = net.listen("s", S, 7100)
            reach = net.connects(net.tcp("b", B, 6100), (S, 7100), outer)
            if not net.ok(reach, "TCP: b connects"):
                continue
            mine = net.connects(net.tcp("a", A, 5100), (S, 7100), outer)
            caller = net.tcp("a", A, 5100)
            got = net.connects(caller, reach[1], net.listen("b", B, 6100))
            net.ok(got and mine and got[1] == mine[1], "TCP: a connects to b by b's outside end, seen with its own (RFC 5382 REQ-8)", (got and got[1], mine and mine[1]))
            if got:
                sent, back = b"over the hairpin" * 1000, []
                got[0].sendall(sent)
                got[0].shutdown(w.socket.SHUT_WR)
                for part in iter(lambda: caller.recv(65536), b""):
                    back.append(part)
                net.ok(b"".join(back) == sent, "TCP: data arrives")


def static(tap, bed, watch, mode):
    """RFC 5508 REQ-7 too: queries over the hairpin need an address of one's own."""
    with nat.Nat(tap, bed, watch, "", "static, " + mode, text=static_config(mode=mode)) as net:
        outer = net.udp("s", S, 7000)
        one = net.udp("a", A, 5000)
        net.same(net.mapped(one, outer), (nat.OUT % 70, 5000), "one to one: address changed, port kept")
        for port in (5000, 1, 65000):
            inner = one if port == 5000 else net.udp("a", A, port)
            net.same(net.reaches(outer, (nat.OUT % 70, port), inner), (S, 7000), "one to one: port %d from outside without a session before" % port)
        net.same(net.mapped(net.udp("b", B, 5000), outer), (nat.OUT % 74, 5000), "a prefix: .1.2 is .74")
        net.same(net.reaches(outer, (nat.OUT % 74, 5001), net.udp("b", B, 5001)), (S, 7000), "a prefix: from outside")
        got = net.connects(net.tcp("t", T), (nat.OUT % 70, 80), net.listen("a", A, 80))
        net.ok(got and got[1][0] == T, "one to one: TCP from outside", got)
        # ICMP and protocols without ports
        for src, dst, dev, far in ((S, nat.OUT % 70, "s0", "a0"), (T, nat.OUT % 74, "t0", "b0")):
            want = {"a0": A, "b0": B}[far]
            got = net.over(w.ip4(src, dst, w.ICMP, w.echo(src, dst, 8, 99)), dev, far, lambda p: p[9] == w.ICMP and p[20] == 8)
            net.same(got and got.hex(), w.ip4(src, want, w.ICMP, w.echo(src, want, 8, 99), ttl=63).hex(), "one to one: an echo request to %s" % dst)
        for proto, name in ((47, "GRE"), (50, "ESP"), (132, "SCTP")):
            body = b"\0\0\x08\0payload-%d" % proto
            got = net.over(w.ip4(S, nat.OUT % 70, proto, body), "s0", "a0", lambda p: p[9] == proto)
            net.same(got and got.hex(), w.ip4(S, A, proto, body, ttl=63).hex(), "one to one: %s in" % name)
            got = net.over(w.ip4(A, S, proto, body), "a0", "s0", lambda p: p[9] == proto)
            net.same(got and got.hex(), w.ip4(nat.OUT % 70, S, proto, body, ttl=63).hex(), "one to one: %s out" % name)
        # forwards
        served = net.listen("a", A2, 8443)
        got = net.connects(net.tcp("s", S), (nat.OUT % 64, 443), served)
        net.ok(got and got[1][0] == S, "forward: TCP 443 arrives at 8443", got)
        for n in (0, 5, 9):
            inner = net.udp("a", A2, 7000 + n)
            net.same(net.reaches(outer, (nat.OUT % 64, 6000 + n), inner), (S, 7000), "forward: UDP 600%d arrives at 700%d" % (n, n))
            net.same(net.reaches(inner, (S, 7000), outer), (nat.OUT % 64, 6000 + n), "forward: and answers from there")
        net.silent(w.ip4(S, nat.OUT % 64, w.UDP, w.udp(S, nat.OUT % 64, 7000, 6010)), "s0", "a0", lambda p: p[9] == w.UDP, "forward: not the port behind its range", "nat44-unwanted")
        # over the hairpin
        got = net.over(w.ip4(B, nat.OUT % 70, w.ICMP, w.echo(B, nat.OUT % 70, 8, 31)), "b0", "a0", lambda p: p[9] == w.ICMP and p[20] == 8)
        net.same(got and got.hex(), w.ip4(nat.OUT % 74, A, w.ICMP, w.echo(nat.OUT % 74, A, 8, 31), ttl=63).hex(), "hairpin: an echo request from one static address to the other (RFC 5508 REQ-7)")
        got = net.over(w.ip4(A, nat.OUT % 74, w.ICMP, w.echo(A, nat.OUT % 74, 0, 31)), "a0", "b0", lambda p: p[9] == w.ICMP and p[20] == 0)
        net.same(got and got.hex(), w.ip4(nat.OUT % 70, B, w.ICMP, w.echo(nat.OUT % 70, B, 0, 31), ttl=63).hex(), "hairpin: and the reply")
        got = net.over(w.ip4(A3, nat.OUT % 70, w.ICMP, w.echo(A3, nat.OUT % 70, 8, 32)), "a0", "a0", lambda p: p[9] == w.ICMP and p[20] == 8 and p[16:20] == w.address(A))
        net.ok(got and got[12:14] == b"\xcb\0", "hairpin: an echo request of a dynamic mapping to a static address", got and got.hex())
        got = net.connects(net.tcp("b", B), (nat.OUT % 64, 443), served)
        net.same(got and got[1][0], nat.OUT % 74, "hairpin: TCP to a forward")
        # dynamic mappings never get what is static
        seen = {net.mapped(net.udp("a", "100.64.0.%d" % (4 + n % 6)), outer) for n in range(30)}
        net.ok(None not in seen and not [x for x in seen if x[0] not in tuple(nat.OUT % n for n in (64, 65, 66, 67)) or x[0] == nat.OUT % 64 and 6000 <= x[1] <= 6009],
               "dynamic mappings keep clear of static ones", seen)


def exempt(tap, bed, watch, mode):
    """RFC 6888 REQ-6: destinations that are not translated."""
    bed.run("t", "ip route replace 100.64.0.0/10 via " + nat.BOX["wan2"])
    watch.allowed = [(A, T), (A2, T)]
    try:
        with nat.Nat(tap, bed, watch, "exempt: [ 192.0.2.0/24 ]", "exempt, " + mode, mode=mode) as net:
            one, far, near = net.udp("a", A, 5000), net.udp("t", T, 7000), net.udp("s", S, 7000)
            net.same(net.mapped(one, far), (A, 5000), "to an exempt destination it keeps its address")
            net.same(net.reaches(far, (A, 5000), one), (T, 7000), "which reaches it")
            net.ok(net.mapped(one, near)[0].startswith("203."), "to others it is translated")
            got = net.connects(net.tcp("a", A), (T, 7100), net.listen("t", T, 7100))
            net.same(got and got[1][0], A, "TCP too")
            net.same([f["inside_port"] for f in net.nat("--mappings")["mappings"]], [5000], "it has no mapping")
    finally:
        watch.allowed = []
        bed.run("t", "ip route del 100.64.0.0/10")


TWO = """  cgn2:
    type: nat44
    inside: [ 100.64.1.0/24 ]
    outside: [ 203.0.113.128/30 ]
    mapping: address-dependent
"""


def several(tap, bed, watch, mode):
    """Two stages, each with inside and outside addresses of its own: what one does not translate the other may."""
    text = nat.config("", mode=mode, stages=TWO).replace("inside: [ 100.64.0.0/10 ]", "inside: [ 100.64.0.0/24 ]").replace("stages: [ cgn ]", "stages: [ cgn, cgn2 ]")
    with nat.Nat(tap, bed, watch, "", "two stages, " + mode, text=text) as net:
        ends = net.udp("s", S, 7000), net.udp("t", T, 7000)
        for space, src, pool, same in (("a", A, (64, 67), True), ("b", B, (128, 131), False)):
            inner = net.udp(space, src, 5000)
            out = [net.mapped(inner, e) for e in ends]
            net.ok(None not in out and all(pool[0] <= int(o[0].split(".")[3]) <= pool[1] for o in out), "%s: by its own stage" % space, out)
            net.same(out[0] == out[1], same, "%s: as that one's options say" % space)
            net.same([net.reaches(e, o, inner) for e, o in zip(ends, out)], [e.getsockname() for e in ends], "%s: answers come back" % space)
        names = {x["name"]: x["mappings_cnt"] for x in (net.nat(n) for n in ("cgn", "cgn2"))}
        net.same(names, {"cgn": 1, "cgn2": 2}, "`show nat STAGE` tells them apart")
        got = net.connects(net.tcp("b", B), (S, 7100), net.listen("s", S, 7100))
        net.ok(got and got[1][0].startswith("203.0.113.1"), "TCP of the second", got)
        meet = net.udp("a", A, 5001), net.udp("b", B, 5001)
        out = [net.mapped(m, ends[0]) for m in meet]
        net.same(net.reaches(meet[0], out[1], meet[1]), out[0], "from inside the one to inside the other, by outside addresses")


def without_ports(tap, bed, watch, mode):
    """GRE, ESP, SCTP: only the address is translated, as long as replies can be told apart."""
    with nat.Nat(tap, bed, watch, "", "without ports, " + mode, mode=mode, outside="203.0.113.64") as net:
        for proto, name in ((47, "GRE"), (50, "ESP"), (132, "SCTP")):
            body = b"\0\x07\x08\0payload-%d" % proto

            def is_it(p):
                return p[9] == proto
            got = net.over(w.ip4(A, S, proto, body), "a0", "s0", is_it)
            net.same(got and got.hex(), w.ip4(nat.OUT % 64, S, proto, body, ttl=63).hex(), name + ": leaves with the outside address, else as it was")
            back = body if proto != 132 else body[2:4] + body[:2] + body[4:]  # SCTP has ports, which stay as they are
            got = net.over(w.ip4(S, nat.OUT % 64, proto, back), "s0", "a0", is_it)
            net.same(got and got.hex(), w.ip4(S, A, proto, back, ttl=63).hex(), name + ": the answer comes back")
            net.silent(w.ip4(A2, S, proto, body), "a0", "s0", is_it, name + ": a second host to the same end is refused, not mixed up", "nat44-ambiguous")
            got = net.over(w.ip4(A2, T, proto, body), "a0", "t0", is_it)
            net.same(got and got.hex(), w.ip4(nat.OUT % 64, T, proto, body, ttl=63).hex(), name + ": to another end it may")
            net.silent(w.ip4("192.0.2.9", nat.OUT % 64, proto, body), "t0", "a0", is_it, name + ": from others nothing comes in")


def test(tap, bed):
    nat.each(tap, bed, (hairpin, static, exempt, several, nat.with_deaf(without_ports)), nat.modes("never", "always"))


if __name__ == "__main__":
    w.sys.exit(w.main(test, "nathpn"))
