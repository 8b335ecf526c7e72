#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Replaying captures, by somebody who is not root: what the rules let through is in the other capture, byte for byte."""
import os
import shutil
import struct
import subprocess
import tempfile

import wire as w

CONFIG = """version: 1
memory: { huge_pages: never }
flows: { capacity: 4k }
interfaces:
  lan: { pcap: in.pcap, out: back.pcap }
  wan: { pcap: other.pcap, out: out.pcap }
stages:
  guard:
    type: filter
    rules:
      - { name: telnet, action: drop, proto: tcp, dport: 23 }
      - { name: long, action: drop, length: [ 1000-1500 ] }
pipelines:
  tagged: { from: [ lan ], match: [ { vlan: 7 } ], to: back }
  out: { from: [ lan ], match: all, except: [ { proto: icmp } ], stages: [ guard ], to: wan }
  in: { from: [ wan ], match: all, to: lan }
"""
# what an operator may have captured with, and on what machine
FORMATS = (("microseconds", "<", 0xA1B2C3D4), ("nanoseconds", "<", 0xA1B23C4D), ("the other byte order", ">", 0xA1B2C3D4))


def write_pcap(path, frames, order="<", magic=0xA1B2C3D4):
    with open(path, "wb") as f:
        f.write(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, 1))
        for n, frame in enumerate(frames):
            f.write(struct.pack(order + "IIII", 1700000000, n, len(frame), len(frame)) + frame)


def read_pcap(path):
    with open(path, "rb") as f:
        data = f.read()
    frames, at = [], 24
    while at + 16 <= len(data):
        length = struct.unpack("<IIII", data[at:at + 16])[2]
        frames.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return frames


def traffic():
    """(where it goes, frame)"""
    for n in range(700):
        for src, dst in (("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")):
            yield "out", w.packet(src, dst, w.UDP, w.udp(src, dst, 1000 + n % 7, 9, b"%06d" % n))
            if n % 5 == 0:
                yield None, w.packet(src, dst, w.TCP, w.tcp(src, dst, 1000 + n % 7, 23))
            if n % 7 == 0:
                yield None, w.packet(src, dst, w.UDP, w.udp(src, dst, 1000 + n % 7, 9, bytes(1200)))
            if n % 11 == 0:
                yield "back", w.packet(src, dst, w.UDP, w.udp(src, dst, 1000, 9, b"%06d" % n), tags=(7,))
        if n % 13 == 0:
            # matches no pipeline: stays with a kernel there is none of
            yield None, w.packet("10.9.0.1", "10.9.0.2", w.ICMP, w.echo("10.9.0.1", "10.9.0.2", seq=n))
    yield "out", w.eth(b"\0\1" + bytes(40), w.ARP)


def as_nobody(folder, *words):
    # a copy: the build may lie where nobody else may look
    exe = os.path.join(folder, "millrace")
    if not os.path.exists(exe):
        shutil.copy(w.find_millrace(), exe)
        os.chmod(exe, 0o755)
    wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if not os.geteuid() else []
    return subprocess.run(wrap + [exe, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, cwd=folder)


def replay(tap, folder, name, order, magic):
    sent = list(traffic())
    replies = [w.packet("10.9.0.2", "10.9.0.1", w.UDP, w.udp("10.9.0.2", "10.9.0.1", 9, 1000, b"%06d" % n)) for n in range(50)]
    write_pcap(os.path.join(folder, "in.pcap"), [f for _, f in sent], order, magic)
    write_pcap(os.path.join(folder, "other.pcap"), replies, order, magic)
    with open(os.path.join(folder, "replay.yaml"), "w") as f:
        f.write(CONFIG)
    done = as_nobody(folder, "--name", "replay-%d" % os.getpid(), "run", "replay.yaml")
    tap.ok(done.returncode == 0, name + ": ends with 0 at the end of all captures", done.stdout.decode())
    tap.ok(not any(mark in done.stdout.decode() for mark in ("Sanitizer", "runtime error")), name + ": no sanitizer report", done.stdout.decode())
    out, back = (read_pcap(os.path.join(folder, f)) for f in ("out.pcap", "back.pcap"))
    tap.same((len(out), sorted(out) == sorted(f for to, f in sent if to == "out")), (sum(to == "out" for to, _ in sent), True),
             name + ": exactly what the rules let through is in the other capture")
    want = sorted([w.swapped(f) for to, f in sent if to == "back"] + replies)
    tap.same((len(back), sorted(back) == want), (len(want), True), name + ": so is what goes back, with its MACs swapped, and what came the other way")
    for port in range(1000, 1007):
        key = struct.pack("!HH", port, 9)
        of_flow = [[f for f in frames if f[34:38] == key and f[12:14] == b"\x08\0"] for frames in (out, [f for to, f in sent if to == "out"])]
        if of_flow[0] != of_flow[1]:
            tap.ok(False, name + ": in the order of the capture, flow %d" % port)
            break
    else:
        tap.ok(True, name + ": each flow in the order it had")


def memory_loop(tap, folder):
    """Frames from memory, several times over, into a capture."""
    frames = [f for _, f in traffic()][:100]
    write_pcap(os.path.join(folder, "in.pcap"), frames)
    with open(os.path.join(folder, "memory.yaml"), "w") as f:
        f.write("version: 1\nmemory: { huge_pages: never }\ninterfaces:\n  from: { memory: { file: in.pcap, repeat: 5 } }\n  to: { pcap: other.pcap, out: loop.pcap }\n"
                "pipelines:\n  p: { from: [ from ], match: all, to: to }\n")
    done = as_nobody(folder, "--name", "replay-%d" % os.getpid(), "run", "memory.yaml")
    tap.ok(done.returncode == 0, "memory loop: ends with 0", done.stdout.decode())
    out = read_pcap(os.path.join(folder, "loop.pcap"))
    tap.same((len(out), sorted(out) == sorted(frames * 5)), (500, True), "memory loop: every frame five times")


def test(tap):
    with tempfile.TemporaryDirectory(prefix="mr-replay-") as folder:
        os.chmod(folder, 0o777)
        for name, order, magic in FORMATS:
            for f in ("out.pcap", "back.pcap"):
                if os.path.exists(os.path.join(folder, f)):
                    os.unlink(os.path.join(folder, f))
            replay(tap, folder, name, order, magic)
        memory_loop(tap, folder)
        # check too, and what is wrong with files
        tap.same(as_nobody(folder, "check", "replay.yaml").returncode, 0, "check needs no root either")
        for name, change, words in (("no capture", lambda p: os.unlink(p), "in.pcap"), ("an empty file", lambda p: open(p, "w").close(), "in.pcap"),
                                    ("no capture but text", lambda p: open(p, "w").write("hello" * 100), "in.pcap"),
                                    ("no Ethernet capture", lambda p: open(p, "wb").write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 113)), "in.pcap")):
            change(os.path.join(folder, "in.pcap"))
            done = as_nobody(folder, "--name", "replay-%d" % os.getpid(), "run", "replay.yaml")
            text = [line for line in done.stdout.decode().splitlines() if not line.startswith("no control socket")]
            tap.ok(done.returncode in (1, 2) and len(text) == 1 and words in text[0] and text[0].startswith("millrace: "), "%s: one sentence" % name, (done.returncode, text))
        # a capture cut off in the middle: what is whole is replayed
        frames = [f for _, f in traffic()][:10]
        write_pcap(os.path.join(folder, "in.pcap"), frames)
        os.truncate(os.path.join(folder, "in.pcap"), os.path.getsize(os.path.join(folder, "in.pcap")) - 5)
        done = as_nobody(folder, "--name", "replay-%d" % os.getpid(), "run", "replay.yaml")
        tap.ok(done.returncode in (0, 1), "a capture cut off: ends by itself", done.stdout.decode())


def main():
    if not os.path.exists(w.find_millrace()):
        w.skip_all("no millrace program at " + w.find_millrace())
    tap = w.Tap()
    test(tap)
    return tap.done()


if __name__ == "__main__":
    w.sys.exit(main())
