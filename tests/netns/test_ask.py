#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Asking a running instance: explain against what really happens, flows by filter, top, the JSON of every read."""
import json
import socket
import subprocess

import wire as w

SRC, DST, SRC6, DST6 = "10.9.0.1", "10.9.0.2", "fd00:9::1", "fd00:9::2"
STAGES = """stages:
  guard:
    type: filter
    rules:
      - { name: telnet, action: drop, proto: tcp, dport: 23 }
      - { name: long, action: drop, proto: udp, length: [ 700-1500 ] }
"""
TEXT = w.plain(stages=STAGES, out=", except: [ { proto: udp, dport: 67 } ], stages: [ guard ]", into=", stages: [ guard ]")

# a packet as explain takes it, the frame it stands for, what should become of it, and words of the explanation
EXPLAINED = (
    ("tcp %s:1000 to %s:23" % (SRC, DST), w.packet(SRC, DST, w.TCP, w.tcp(SRC, DST, 1000, 23)), "drop", ["telnet", "filter-blocked"]),
    ("tcp %s:1000 to %s:24" % (SRC, DST), w.packet(SRC, DST, w.TCP, w.tcp(SRC, DST, 1000, 24)), "forward", ["wan"]),
    ("udp %s:1000 to %s:9 length 1000" % (SRC, DST), w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 1000, 9, bytes(972))), "drop", ["long"]),
    ("udp %s:1000 to %s:9 length 100" % (SRC, DST), w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 1000, 9, bytes(72))), "forward", ["wan"]),
    ("udp [%s]:1000 to [%s]:9 length 1000" % (SRC6, DST6), w.packet(SRC6, DST6, w.UDP, w.udp(SRC6, DST6, 1000, 9, bytes(952))), "drop", ["long"]),
    ("udp [%s]:1000 to [%s]:9 length 100" % (SRC6, DST6), w.packet(SRC6, DST6, w.UDP, w.udp(SRC6, DST6, 1000, 9, bytes(52))), "forward", ["wan"]),
    ("icmp %s to %s" % (SRC, DST), w.packet(SRC, DST, w.ICMP, w.echo(SRC, DST)), "forward", ["wan"]),
    ("udp %s:68 to %s:67" % (SRC, DST), w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 68, 67)), "unmatched", []),
)


def call(bed, m, *words):
    """Exit code and output of a verb."""
    done = subprocess.run(bed.enter("r") + [w.find_millrace(), "--name", m.instance, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_explain(tap, bed, m, client, server):
    for known in (False, True):
        for words, frame, verdict, said in EXPLAINED:
            name = "explain %s%s" % (words, ", which is known by now" if known else "")
            for how in ((words,), ("--frame", frame.hex())):
                before = w.show(bed, m)
                d = bed.ask(m, "explain", "--in", "lan", *how)["data"]
                tap.same(d["verdict"], verdict, name + ("" if how[0] == words else ", as a frame"))
                text = json.dumps(d)
                tap.ok(all(s in text for s in said), name + ": says why", text)
                after = w.show(bed, m)
                tap.same((after["totals"], after["flows"]["created_cnt"]), (before["totals"], before["flows"]["created_cnt"]), name + ": nothing is counted or made")
            tap.ok(verdict in call(bed, m, "explain", "--in", "lan", words)[1], name + ": in words too")
            # and so it happens
            server.take_cnt(0)
            before = w.settle(bed, m)
            client.send(frame)
            arrived = server.take_cnt(1 if verdict == "forward" else 0)
            after = w.settle(bed, m)
            happened = ("forward" if arrived == [frame] else "drop" if after["totals"]["dropped_packets"] > before["totals"]["dropped_packets"] else
                        "unmatched" if w.interface(after, "lan")["steer"]["passed_packets"] > w.interface(before, "lan")["steer"]["passed_packets"] else "?")
            tap.same(happened, verdict, name + ": and so it happens")
    d = bed.ask(m, "explain", "--in", "lan", EXPLAINED[1][0])["data"]
    tap.ok(d["from_record"] is True or d["from_record"] is False, "explain says whether a stored flow decides", d)


def test_flows(tap, bed, m, client, server):
    call(bed, m, "flows", "delete", "--all")
    flows = [(SRC, DST, w.UDP, 2000 + n, 53) for n in range(6)] + [(SRC6, DST6, w.UDP, 3000 + n, 53) for n in range(4)] + [(SRC, DST, w.TCP, 4000 + n, 80) for n in range(3)]
    for src, dst, proto, sport, dport in flows:
        client.send(w.packet(src, dst, proto, (w.udp if proto == w.UDP else w.tcp)(src, dst, sport, dport)))
    server.send(w.packet(DST, SRC, w.UDP, w.udp(DST, SRC, 53, 2000)))
    server.take_cnt(len(flows))
    client.take_cnt(1)

    def count(*filters):
        return bed.ask(m, "show", "flows", *filters)["data"]["total_cnt"]

    for filters, cnt in (((), 13), (("--proto", "udp"), 10), (("--proto", "tcp"), 3), (("--addr", "10.9.0.0/24"), 9), (("--addr", SRC6), 4), (("--addr", "10.8.0.0/16"), 0),
                         (("--port", "53"), 10), (("--port", "2003"), 1), (("--state", "established"), 1), (("--state", "new"), 12), (("--pipeline", "out"), 13),
                         (("--pipeline", "in"), 0), (("--interface", "lan"), 13), (("--proto", "udp", "--addr", SRC6, "--port", "3001"), 1)):
        tap.same(count(*filters), cnt, "show flows " + " ".join(filters))
    d = bed.ask(m, "show", "flows", "--limit", "5")["data"]
    tap.same((len(d["flows"]), d["shown_cnt"], d["total_cnt"]), (5, 5, 13), "a limit limits what is shown, not what is counted")
    for bad in (("--proto", "xyz"), ("--addr", "10.9.0.300"), ("--state", "odd"), ("--pipeline", "nowhere")):
        code, _, said = call(bed, m, "show", "flows", *bad)
        tap.ok((code == 2 and len(said.splitlines()) == 1) or (bad[0] == "--pipeline" and code == 0), "show flows %s %s is refused in one sentence" % bad, (code, said))
    created = w.show(bed, m)["flows"]["created_cnt"]
    code, said, _ = call(bed, m, "flows", "delete", "--port", "2003")
    tap.same((code, count(), count("--port", "2003")), (0, 12, 0), "flows delete ends what the filter wants and no other")
    tap.same(bed.ask(m, "flows", "delete", "--proto", "tcp")["data"]["deleted_cnt"], 3, "and says how many")
    again = w.packet(SRC, DST, w.UDP, w.udp(SRC, DST, 2003, 53))
    client.send(again)
    tap.same(server.take_cnt(1), [again], "a deleted flow's next packet is decided anew")
    tap.same((w.show(bed, m)["flows"]["created_cnt"], count("--port", "2003")), (created + 1, 1), "and makes a session")
    # under load
    stream = w.Stream(client, server)
    w.wait_for(lambda: len(stream.arrived) > 100)
    for _ in range(10):
        call(bed, m, "flows", "delete", "--all")
    tap.same(stream.stop(), [], "deleting all flows again and again loses no packet of %d" % stream.sent)
    call(bed, m, "flows", "delete", "--all")
    tap.same(count(), 0, "and in the end there are none")
    w.account(tap, bed, m, "flows")


def test_json(tap, bed, m):
    for words in (["show"], *(["show", what] for what in ("interfaces", "pipelines", "stages", "flows", "drops", "frames", "workers", "config")), ["show", "drops", "--all"],
                  ["version"], ["explain", "--in", "lan", "udp 1.2.3.4:5 to 6.7.8.9:10"]):
        answer = bed.ask(m, *words)
        schema = "millrace/%s/1" % "-".join(x for x in words[:2] if words[0] == "show" or x == words[0])
        tap.same((answer["schema"], answer["instance"], isinstance(answer["generation"], int), isinstance(answer["data"], dict), len(answer)),
                 (schema, m.instance, True, True, 4), "%s --json: schema, instance, generation, data" % " ".join(words))
        code, out, said = call(bed, m, *words)
        tap.ok(code == 0 and out.strip() and not said, "%s: text for a person" % " ".join(words), (code, out, said))
    code, out, said = call(bed, m, "top", "--interval", "200ms", "--count", "3")
    tap.ok(code == 0 and out.count("received") == 3 and "\033" not in out, "top without a terminal: three tables, nothing to move a cursor", out)
    code, out, said = call(bed, m, "--json", "top", "--interval", "200ms", "--count", "2")
    lines = [json.loads(line) for line in out.splitlines()]
    tap.ok(code == 0 and len(lines) == 2 and all(x["schema"] == "millrace/top/1" and "received_pps" in x["data"]["interfaces"][0] for x in lines), "top --json: an object a line", out)


def test_socket(tap, bed, m):
    """Rude clients harm nobody."""
    path = "/run/millrace/%s.sock" % m.instance
    for name, text in (("noise", bytes(range(256)) * 20 + b"\n"), ("no object", b"[]\n"), ("no verb", b"{}\n"), ("an unknown verb", b'{"verb": "explode"}\n'),
                       ("a member it has not", b'{"verb": "show", "really": true}\n'), ("deep nesting", b"[" * 30000 + b"\n"), ("too long", b" " * 70000 + b"\n")):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(path)
            answer = b""
            try:
                s.sendall(text)
                while not answer.endswith(b"\n"):
                    part = s.recv(65536)
                    if not part:
                        break
                    answer += part
            except OSError:
                pass
            good = not answer or "error" in json.loads(answer.splitlines()[0])
            tap.ok(good and (answer or name == "too long"), "control socket: %s is answered with an error" % name, answer[:300])
    idle = []
    for _ in range(100):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect(path)
            idle.append(s)
        except OSError:
            s.close()
    for s in idle:
        s.close()
    tap.ok(w.wait_for(lambda: call(bed, m, "show")[0] == 0), "and after a hundred clients that say nothing it still answers")


def test_help(tap, bed):
    exe = w.find_millrace()
    text = subprocess.run([exe, "help", "config"], stdout=subprocess.PIPE, check=True).stdout.decode()
    tap.ok(all(word in text for word in ("interfaces", "pipelines", "filter", "on_exit", "rx_ring")), "help config says every key")
    schema = json.loads(subprocess.run([exe, "help", "config", "--schema"], stdout=subprocess.PIPE, check=True).stdout)
    tap.ok("interfaces" in schema["properties"], "help config --schema is a JSON schema")
    for verb in ("run", "check", "show", "top", "reload", "explain", "flows", "version", "help"):
        done = subprocess.run([exe, "help", verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        tap.ok(done.returncode == 0 and verb in done.stdout.decode() and not done.stderr, "help " + verb)


def test(tap, bed):
    w.wire(bed)
    client, server = w.Port(bed, "c", "c0"), w.Port(bed, "s", "s0")
    with bed.millrace("r", bed.file("ask.yaml", TEXT)) as m:
        test_explain(tap, bed, m, client, server)
        test_flows(tap, bed, m, client, server)
        test_json(tap, bed, m)
        test_socket(tap, bed, m)
        tap.same(m.stop(), 0, "ends with 0")
    tap.same(w.left_behind(bed, "r", m.instance), [], "leaves nothing")
    test_help(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "ask"))
