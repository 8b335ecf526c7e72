# SPDX-License-Identifier: BSD-2-Clause
"""A guest's whole file system as one cpio archive: programs of this machine with the libraries they name, the built
tests and the source tree at the paths they have here, a kernel's modules in loading order.

Uncompressed on purpose: an emulated CPU unpacks slower than QEMU copies.
"""
import os
import re
import shutil
import stat
import subprocess

LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")


class Missing(Exception):
    """What this machine lacks, in one sentence."""


class Initramfs:
    def __init__(self):
        self.entries = {}  # path in the guest: (mode, bytes)
        self.asked = set()

    def folder(self, path):
        path = path.rstrip("/")
        if not path or path in self.entries:
            return
        # /bin and /lib are links into /usr on Debian: the guest has the same links.
        if os.path.islink(path) and path.count("/") == 1:
            self.entries[path] = (stat.S_IFLNK | 0o777, os.readlink(path).encode())
            return self.folder(os.path.realpath(path))
        self.folder(os.path.dirname(path))
        self.entries[path] = (stat.S_IFDIR | 0o755, b"")

    def text(self, path, text, mode=0o644):
        self.folder(os.path.dirname(path))
        self.entries[path] = (stat.S_IFREG | mode, text if isinstance(text, bytes) else text.encode())

    def link(self, path, target):
        self.folder(os.path.dirname(path))
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def place(self, path):
        """The path with links in its folders resolved, as the archive needs it."""
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))

    def file(self, path):
        """A file of this machine, at the same path; a link with what it points to."""
        self.folder(os.path.dirname(path))
        path = self.place(path)
        if path in self.entries:
            return
        if not os.path.lexists(path):  # a link to nothing
            return
        self.folder(os.path.dirname(path))
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            self.entries[path] = (info.st_mode, os.readlink(path).encode())
            self.file(os.path.join(os.path.dirname(path), os.readlink(path)))
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as f:
                self.entries[path] = (info.st_mode, f.read())

    def program(self, path):
        """A file and, when it is linked, its libraries."""
        self.file(path)
        real = os.path.realpath(path)
        if real in self.asked or not os.path.isfile(real):
            return
        self.asked.add(real)
        with open(real, "rb") as f:
            head = f.read(256)
        if head.startswith(b"#!"):
            return self.command(os.path.basename(head[2:].split()[0].decode()), needed=False)
        if not head.startswith(b"\x7fELF"):
            return
        done = subprocess.run(["ldd", real], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for library in LIBRARY.findall(done.stdout.decode()):
            self.file(library)

    def command(self, name, needed=True):
        """A command of the distribution, wherever it lies.  True if it is there."""
        path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if path:
            self.program(path)
        elif needed:
            raise Missing("no %s here" % name)
        return bool(path)

    def tree(self, path, want=lambda path: True):
        for folder, folders, files in os.walk(path):
            folders[:] = [d for d in folders if want(os.path.join(folder, d) + "/")]
            for name in files:
                if want(os.path.join(folder, name)):
                    self.program(os.path.join(folder, name))

    def write(self, path):
        """The archive in the newc format.  Returns its size."""
        with open(path, "wb") as out:
            for idx, name in enumerate(sorted(self.entries)):
                entry = self.entries[name]
                self.write_entry(out, idx + 1, name.lstrip("/"), *entry)
            self.write_entry(out, 0, "TRAILER!!!", 0, b"")
            return out.tell()

    @staticmethod
    def write_entry(out, inode, name, mode, content):
        fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0]
        out.write(b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0")
        out.write(b"\0" * (-out.tell() % 4))
        out.write(content)
        out.write(b"\0" * (-out.tell() % 4))
