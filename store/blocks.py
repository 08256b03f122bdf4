"""A new file written from front to back in large blocks, past the page cache.

Copying hundreds of megabytes into the page cache costs as much as all else that is done to them
(benchmarks/write.py), and pushes out what others read. So full blocks go to the disk directly
(``O_DIRECT``), two at a time in threads, while the next is being filled. Where the system cannot
do that, they are written as usual; so are small files, and the end of any.
"""

import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from mmf.store.files import naming

BLOCK_BYTES = 4 << 20  # a multiple of any disk's sector
_IN_FLIGHT = 2  # one alone leaves the disk idle between blocks


class BlockFile:
    """A file that nobody else has, until it is closed. Errors of the system name it."""

    def __init__(self, path: Path):
        self._path = path
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115  closed by finish or discard
        # the first is being filled; the others are being written, the one behind it longest
        self._blocks = [_block()]
        self._filled = 0
        self._begun = 0  # bytes of the file before the block that is being filled
        self._pool: ThreadPoolExecutor | None = None
        self._writing: deque[Future[None]] = deque()

    def room(self, size_bytes: int) -> np.ndarray:
        """The next bytes of the file, at most so many, uint8: to be filled before anything else.

        An error may be that of an earlier block.
        """
        if self._filled == BLOCK_BYTES:
            self._start()
        at, self._filled = self._filled, min(self._filled + size_bytes, BLOCK_BYTES)
        return self._blocks[0][at : self._filled]

    def write(self, data: np.ndarray) -> None:
        """Add bytes, uint8 (n,)."""
        while len(data):
            room = self.room(len(data))
            room[:] = data[: len(room)]
            data = data[len(room) :]

    def finish(self) -> None:
        """Bring everything to the disk and close the file."""
        with naming(self._path):
            self._wait()
            if self._pool:
                self._go_direct(False)
            self._write(self._blocks[0].data[: self._filled], self._begun)
            os.fsync(self._file.fileno())
            self._close()

    def discard(self) -> None:
        """Remove the file."""
        while self._writing:
            with suppress(OSError):  # what it could not hold is not wanted
                self._wait()
        self._close()
        self._path.unlink(missing_ok=True)

    def _start(self) -> None:
        """Let the full block be written, and fill another one."""
        with naming(self._path):
            self._wait(_IN_FLIGHT - 1)
            if not self._pool:
                self._pool = ThreadPoolExecutor(_IN_FLIGHT)
                self._go_direct(True)
        self._writing.append(self._pool.submit(self._write, self._blocks[0].data, self._begun))
        self._blocks.append(self._blocks.pop(0))
        if len(self._blocks) <= _IN_FLIGHT:
            self._blocks.insert(0, _block())
        self._begun, self._filled = self._begun + BLOCK_BYTES, 0

    def _wait(self, left: int = 0) -> None:
        """Return when no more than so many blocks are being written."""
        while len(self._writing) > left:
            self._writing.popleft().result()

    def _write(self, view: memoryview, offset: int) -> None:
        while view:
            n = os.pwrite(self._file.fileno(), view, offset)
            if n < len(view):  # what is left does not lie as a direct write must
                self._go_direct(False)
            view, offset = view[n:], offset + n

    def _go_direct(self, direct: bool) -> None:
        with suppress(ImportError, AttributeError, OSError):  # elsewhere than on Linux
            import fcntl

            flags = fcntl.fcntl(self._file, fcntl.F_GETFL) & ~os.O_DIRECT
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags | (os.O_DIRECT if direct else 0))

    def _close(self) -> None:
        if self._pool:
            self._pool.shutdown()
        self._file.close()
        spare, self._blocks = self._blocks, []  # once, also where it is closed again
        _spare.extend(spare)
        del _spare[_MOST_SPARE:]


_spare: list[np.ndarray] = []  # blocks of memory that the system has given us
_MOST_SPARE = 6


def _block() -> np.ndarray:
    """Memory for a block, uint8, which begins with a page."""
    with suppress(IndexError):
        if len(_spare[-1]) == BLOCK_BYTES:
            return _spare.pop()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, BLOCK_BYTES, flags), np.uint8)
