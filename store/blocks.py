"""A new file written from front to back in large blocks, past the page cache.

Copying hundreds of megabytes into the page cache costs as much as all else that is done to them
(benchmarks/write.py), and pushes out what others read. So full blocks go to the disk directly
(``O_DIRECT``), one at a time in a thread, while the next is being filled. Where the system cannot
do that, they are written as usual; so are small files, and the end of any.
"""

import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from mmf.store.files import naming

BLOCK_BYTES = 4 << 20  # a multiple of any disk's sector


class BlockFile:
    """A file that nobody else has, until it is closed. Errors of the system name it."""

    def __init__(self, path: Path):
        self._path = path
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115  closed by finish or discard
        self._blocks = [_block(), _block()]  # the first is being filled, the other written
        self._filled = 0
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

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
            self._write(self._blocks[0].data[: self._filled])
            os.fsync(self._file.fileno())
            self._close()

    def discard(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # what it could not hold is not wanted
            self._wait()
        self._close()
        self._path.unlink(missing_ok=True)

    def _start(self) -> None:
        """Let the full block be written, and fill the other one."""
        with naming(self._path):
            self._wait()
            if not self._pool:
                self._pool = ThreadPoolExecutor(1)
                self._go_direct(True)
        self._writing = self._pool.submit(self._write, self._blocks[0].data)
        self._blocks.reverse()
        self._filled = 0

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _write(self, view: memoryview) -> None:
        while view:
            n = self._file.write(view)
            if n < len(view):  # what is left does not lie as a direct write must
                self._go_direct(False)
            view = view[n:]

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
_MOST_SPARE = 4


def _block() -> np.ndarray:
    """Memory for a block, uint8, which begins with a page."""
    with suppress(IndexError):
        if len(_spare[-1]) == BLOCK_BYTES:
            return _spare.pop()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, BLOCK_BYTES, flags), np.uint8)
