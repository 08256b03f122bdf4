"""Which files were opened, whoever did: the kernel says so (inotify, on Linux alone)."""

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path


class Opened:
    """Within it, the kernel notes each time that one of the files is opened (inotify)."""

    _IN_OPEN, _IN_NONBLOCK = 0x20, 0o4000
    _EVENT = struct.Struct("iIII")

    def __init__(self, files: Sequence[Path]):
        self.paths: list[str] = []
        self._files, self._watched = files, dict[int, str]()
        self._descriptor = -1

    def __enter__(self) -> "Opened":
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            self._descriptor = libc.inotify_init1(self._IN_NONBLOCK)
            for path in self._files:
                watch = libc.inotify_add_watch(self._descriptor, os.fsencode(path), self._IN_OPEN)
                self._watched[watch] = str(path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor < 0:
            return
        with os.fdopen(self._descriptor, "rb", buffering=0) as file:
            data = file.read(1 << 16) or b""  # None: nothing happened
        at = 0
        while at < len(data):
            watch, _mask, _cookie, length = self._EVENT.unpack_from(data, at)
            self.paths.append(self._watched.get(watch, "?"))
            at += self._EVENT.size + length
