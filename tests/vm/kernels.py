# SPDX-License-Identifier: BSD-2-Clause
"""The two kernels of the matrix: Debian packages fetched once into a cache and unpacked there, never installed.

    CACHE/6.1/      version, vmlinuz, modules/     Debian 12's own
    CACHE/newest/   the same                       the highest version in trixie-backports and sid

The packages come through apt, its signatures checked, with a configuration that lies in the cache: the machine's own
Debian mirror with other suites.  The machine's package lists and sources stay as they are.
"""
import glob
import lzma
import os
import re
import shutil
import subprocess
import tempfile

# By name: the suites to look in, and which package holds the kernel image.  From 6.19 on the modules are a package of their own.
KERNELS = {
    "6.1": (["bookworm", "bookworm-security"], re.compile(r"^linux-image-(6\.1\.0-\d+)-cloud-amd64$")),
    "newest": (["trixie-backports", "sid"], re.compile(r"^linux-(?:image|binary)-([\d.]+\+deb\d+)-cloud-amd64$")),
}


class Unavailable(Exception):
    """Why a kernel cannot be had here, in one sentence."""


def cache_dir():
    return os.environ.get("MILLRACE_VM_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "millrace-vm")


class Kernel:
    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.image = os.path.join(folder, "vmlinuz")
        with open(os.path.join(folder, "version")) as f:
            self.version = f.read().strip()
        self.files = {}
        for path in glob.glob(os.path.join(folder, "modules", "**", "*.ko*"), recursive=True):
            self.files[os.path.basename(path).split(".ko")[0].replace("-", "_")] = path

    def module(self, name):
        """The module's bytes, unpacked; None if it is built in or not there."""
        path = self.files.get(name)
        if not path:
            return None
        with (lzma.open(path) if path.endswith(".xz") else open(path, "rb")) as f:
            return f.read()

    def modules(self, wanted):
        """[(name, bytes)] of those that are modules, and what they need, in loading order."""
        out = {}

        def add(name):
            data = None if name in out else self.module(name)
            if data is None:
                return
            depends = re.search(rb"\0depends=([^\0]*)\0", data)
            for need in (depends.group(1).decode().split(",") if depends else []):
                if need:
                    add(need.replace("-", "_"))
            out[name] = data

        for name in wanted:
            add(name)
        return list(out.items())


def apt(folder, suites):
    """Options that make apt look into these suites of the machine's mirror, with everything it writes inside folder."""
    site = security = None
    try:
        rows = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(SUITE)", "Created-By: Packages"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode().split("\n")
    except (OSError, subprocess.CalledProcessError):
        raise Unavailable("no apt here, and only Debian's own packages are used")
    for uri, origin, suite in (r.split() for r in rows if len(r.split()) == 3):
        if origin == "Debian":
            site, security = (site, uri.rstrip("/")) if "security" in suite else (uri.rstrip("/"), security)
    if not site:
        raise Unavailable("apt knows no archive of Debian here (no source, or `apt-get update` never ran)")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    if not os.path.exists(keys):
        raise Unavailable("no keys of the Debian archive here (package debian-archive-keyring)")
    sources = os.path.join(folder, "sources.list")
    with open(sources, "w") as f:
        for s in suites:
            if "security" in s and not security:
                continue
            f.write("deb [arch=amd64 signed-by=%s] %s %s main\n" % (keys, security if "security" in s else site, s))
    for d in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(folder, d), exist_ok=True)
    options = {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "-", "Dir::Etc::preferences": "-", "Dir::Etc::preferencesparts": "-",
               "Dir::State::lists": os.path.join(folder, "lists"), "Dir::Cache": os.path.join(folder, "cache"), "APT::Architecture": "amd64",
               "Acquire::Languages": "none", "APT::Sandbox::User": "root", "Acquire::Retries": "2"}
    return [w for k, v in options.items() for w in ("-o", "%s=%s" % (k, v))]


def call(argv, cwd=None):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd, timeout=300)
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        lines = [l for l in text.splitlines() if l.strip()]
        raise Unavailable("%s: %s" % (argv[0], lines[-1] if lines else "failed"))
    return text


def version_key(text):
    return [int(n) for n in re.findall(r"\d+", text)]


def newest_packages(options, pattern):
    """(version, packages) of the highest version apt knows."""
    best = None
    for name in call(["apt-cache"] + options + ["pkgnames", "linux-"]).split():
        m = pattern.match(name)
        if m and (best is None or version_key(m.group(1)) > version_key(best[0])):
            best = (m.group(1), name)
    if not best:
        raise Unavailable("the mirror has no cloud kernel for amd64")
    packages = [best[1]]
    # An image without modules of its own, and the meta package that comes with it, name the other two.
    for name in ("linux-binary-%s-cloud-amd64" % best[0], "linux-modules-%s-cloud-amd64" % best[0]):
        if name not in packages and "\nFilename:" in subprocess.run(["apt-cache"] + options + ["show", name], stdout=subprocess.PIPE,
                                                                    stderr=subprocess.DEVNULL).stdout.decode():
            packages.append(name)
    return packages


def fetch(name):
    """Into the cache, all or nothing."""
    suites, pattern = KERNELS[name]
    os.makedirs(cache_dir(), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache_dir()) as folder:
        options = apt(folder, suites)
        call(["apt-get"] + options + ["-q", "update"])
        packages = newest_packages(options, pattern)
        call(["apt-get"] + options + ["-q", "download"] + packages, cwd=folder)
        tree, ready = os.path.join(folder, "tree"), os.path.join(folder, "ready")
        for deb in glob.glob(os.path.join(folder, "*.deb")):
            call(["dpkg-deb", "-x", deb, tree])
        images = glob.glob(tree + "/boot/vmlinuz-*") + glob.glob(tree + "/usr/lib/modules/*/vmlinuz")
        modules = glob.glob(tree + "/lib/modules/*") + glob.glob(tree + "/usr/lib/modules/*")
        if not images or not modules:
            raise Unavailable("no kernel inside %s" % " ".join(packages))
        os.makedirs(ready)
        shutil.copy(images[0], os.path.join(ready, "vmlinuz"))
        shutil.copytree(modules[0], os.path.join(ready, "modules"), symlinks=True)
        with open(os.path.join(ready, "version"), "w") as f:
            f.write(os.path.basename(modules[0]) + "\n")
        place = os.path.join(cache_dir(), name)
        shutil.rmtree(place, ignore_errors=True)
        os.rename(ready, place)
    return Kernel(name, place)


def get(name, refresh=False):
    place = os.path.join(cache_dir(), name)
    if os.path.exists(os.path.join(place, "version")) and not refresh:
        return Kernel(name, place)
    try:
        return fetch(name)
    except (OSError, subprocess.SubprocessError) as e:
        raise Unavailable(str(e))
