"""Files in memory, brought there before they are touched.

`madvise(MADV_POPULATE_READ)` reads what is missing from the disk, in pages of 2 MiB where the file
system has them, and maps it. Rows are then copied by the process itself: up to twice as fast as by
`preadv`, which asks the system about every page of every read. And what the disk cannot give is an
error there, while touching it would be the end of the process (SIGBUS); only a page that memory
has lost since, and that the disk cannot give a second time, still is.

Linux from 5.14 on; not for network file systems, where files may go while they are mapped.
"""

import ctypes
import errno
import functools
import mmap
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from mmf import MmfError

_POPULATE_READ = 22  # of Linux; Python's mmap does not name it
_UNIT = 2 << 20
_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"}


class Mapped:
    """A file of which parts are in memory; it must not change. Several threads may share it."""

    def __init__(self, fd: int, name: str):
        self._name = name
        pages = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        with suppress(OSError):  # a system without large pages
            pages.madvise(mmap.MADV_HUGEPAGE)
        self.bytes = np.frombuffer(pages, dtype=np.uint8)  # touch only what has been brought
        self.whole = False  # whether all of it has been
        self._units = bytearray(-(-len(self.bytes) // _UNIT))  # 1 where all of it is there

    def has(self, offset: int, size: int) -> bool:
        """Whether these bytes have been brought."""
        return self._units.find(0, offset // _UNIT, -(-(offset + size) // _UNIT)) < 0

    def bring(self, offset: int, size: int) -> None:
        """Have these bytes in memory.

        Raises OSError where the disk cannot give them, MmfError where the file is too short.
        """
        if self.has(offset, size):
            return
        if missing := max(0, offset + size - len(self.bytes)):
            raise MmfError(f"{self._name!r} is damaged: the shard ends {missing} bytes early.")
        first, last = offset // _UNIT, -(-(offset + size) // _UNIT)
        begin, end = first * _UNIT, min(last * _UNIT, len(self.bytes))
        if _populate(self.bytes.ctypes.data + begin, end - begin):
            number = ctypes.get_errno()
            # EFAULT is the system's word for a page that the disk does not give
            number = errno.EIO if number == errno.EFAULT else number
            raise OSError(number, os.strerror(number), self._name)
        self._units[first:last] = b"\1" * (last - first)
        self.whole = 0 not in self._units


def _populate(address: int, size: int) -> int:
    """Bring the pages of a mapping into memory; not 0 where that fails, with ctypes' errno."""
    return _libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _POPULATE_READ)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def possible(folder: Path) -> bool:
    """Whether files of this folder may be mapped: see the head of this module."""
    if not sys.platform.startswith("linux"):
        return False
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        if _populate(ctypes.addressof(ctypes.c_char.from_buffer(page)), mmap.PAGESIZE):
            return False  # an older Linux
    return _kind_of_disk(folder) in _LOCAL


def _kind_of_disk(folder: Path) -> str:
    """The file system that holds a folder: of the mounts above it, the deepest."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        mount = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields[4])
        above = os.path.commonpath([mount, folder.resolve()]) == mount
        if above and len(mount) >= len(best):
            best, kind = mount, fields[fields.index("-") + 1]
    return kind


@functools.cache
def most_bytes() -> int:
    """How much may be read in random order and is then found in memory again: half of it."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
