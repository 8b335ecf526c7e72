#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Sessions on the wire: states of TCP, time-outs, the half-open quota, a full table."""
import wire as w

SRC, DST = "10.9.0.1", "10.9.0.2"
PAIRS = ((SRC, DST), ("fd00:9::1", "fd00:9::2"))
TIMEOUTS = """flows:
  capacity: 1k
  timeouts: { udp: 1h, udp_unreplied: 300ms, tcp_established: 1h, tcp_transitory: 1h, tcp_closed: 300ms, icmp: 300ms, other: 300ms }"""


class Ends:
    """The two hosts; says packets and waits for them on the other side."""

    def __init__(self, client, server):
        self.client, self.server = client, server

    def out(self, frame):
        self.client.send(frame)
        return w.wait_for(self.server.take, 10) == frame

    def back(self, frame):
        self.server.send(frame)
        return w.wait_for(self.client.take, 10) == frame

    def question(self, sport, pair=(SRC, DST)):
        return self.out(w.packet(*pair, w.UDP, w.udp(*pair, sport, 53, b"?")))

    def answer(self, sport, pair=(SRC, DST)):
        back = pair[1], pair[0]
        return self.back(w.packet(*back, w.UDP, w.udp(*back, 53, sport, b"!")))

    def both(self, sport, pair=(SRC, DST)):
        return self.question(sport, pair) and self.answer(sport, pair)


def flows(bed, m, *filters):
    return w.show(bed, m, "flows", *filters)["flows"]


def test_tcp(tap, bed, ends):
    text = w.plain(top=TIMEOUTS.replace("tcp_closed: 300ms", "tcp_closed: 1h"))
    with bed.millrace("r", bed.file("tcp.yaml", text)) as m:
        for src, dst in PAIRS:
            def segment(sport, flags, reply=False):
                if reply:
                    return ends.back(w.packet(dst, src, w.TCP, w.tcp(dst, src, 80, sport, flags, seq=8, ack=5)))
                return ends.out(w.packet(src, dst, w.TCP, w.tcp(src, dst, sport, 80, flags, seq=5, ack=9)))

            def state(sport):
                return [f["state"] for f in flows(bed, m, "--addr", src, "--port", str(sport))]

            for sport, name, steps in ((1000, "closed by both", ((w.SYN, 0, "new"), (w.SYN | w.ACK, 1, None), (w.ACK, 0, "established"), (w.ACK | w.PSH, 1, "established"),
                                                                 (w.FIN | w.ACK, 0, "closing"), (w.FIN | w.ACK, 1, None), (w.ACK, 0, "closed"))),
                                       (1001, "reset", ((w.SYN, 0, "new"), (w.SYN | w.ACK, 1, None), (w.ACK, 0, "established"), (w.RST, 1, "closed"))),
                                       (1002, "refused", ((w.SYN, 0, "new"), (w.RST | w.ACK, 1, "closed"))),
                                       (1001, "opened again", ((w.SYN, 0, "new"), (w.SYN | w.ACK, 1, None), (w.ACK, 0, "established")))):
                seen, want = [], []
                for flags, reply, after in steps:
                    crossed = segment(sport, flags, reply)
                    now = state(sport)
                    seen.append((crossed, now if after else None))
                    want.append((True, [after] if after else None))
                tap.same(seen, want, "TCP %s, %s: its states" % (name, src))
        w.account(tap, bed, m, "TCP")


def test_timeouts(tap, bed, ends):
    with bed.millrace("r", bed.file("timeouts.yaml", w.plain(top=TIMEOUTS))) as m:
        tap.ok(all(ends.both(1, pair) for pair in PAIRS), "conversations with answers")
        tap.ok(all(ends.question(n, pair) for n in range(2, 50) for pair in PAIRS), "questions without")
        for pair in PAIRS:
            v6 = ":" in pair[0]
            ends.out(w.packet(*pair, w.ICMP6 if v6 else w.ICMP, w.echo(*pair, 128 if v6 else 8)))
            ends.out(w.packet(*pair, 47, bytes(20)))
            ends.out(w.packet(*pair, w.TCP, w.tcp(*pair, 9, 80, w.SYN)))
            ends.back(w.packet(pair[1], pair[0], w.TCP, w.tcp(pair[1], pair[0], 80, 9, w.RST | w.ACK, ack=2)))
        tap.ok(w.wait_for(lambda: len(flows(bed, m)) == 2), "what is not answered, reset, or of other protocols ends in its time", [f for f in flows(bed, m)][:5])
        u = w.show(bed, m)["flows"]
        tap.same((u["live_cnt"], u["half_open_cnt"], u["created_cnt"] - u["live_cnt"]), (2, 0, u["expired_cnt"] + u["ended_cnt"] + u["evicted_cnt"]), "and is counted")
        tap.same(u["records"]["live4_cnt"] + u["records"]["live6_cnt"], 4, "its records are free again")
        tap.ok(all(ends.both(1, pair) for pair in PAIRS), "conversations with answers go on")
        tap.same(sorted(f["age_ms"] > 200 for f in flows(bed, m)), [True, True], "as the same sessions")
        w.account(tap, bed, m, "time-outs")


def test_full(tap, bed, ends):
    """Established conversations stay whatever opens beside them."""
    text = w.plain(top="flows: { capacity: 64, half_open: 16 }").replace("pipelines:\n", "pipelines:\n  stateless: { from: [ lan ], match: [ { proto: gre } ], to: wan, state: none }\n")
    with bed.millrace("r", bed.file("full.yaml", text)) as m:
        tap.ok(all(ends.both(n) for n in range(1, 21)), "twenty conversations")
        mine = {f["id"] for f in flows(bed, m, "--state", "established")}
        tap.same(len(mine), 20, "are established")
        for n in range(1000, 3000):
            ends.client.send(w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, n, 53, b"flood")))
        d = w.account(tap, bed, m, "half-open flood")
        ends.server.take_cnt(0)
        u = d["flows"]
        tap.ok(u["half_open_cnt"] <= 16 and u["live_cnt"] <= 36, "half-open flows stay within their quota", u)
        tap.ok(u["evicted_cnt"] + u["refused_half_open_cnt"] > 0, "older ones made room or new ones were refused, and it is counted", u)
        tap.ok(set(w.drops(d)) <= {"half-open-quota", "table-full"}, "what is dropped has that name", w.drops(d))
        tap.same({f["id"] for f in flows(bed, m, "--state", "established")}, mine, "the conversations are untouched")
        tap.ok(all(ends.both(n) for n in range(1, 21)), "and go on")
        # now full of established ones
        established = lambda: len(flows(bed, m, "--state", "established"))
        for n in range(100, 200):
            # an answer whose session had to make room meanwhile begins one of its own, the other way round
            if (n < 144 or established() < 64) and not ends.both(n):
                break
        d = w.settle(bed, m)
        tap.same((established(), d["flows"]["live_cnt"]), (64, 64), "a table of 64 holds 64 established conversations")
        refused = d["flows"]["refused_full_cnt"]
        # docs/semantics.md: what needs no memory of its flow goes on without a session
        tap.ok(ends.question(5000), "one more is decided packet by packet")
        d = w.account(tap, bed, m, "full")
        tap.same((d["flows"]["refused_full_cnt"] - refused, d["flows"]["live_cnt"], flows(bed, m, "--port", "5000")), (1, 64, []), "without a session, which is counted")
        tap.ok(all(ends.both(n) for n in list(range(1, 21)) + list(range(100, 144))), "all 64 go on")
        gre = w.packet(SRC, DST, 47, bytes(20))
        tap.ok(ends.out(gre), "a stateless pipeline goes on forwarding")
        tap.same(bed.ask(m, "flows", "delete", "--port", "143")["data"]["deleted_cnt"], 1, "one is ended")
        tap.ok(w.wait_for(lambda: ends.question(5001)), "and another may begin")
        tap.same(m.stop(), 0, "ends with 0")


def test_churn(tap, bed, ends):
    """Sessions come and go faster than anybody can look at them; looking and deleting harm nobody."""
    text = w.plain(top="workers: { count: 2 }\nflows: { capacity: 64, half_open: 32, timeouts: { udp_unreplied: 20ms, udp: 1h } }")
    with bed.millrace("r", bed.file("churn.yaml", text)) as m:
        tap.ok(all(ends.both(n) for n in range(1, 5)), "four conversations")
        stream = w.Stream(ends.client, ends.server, flows=5000)
        looks, shown = 0, 0
        while looks < 25 or stream.sent < 2000:
            shown += len(flows(bed, m))
            bed.ask(m, "explain", "--in", "lan", "udp 10.9.0.1:%d to 10.9.0.2:9" % (7000 + stream.sent))
            bed.ask(m, "flows", "delete", "--port", str(7000 + stream.sent))
            looks += 1
        tap.ok(shown > 4 * looks, "they are seen while they live", (shown, looks))
        tap.same(stream.stop(), [], "of %d packets of as many flows none is lost" % stream.sent)
        tap.ok(w.wait_for(lambda: len(flows(bed, m)) == 4), "and the conversations are left")
        w.account(tap, bed, m, "churn")
        u = w.show(bed, m)["flows"]
        tap.same(u["created_cnt"] - u["expired_cnt"] - u["ended_cnt"] - u["evicted_cnt"], u["live_cnt"], "made = ended + live")


def test(tap, bed):
    w.wire(bed)
    ends = Ends(w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0"))
    for part in (test_tcp, test_timeouts, test_full, test_churn):
        part(tap, bed, ends)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "sessions"))
