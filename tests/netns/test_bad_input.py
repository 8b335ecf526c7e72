#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Everything that can be wrong with a configuration or a system: one sentence, its place, exit 2 or 1, and nothing touched."""
import os
import shutil
import socket
import subprocess

import wire as w

GOOD = """version: 1
memory: { huge_pages: never }
flows: { capacity: 1k }
interfaces:
  lan: { device: lan }
  wan: { device: wan }
sets:
  bad: { type: prefix, entries: [ 10.0.0.0/8 ] }
stages:
  guard:
    type: filter
    rules:
      - { name: one, action: drop, src: $bad }
pipelines:
  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }
"""


def changed(old, new):
    """GOOD with one thing changed, and where in it the change is."""
    assert GOOD.count(old) == 1, old
    at = GOOD.index(old)
    line = GOOD.count("\n", 0, at) + 1
    return GOOD.replace(old, new), (line, at - (GOOD.rfind("\n", 0, at) + 1) + 1)


# what it is about, what is changed to what, words the sentence has.  The place is that of the change, +n columns.
FILES = (
    ("unknown key", "device: lan", "devise: lan", 0, ["devise", "device"]),
    ("unknown stage type", "filter", "fillter", 0, ["fillter", "filter"]),
    ("unknown key of a rule", "src: $bad", "sorce: $bad", 0, ["sorce"]),
    ("key given twice", "  lan: { device: lan }", "  lan: { device: lan, device: wan }", 22, ["device"]),
    ("wrong type: a list for a text", "device: lan", "device: [ lan ]", 8, ["device"]),
    ("wrong type: a text for a mapping", "{ device: lan }", "lan", 0, ["lan"]),
    ("wrong type: a text for a number", "capacity: 1k", "capacity: many", 10, ["many"]),
    ("wrong type: a number for a list", "rules:\n      - { name: one, action: drop, src: $bad }", "rules: 5", 7, ["rules"]),
    ("wrong unit", "capacity: 1k", "capacity: 1ms", 10, ["1ms"]),
    ("wrong unit of a time", "capacity: 1k", "timeouts: { udp: 30 }", 17, ["30"]),
    ("out of range", "capacity: 1k", "capacity: 1", 10, ["16"]),
    ("no power of two", "device: lan", "device: lan, rx_ring: 1000", 22, ["1000", "power of two"]),
    ("bad prefix", "10.0.0.0/8", "10.0.0.0/33", 0, ["10.0.0.0/33", "0 to 32"]),
    ("host bits in a prefix", "10.0.0.0/8", "10.0.0.1/8", 0, ["10.0.0.1/8"]),
    ("bad port", "src: $bad", "proto: tcp, dport: 65536", 19, ["65536"]),
    ("bad version", "version: 1", "version: 2", 9, ["version"]),
    ("dangling set", "$bad", "$worse", 0, ["worse"]),
    ("dangling stage", "stages: [ guard ]", "stages: [ gurad ]", 10, ["gurad", "guard"]),
    ("dangling interface in from", "from: [ lan ]", "from: [ dmz ]", 8, ["dmz"]),
    ("dangling interface in to", "to: wan", "to: dmz", 4, ["dmz"]),
    ("a pipeline that matches nothing", "match: all", "match: []", 7, ["match"]),
    ("a pipeline with an empty set", "match: all", "match: [ { src: $none } ]", None, []),
    ("two interfaces on one device", "wan: { device: wan }", "wan: { device: lan }", 15, ["lan"]),
    ("no interfaces", "interfaces:\n  lan: { device: lan }\n  wan: { device: wan }", "interfaces: {}", None, ["interfaces"]),
    ("a tag", "device: lan", "device: !x lan", 8, ["tag"]),
    ("an alias", "device: lan", "device: &x lan", 8, ["anchor"]),
    ("missing version", "version: 1\n", "", None, ["version"]),
    ("two rules of one name", "      - { name: one, action: drop, src: $bad }", "      - { name: one, action: drop }\n      - { name: one, action: drop }", None, ["one"]),
    ("a missing set file", "entries: [ 10.0.0.0/8 ]", "file: nowhere.txt", 6, ["nowhere.txt"]),
    ("an offload that is not there", "capacity: 1k", "offload: sometimes", 9, ["offload"]),
    ("drop and pass at once", "wan: { device: wan }", "wan: { device: wan, on_exit: drop, unserved: pass }", None, ["unserved", "on_exit"]),
    ("drop where it is shared", "wan: { device: wan }", "wan: { device: wan, on_exit: drop, attach: shared }", None, ["on_exit", "link"]),
    ("a core that is not there", "version: 1", "version: 1\nworkers: { cores: 4000 }", None, ["4000"]),
    ("no YAML", "interfaces:", "interfaces: ][", None, []),
    ("a tabulator", "  lan: { device: lan }", "\tlan: { device: lan }", None, []),
)


class Judge:
    """Runs what must refuse, and says whether it did so properly."""

    def __init__(self, tap, bed):
        self.tap, self.bed = tap, bed
        self.instance, self.exe = bed.name("r"), w.find_millrace()

    def run(self, path, verb="run", wrap=(), instance=None, space="r"):
        argv = self.bed.enter(space) + list(wrap) + [self.exe, "--name", instance or self.instance, verb, path]
        try:
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stderr.decode()

    def refuses(self, name, path, code, words, place=None, **how):
        got, said = self.run(path, **how)
        lines = said.splitlines()
        where = "%s:%d:%d: " % (path, *place) if place else ""
        good = got == code and len(lines) == 1 and lines[0].startswith("millrace: " + where) and all(word in said for word in words)
        self.tap.ok(good, "%s: exit %d and one sentence%s" % (name, code, " with its place" if place else ""), "exit %s, wanted %s%s\n%s" % (got, where, words, said))
        left = w.left_behind(self.bed, how.get("space", "r"), how.get("instance") or self.instance)
        self.tap.same(left, [], name + ": nothing is attached or left")


def test_files(tap, bed, judge):
    for name, old, new, columns, words in FILES:
        text, (line, column) = changed(old, new)
        if "$none" in text:
            text = text.replace("sets:\n", "sets:\n  none: { type: prefix, entries: [] }\n")
        path = bed.file("bad.yaml", text)
        judge.refuses(name, path, 2, words + [path + ":"], (line, column + columns) if columns is not None else None)
        code, said = judge.run(path, "check")
        tap.ok(code == 2 and said == judge.run(path)[1], name + ": check says the same", said)
    judge.refuses("no such file", os.path.join(bed.dir, "nowhere.yaml"), 2, ["nowhere.yaml", "No such file"])
    judge.refuses("a folder", bed.dir, 2, [bed.dir])
    judge.refuses("an empty file", bed.file("empty.yaml", ""), 2, ["empty.yaml"])
    with open(os.path.join(bed.dir, "zeros.yaml"), "wb") as f:
        f.write(bytes(4096))
    judge.refuses("a file of zeros", f.name, 2, ["zeros.yaml"])
    tap.same(judge.run(bed.file("good.yaml", GOOD), "check")[0], 0, "and the unchanged file is good")


def test_devices(tap, bed, judge):
    path = bed.file("device.yaml", GOOD.replace("device: wan", "device: nowhere"))
    judge.refuses("device missing", path, 1, ["nowhere"], (6, 3))
    path = bed.file("device.yaml", GOOD)
    bed.run("r", "ip link set wan down")
    judge.refuses("device down", path, 1, ["wan is down", "ip link set"], (6, 3))
    bed.run("r", "ip link set wan up")
    path = bed.file("zero.yaml", GOOD.replace("device: wan", "device: wan, mode: zerocopy"))
    judge.refuses("without the asked mode", path, 1, ["wan", "veth", "zero"], (6, 3))
    path = bed.file("queues.yaml", GOOD.replace("device: wan", "device: wan, queues: [ 5 ]"))
    judge.refuses("a queue it has not", path, 2, ["wan", "queue 5"], (6, 3))
    path = bed.file("device.yaml", GOOD)
    for space, dev in (("s", "s0"), ("r", "wan")):
        bed.run(space, "ip link set %s mtu 9000" % dev)
    judge.refuses("MTU over the frame", path, 1, ["wan", "MTU 9000", "set the MTU to"], (6, 3))
    for space, dev in (("s", "s0"), ("r", "wan")):
        bed.run(space, "ip link set %s mtu 3000" % dev)
    judge.refuses("MTU over the frame, a larger one would do", path, 1, ["wan", "MTU 3000", "frame_size", "4096"], (6, 3))
    for space, dev in (("s", "s0"), ("r", "wan")):
        bed.run(space, "ip link set %s mtu 1500" % dev)
    path = bed.file("lo.yaml", GOOD.replace("device: wan", "device: lo"))
    judge.refuses("no Ethernet device", path, 1, ["lo", "Ethernet"], (6, 3))


def test_system(tap, bed, judge):
    # offload: never: else a line says first that there is no kernel tier
    path = bed.file("device.yaml", GOOD.replace("device: lan", "device: lan, on_exit: pass").replace("capacity: 1k", "capacity: 1k, offload: never"))
    # a copy: the build may lie where nobody else may look
    judge.exe = os.path.join(bed.dir, "millrace")
    shutil.copy(w.find_millrace(), judge.exe)
    os.chmod(judge.exe, 0o755)
    judge.refuses("no permission", path, 1, ["root"], wrap=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    # root, and yet nothing of what it takes
    judge.refuses("no capabilities", path, 1, [], wrap=["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    judge.refuses("no capability to load programs", path, 1, [], wrap=["setpriv", "--bounding-set=-sys_admin,-bpf", "--inh-caps=-all"])
    with open("/proc/meminfo") as f:
        free = next(int(line.split()[1]) for line in f if line.startswith("HugePages_Free"))
    huge = bed.file("huge.yaml", GOOD.replace("huge_pages: never", "huge_pages: always, frames: %d" % ((free + 2) * 1024)))
    judge.refuses("no huge pages where they must be", huge, 1, ["huge", "nr_hugepages"])
    large = bed.file("large.yaml", GOOD.replace("huge_pages: never", "huge_pages: never, frames: 1M"))
    if w.build_dir_sanitized():
        tap.skip("memory limit refused", "sanitizers need address space of their own")
    else:
        judge.refuses("memory limit refused", large, 1, ["memory"], wrap=["prlimit", "--as=1000000000"])
    # a file where the socket would be, and a folder that cannot be made
    os.makedirs("/run/millrace", mode=0o755, exist_ok=True)
    taken = "/run/millrace/%s-taken.sock" % judge.instance
    server = socket.socket(socket.AF_UNIX)
    server.bind(taken)
    server.listen()
    try:
        code, said = judge.run(path, instance=judge.instance + "-taken")
        tap.ok(code == 1 and len(said.splitlines()) == 1 and taken in said, "control socket in use: exit 1 and one sentence that names it", (code, said))
        tap.ok(os.path.exists(taken), "control socket in use: it stays whose it is")
    finally:
        server.close()
        if os.path.exists(taken):
            os.unlink(taken)
    tap.same([x for x in w.left_behind(bed, "r", judge.instance)], [], "control socket in use: nothing is attached or left")
    # a stale one is replaced
    stale = "/run/millrace/%s.sock" % judge.instance
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(stale)
    with bed.millrace("r", path) as m:
        tap.ok(w.show(bed, m)["uptime_ms"] >= 0, "a stale socket of a dead instance is replaced")
        tap.same(m.stop(), 0, "and it ends with 0")
    tap.same(w.left_behind(bed, "r", judge.instance), [], "and leaves nothing")


def test_without_bpffs(tap, bed, judge):
    """With on_exit: pass it pins nothing, so it does not need one; behind a filter that is said, not given up."""
    script = "mount -t tmpfs none /sys/fs/bpf && exec \"$@\""
    wrap = ["unshare", "--mount", "sh", "-c", script, "sh"]
    judge.refuses("no bpffs, a filter", bed.file("closed.yaml", GOOD), 1, ["on_exit: drop", "mount -t bpf", "nsenter", "on_exit: pass"], (5, 3), wrap=wrap)
    path = bed.file("device.yaml", GOOD.replace("device: lan", "device: lan, on_exit: pass"))
    with bed.millrace("r", path, wrap=wrap) as m:
        tap.same(w.show(bed, m)["totals"]["unaccounted_packets"], 0, "no bpffs: it runs, nothing needs one")
        tap.same(m.stop(), 0, "no bpffs: ends with 0")


def test_command_line(tap, bed):
    exe = w.find_millrace()
    for words in (["run"], ["frobnicate"], ["run", "a", "b"], ["show", "flwos"], ["show", "--bogus"], ["--name", "a b", "show"],
                  ["explain", "--in", "wan"], ["explain", "--in", "wan", "tcp 1.2.3.4"], ["show", "flows", "--port", "65536"], ["flows", "delete"],
                  ["top", "--interval", "5"], ["--name"]):
        done = subprocess.run([exe] + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        tap.ok(done.returncode == 2 and len(done.stderr.splitlines()) == 1, "millrace %s: exit 2 and one sentence" % " ".join(words), (done.returncode, done.stderr))
    for words in (["show"], ["reload"], ["flows", "delete", "--all"], ["explain", "--in", "wan", "tcp 1.2.3.4:1 to 5.6.7.8:2"], ["top"], ["version"]):
        done = subprocess.run([exe, "--name", bed.name("nobody"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        tap.ok(done.returncode == 1 and len(done.stderr.splitlines()) == 1 and bed.name("nobody") in done.stderr.decode(),
               "millrace %s: no such instance, exit 1 and one sentence" % " ".join(words), (done.returncode, done.stderr))


def test(tap, bed):
    w.wire(bed)
    os.chmod(bed.dir, 0o755)
    judge = Judge(tap, bed)
    test_files(tap, bed, judge)
    test_devices(tap, bed, judge)
    test_system(tap, bed, judge)
    test_without_bpffs(tap, bed, judge)
    test_command_line(tap, bed)


if __name__ == "__main__":
    w.sys.exit(w.main(test, "bad"))
