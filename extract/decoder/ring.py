"""Shared memory through which the decoder's process hands rows over without a pipe's copies.

One side writes, the other reads, in order. Positions count bytes for ever; a row never wraps, so
it is one array on both sides. The reader's position stands in the memory itself: giving a row back
is one store, and the writer looks there when the ring is full.
"""

import mmap
import os
import sys
import tempfile
import time
from typing import BinaryIO

import numpy as np

_HEAD = 64  # bytes before the rows; the first 8 are the reader's position
_ALIGN = 64
_PAUSE = 0.005  # seconds between two looks at a full ring


def anonymous_file(name: str) -> BinaryIO:
    """A file without a name, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(name), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


class Ring:
    """A ring of `nbytes` over the file `descriptor`, which both processes have."""

    def __init__(self, descriptor: int, nbytes: int):
        self.nbytes = nbytes
        self._memory = np.frombuffer(mmap.mmap(descriptor, _HEAD + nbytes), np.uint8)
        self._taken = self._memory[:8].view(np.uint64)
        self._rows = self._memory[_HEAD:]
        self._written = 0
        self._parent = os.getppid()

    @staticmethod
    def allocate(nbytes: int) -> BinaryIO:
        """The file that two rings share."""
        file = anonymous_file("mmf-rows")
        file.truncate(_HEAD + nbytes)
        return file

    def put(self, row: np.ndarray) -> tuple[int, int]:
        """Copies `row` in; (where it lies, the position behind it).

        Once the ring is full it waits until a quarter is free: the two processes, which may share a
        core, then take turns of seconds, and not one row each.
        """
        room = -(-row.nbytes // _ALIGN) * _ALIGN
        at = self._written % self.nbytes
        if at + room > self.nbytes:
            self._written += self.nbytes - at
            at = 0
        free = self.nbytes - (self._written - int(self._taken[0]))
        while free < room:
            if os.getppid() != self._parent:  # nobody will take them
                sys.exit(1)
            time.sleep(_PAUSE)
            free = self.nbytes - (self._written - int(self._taken[0])) - self.nbytes // 4
        self.view(at, row.dtype, row.shape)[...] = row
        self._written += room
        return at, self._written

    def view(self, at: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """The row that lies at `at`, not copied."""
        nbytes = dtype.itemsize * int(np.prod(shape))
        return self._rows[at : at + nbytes].view(dtype).reshape(shape)

    def release(self, position: int) -> None:
        """Gives back everything before `position`."""
        self._taken[0] = position
