# SPDX-License-Identifier: BSD-2-Clause
"""Namespaces, veth pairs and processes that are gone when the program is, however it ends.

    with Bed("demo") as bed:
        bed.ns("a"); bed.ns("b")
        bed.veth("a", "a0", "b", "b0")
        bed.run("a", "ip addr add 10.0.0.1/24 dev a0")
        with bed.millrace("b", "b.yaml") as m: ...

A namespace is called mr-WORD-PID-NAME, so that two runs never meet and a stale one is recognised.  Used by
the Python tests, the demo and the benches; lib.sh is the same for shell tests.
"""
import atexit
import ctypes
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def find_millrace():
    """The built program: $MILLRACE, or the one in $MR_BUILD (build/)."""
    if os.environ.get("MILLRACE"):
        return os.environ["MILLRACE"]
    return os.path.join(build_dir(), "cli", "millrace")


def build_dir():
    return os.environ.get("MR_BUILD", os.path.join(ROOT, "build"))


SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error:")


class Failed(Exception):
    """One sentence for a person; the text is the whole message."""


class Tap:
    """Counted results, one line each, as scripts/test reads them."""

    def __init__(self):
        self.cnt, self.failed = 0, 0

    def ok(self, good, name, detail=""):
        self.cnt += 1
        self.failed += not good
        print("%s %d - %s" % ("ok" if good else "not ok", self.cnt, name), flush=True)
        if not good and detail != "":
            print("\n".join("# " + l for l in str(detail)[:9000].splitlines()), flush=True)
        return good

    def same(self, got, want, name):
        return self.ok(got == want, name, "expected %s, got %s" % (want, got))

    def skip(self, name, reason):
        self.cnt += 1
        print("ok %d - %s # SKIP %s" % (self.cnt, name, reason), flush=True)

    def done(self):
        """The plan; returns the exit status."""
        print("1..%d" % self.cnt)
        return 1 if self.failed or not self.cnt else 0


def skip_all(reason):
    """Nothing in this file can run here."""
    print("1..0 # SKIP " + reason)
    sys.exit(77)


def command(words):
    return words.split() if isinstance(words, str) else [str(w) for w in words]


class Process:
    """A child with its output in a file, ended when left."""

    def __init__(self, bed, argv, name):
        self.name = name
        self.log = os.path.join(bed.dir, "%s-%d.log" % (name, len(bed.children)))
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, cwd=bed.dir,
                                          start_new_session=True)  # Ctrl-C is ours to pass on, in order
        self.pid = self.child.pid
        bed.children.append(self)

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def wait_for(self, line, timeout_s=15, whole=False):
        """Until the output contains the text, or has it as a whole line."""
        end = time.monotonic() + timeout_s
        while line not in (self.text().splitlines() if whole else self.text()):
            if self.child.poll() is not None:
                raise Failed("%s ended with %d before it said '%s':\n%s" % (self.name, self.child.returncode, line, self.text()[-2000:]))
            if time.monotonic() > end:
                raise Failed("%s did not say '%s' within %d s:\n%s" % (self.name, line, timeout_s, self.text()[-2000:]))
            time.sleep(0.02)
        return self

    def stop(self, sig=signal.SIGTERM, timeout_s=10):
        """Asks it to end, insists after timeout_s, and returns the exit code."""
        if self.child.poll() is None:
            self.child.send_signal(sig)
            try:
                self.child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(5)
        if self.child.stdin:
            self.child.stdin.close()
            self.child.stdin = None
        return self.child.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class Bed:
    def __init__(self, word):
        if os.geteuid() != 0:
            raise Failed("network namespaces need root")
        self.prefix = "mr-%s-%d" % (word, os.getpid())
        self.spaces = []
        self.children = []
        self.dir = tempfile.mkdtemp(prefix=self.prefix + "-")
        atexit.register(self.close)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, self.interrupted)

    def interrupted(self, sig, frame):
        # A second Ctrl-C must not cut the cleaning short.
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        sys.exit(128 + sig)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        reports = self.close()
        if reports and exc[0] is None:
            raise Failed(reports)

    def close(self):
        """Ends and removes everything; returns what sanitizers reported in a child's output."""
        reports = []
        for child in reversed(self.children):
            child.stop(timeout_s=5)
            if any(mark in child.text() for mark in SANITIZER_REPORTS):
                reports.append("%s:\n%s" % (child.name, child.text()[-8000:]))
        self.children = []
        # one that was killed leaves its socket's file and what it had changed on devices, written down
        for path in glob.glob("/run/millrace/%s-*.sock" % self.prefix) + glob.glob("/run/millrace/%s-*.state" % self.prefix):
            os.unlink(path)
        # and with on_exit: drop every one leaves its programs
        for path in glob.glob("/sys/fs/bpf/millrace/%s-*" % self.prefix):
            subprocess.run(["rm", "-rf", path])
        self.clear()
        if self.dir:
            subprocess.run(["rm", "-rf", self.dir])
            self.dir = None
        return "\n".join(reports)

    def clear(self):
        """Removes the namespaces, for a test that begins anew; processes are to be ended before."""
        for name in self.spaces:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
        self.spaces = []

    def name(self, space):
        return self.prefix + "-" + space

    def enter(self, space):
        return ["nsenter", "--net=/run/netns/" + self.name(space)]

    def move_thread(self, space):
        """From here on, sockets this thread opens are in that namespace."""
        with open("/run/netns/" + self.name(space)) as f:
            if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), 0x40000000):
                raise Failed("cannot enter the namespace of %s: %s" % (space, os.strerror(ctypes.get_errno())))

    def ns(self, space):
        subprocess.run(["ip", "netns", "add", self.name(space)], check=True)
        self.spaces.append(self.name(space))
        self.run(space, "ip link set lo up")
        # No router solicitations and duplicate-address waits: counts are exact and addresses usable at once.
        self.sysctl(space, "net/ipv6/conf/default/accept_dad", 0)
        self.sysctl(space, "net/ipv6/conf/all/accept_dad", 0)
        self.sysctl(space, "net/ipv6/conf/default/router_solicitations", 0)

    def sysctl(self, space, key, value):
        # /proc/sys/net shows the namespace of the process that opens it.
        self.run(space, ["sh", "-c", "echo %s > /proc/sys/%s" % (value, key)])

    def veth(self, a, a_dev, b, b_dev, a_mac=None, b_mac=None, queues=1, mtu=None, index=None):
        q = ["numrxqueues", queues, "numtxqueues", queues]
        add = ["ip", "link", "add", a_dev] + (["index", index] if index else []) + ["netns", self.name(a)] + (["address", a_mac] if a_mac else []) + q
        add += ["type", "veth", "peer", "name", b_dev, "netns", self.name(b)] + (["address", b_mac] if b_mac else []) + q
        subprocess.run([str(w) for w in add], check=True)
        for space, dev in ((a, a_dev), (b, b_dev)):
            if mtu:
                self.run(space, ["ip", "link", "set", dev, "mtu", mtu])
            self.run(space, ["ip", "link", "set", dev, "up"])

    def host(self, space, dev):
        """Makes a host's veth send what would be on a wire: finished checksums, no segments over the MTU, tags in line."""
        self.run(space, ["ethtool", "-K", dev, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
        self.run(space, ["ethtool", "-K", dev, "txvlan", "off"], check=False)
        # TCP still builds segments larger than the wire for software to cut; with this, nftables in the host counts frames.
        self.run(space, ["ip", "link", "set", dev, "gso_max_segs", "1"])

    def accept_redirects(self, space, dev):
        """A veth without an XDP program takes redirected frames only after GRO was switched on while it is up."""
        self.run(space, ["ethtool", "-K", dev, "gro", "off"])
        self.run(space, ["ethtool", "-K", dev, "gro", "on"])

    def mac(self, space, dev):
        return json.loads(self.run(space, ["ip", "-j", "link", "show", dev]))[0]["address"]

    def counters(self, space, dev):
        """The kernel's own counters of a device, as ip -s link has them."""
        d = json.loads(self.run(space, ["ip", "-j", "-s", "link", "show", dev]))[0]["stats64"]
        return {way + "_" + k: d[way][k] for way in ("rx", "tx") for k in ("packets", "bytes", "dropped")}

    def run(self, space, words, check=True, timeout_s=60):
        """Runs a command in a namespace, returns what it wrote to standard output."""
        argv = (self.enter(space) if space else []) + command(words)
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout_s, cwd=self.dir)
        if check and done.returncode:
            raise Failed("'%s' ended with %d: %s" % (" ".join(command(words)), done.returncode, done.stderr.decode(errors="replace").strip()))
        return done.stdout.decode(errors="replace")

    def spawn(self, space, words, name=None):
        words = command(words)
        return Process(self, (self.enter(space) if space else []) + words, name or os.path.basename(words[0]))

    def file(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def millrace(self, space, config, instance=None, wrap=(), timeout_s=20):
        """Starts `millrace run` in a namespace and returns when traffic flows."""
        instance = instance or self.name(space)
        m = self.spawn(space, list(wrap) + [find_millrace(), "--name", instance, "run", config], name="millrace")
        m.instance = instance
        m.space = space
        return m.wait_for("ready", timeout_s, whole=True)

    def ask(self, m, *words):
        """A read from a running instance: the parsed JSON envelope."""
        return json.loads(self.run(m.space, [find_millrace(), "--name", m.instance, *words, "--json"]))

    def cpu_seconds(self, pid):
        """Processor time a process has used, from /proc/PID/stat."""
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
