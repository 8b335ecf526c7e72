# SPDX-License-Identifier: BSD-2-Clause
"""One emulated machine: q35 without KVM, two CPUs, and for the zerocopy suite four virtio network devices.

    g0 ──hub 0── r0   r1 ──hub 1── s0        r2 ══ tap, two queues ══ bridge ══ tap, two queues ══ g2   (as root)

    ttyS0   console                        ttyS1   what the suite says
    ttyS2   requests, one a line, answered by a line: unplug DEV, plug DEV, link DEV on|off (DEV as above)

The device options are what zero-copy needs: iommu_platform gives the driver DMA addresses to hand to the sockets, and
the guest_* features off let it run native XDP.
"""
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

NIC = "iommu_platform=on,disable-legacy=on,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,guest_csum=off"
HUBS = {"g0": 0, "r0": 0, "r1": 1, "s0": 1}
TAPS = ["r2", "g2"]
# What QEMU spends most on where there is no KVM: wide registers saved at every switch, checks at every way into the kernel, a fifth page table.
CPU = "max,la57=off,smap=off,smep=off,pku=off,avx=off,avx2=off,xsave=off"
MEMORY_MIB = 1536
# A kernel that says one of these is broken or was broken by us: the suite failed.
OOPS = re.compile(r"(BUG: .*|Oops: .*|Kernel panic.*|general protection fault.*|WARNING: .*|.*Call Trace.*|.*blocked for more than.*|rcu:? .*stall.*)")


def mac(dev):
    return "52:54:00:6d:72:%02x" % ("g0 r0 r1 s0 r2 g2".split().index(dev) + 1)


class Taps:
    """Two taps of two queues, bridged in a namespace of their own; the queues' files go to QEMU."""

    def __init__(self, word):
        self.space = "mr-vm-%d-%s" % (os.getpid(), word)
        self.fds = {}

    def make(self):
        """'' or why not."""
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            return "taps need root and /dev/net/tun"
        script = "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up"
        for dev in TAPS:
            script += " && ip tuntap add %s mode tap multi_queue vnet_hdr && ip link set %s master br0 up" % (dev, dev)
        subprocess.run(["ip", "netns", "add", self.space], check=True)
        done = subprocess.run(["nsenter", "--net=/run/netns/" + self.space, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; " + script],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout.decode().strip() if done.returncode else ""

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.space], stderr=subprocess.DEVNULL)


class Machine:
    def __init__(self, kernel, archive, suite, arguments, folder):
        self.kernel, self.archive, self.suite, self.folder = kernel, archive, suite, folder
        self.arguments = arguments
        self.hung, self.oops, self.interrupted = False, "", False
        self.console = os.path.join(folder, "console")
        self.taps, self.child, self.monitor = None, None, None
        self.lock = threading.Lock()

    # ---- the command line

    def argv(self, console):
        argv = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", CPU, "-smp", "2", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-kernel", self.kernel.image, "-initrd", self.archive, "-append",
                "console=ttyS0 panic=-1 oops=panic quiet loglevel=5 rcupdate.rcu_expedited=1 net.ifnames=0 random.trust_cpu=on "
                "mitigations=off init_on_alloc=0 lsm= nokaslr norandmaps rdinit=/init -- "
                + " ".join([self.suite] + self.arguments),
                "-device", "virtio-rng-pci", "-qmp", "unix:%s,server=on,wait=off" % self.path("qmp")]
        argv += console
        if self.suite in ("zerocopy", "shell", "command"):
            for dev, hub in HUBS.items():
                # A port of its own for each, so that it can be pulled.
                argv += ["-device", "pcie-root-port,id=port-%s,chassis=%d" % (dev, len(argv))]
                argv += ["-netdev", "hubport,id=net-%s,hubid=%d" % (dev, hub), "-device", self.nic(dev)]
            for dev in TAPS if self.taps else []:
                argv += ["-netdev", "tap,id=net-%s,ifname=%s,script=no,downscript=no,queues=2,vhost=off" % (dev, dev), "-device", self.nic(dev)]
        return argv

    def nic(self, dev):
        words = "virtio-net-pci,id=%s,netdev=net-%s,mac=%s,%s" % (dev, dev, mac(dev), NIC)
        if dev in HUBS:
            return words + ",bus=port-" + dev
        return words + ",mq=on,vectors=8"

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, console, **kw):
        if self.suite in ("zerocopy", "shell", "command"):
            taps = Taps(os.path.basename(self.folder))
            why = taps.make()
            self.taps = taps if not why else None
            if why:
                taps.remove()
                print("   no multi-queue devices: %s" % why, flush=True)
        argv = self.argv(console)
        if self.taps:
            argv = ["nsenter", "--net=/run/netns/" + self.taps.space] + argv
        if self.interrupted:
            raise OSError("interrupted")
        self.child = subprocess.Popen(["nice", "-n", "5"] + argv, **kw)

    # ---- the monitor

    def ask(self, command, arguments):
        """One QMP command; the error's text or ''."""
        with self.lock:
            if not self.monitor:
                s = socket.socket(socket.AF_UNIX)
                s.settimeout(10)
                s.connect(self.path("qmp"))
                self.monitor = s.makefile("rw")
                self.monitor.readline()
                self.exchange("qmp_capabilities", {})
            return self.exchange(command, arguments)

    def exchange(self, command, arguments):
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.monitor.flush()
        while True:
            answer = json.loads(self.monitor.readline())
            if "return" in answer:
                return ""
            if "error" in answer:
                return answer["error"]["desc"]

    def request(self, words):
        if len(words) < 2 or words[1] not in HUBS:
            return "no such request"
        dev = words[1]
        if words[0] == "unplug":
            return self.ask("device_del", {"id": dev})
        if words[0] == "plug":
            arguments = dict(w.split("=") for w in self.nic(dev).split(",")[1:])
            return self.ask("device_add", dict(arguments, driver="virtio-net-pci"))
        if words[0] == "link" and len(words) == 3:
            return self.ask("set_link", {"name": dev, "up": words[2] == "on"})
        return "no such request"

    def serve(self, s):
        """Requests of the guest, until it is gone."""
        for line in s.makefile("r"):
            words = line.split()
            try:
                why = self.request(words) if words else "empty"
            except (OSError, ValueError) as e:
                why = str(e)
            try:
                s.sendall(("error: %s\n" % why if why else "ok\n").encode())
            except OSError:
                return

    # ---- running

    def interact(self):
        try:
            self.start(["-serial", "mon:stdio"])
            return self.child.wait()
        finally:
            self.stop()

    def run(self, limit_s, show):
        """Boots, gives each line of the suite to show, returns them all; hung and oops say how it ended."""
        lines = []
        serials = ["-serial", "file:" + self.console]
        for name in ("said", "asked"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
            serials += ["-serial", "unix:%s,server=on,wait=off" % self.path(name)]
        if os.path.exists(self.console):
            os.unlink(self.console)
        try:
            self.start(serials, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            said, asked = self.connect("said"), self.connect("asked")
            if asked:
                threading.Thread(target=self.serve, args=(asked,), daemon=True).start()
            if said:
                self.listen(said, time.monotonic() + limit_s, show, lines)
            self.settle()
        finally:
            self.stop()
        self.look_for_oops()
        return lines

    def connect(self, name):
        for _ in range(200):
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(self.path(name))
                return s
            except OSError:
                s.close()
                if self.child.poll() is not None:
                    return None
                time.sleep(0.05)
        return None

    def listen(self, said, end, show, lines):
        rest = b""
        while True:
            left = end - time.monotonic()
            if left <= 0:
                self.hung = True
                return
            if not select.select([said], [], [], min(left, 1))[0]:
                continue
            data = said.recv(65536)
            if not data:
                return
            *whole, rest = (rest + data).replace(b"\r", b"").split(b"\n")
            for line in whole:
                lines.append(line.decode(errors="replace"))
                show(lines[-1])

    def settle(self):
        if not self.hung:
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.hung = True

    def interrupt(self):
        """From another thread than the one in run(), which then comes to its end."""
        self.interrupted = True
        if self.child and self.child.poll() is None:
            self.child.terminate()

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        if self.child and self.child.stdout:
            with open(self.console, "ab") as f:
                f.write(self.child.stdout.read())
            self.child.stdout.close()
        if self.monitor:
            self.monitor.close()
            self.monitor = None
        if self.taps:
            self.taps.remove()
            self.taps = None

    def console_lines(self):
        try:
            with open(self.console, errors="replace") as f:
                return [l.rstrip() for l in f if l.strip()]
        except OSError:
            return []

    def console_tail(self, cnt):
        return self.console_lines()[-cnt:]

    def look_for_oops(self):
        for line in self.console_lines():
            found = OOPS.search(line)
            if found:
                self.oops = found.group(1).strip()[:120]
                return
