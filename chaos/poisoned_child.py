"""The decoder's process, but for files whose names ask it to break: `poison-KIND…`.

`mmf.extract.decoder.process` starts it in place of the usual one where MMF_CHAOS is ``poison``.
What breaks is the process that decodes, as a defect of FFmpeg would break it; nothing else is
changed, so that parent, lane and store are the real ones.
"""

import ctypes
import os
import re
import time
from collections.abc import Callable
from typing import Any, Never

from mmf.extract.decoder import child
from mmf.extract.media.opening import check_identity

PREFIX = "poison-"
ALLOCATED = 4 << 30  # bytes that the kind `memory` asks for


def segfault() -> None:
    """Read at address 0."""
    ctypes.string_at(0)


def abort() -> None:
    """What glibc does on a damaged heap."""
    os.abort()


def hang() -> Never:
    """Wait for ever, and let other threads run."""
    while True:
        time.sleep(3600)


def spin() -> Never:
    """Compute for ever."""
    while True:
        pass


def hold() -> None:
    """Wait for ever in C, and hold the interpreter's lock: no Python code runs any more."""
    ctypes.PyDLL(None).sleep(1 << 30)


def memory() -> None:
    """Ask for 4 GiB and write to them."""
    bytearray(ALLOCATED)


def leave() -> None:
    """Leave without a word."""
    os._exit(3)


# what a file's name asks for, and the reason that its failure is to have
KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "segfault": (segfault, "signal_11"),
    "abort": (abort, "signal_6"),
    "hang": (hang, "timeout"),
    "spin": (spin, "timeout"),
    "hold": (hold, "timeout"),
    "memory": (memory, "limit_memory"),
    "leave": (leave, "exit_3"),
}


def kind_of(path: str) -> str | None:
    """The kind of poison that a file of this name is, or None."""
    name = os.path.basename(path)
    if not name.startswith(PREFIX):
        return None
    kind = re.split("[-.]", name.removeprefix(PREFIX))[0]
    return kind if kind in KINDS else None


def main() -> None:
    """The child's own `main`, in which opening a poisoned file breaks."""

    def poisoned(path: str, size: int | None, sha256: str | None) -> None:
        if kind := kind_of(path):
            KINDS[kind][0]()
        check_identity(path, size, sha256)

    vars(child)["check_identity"] = poisoned
    child.main()


if __name__ == "__main__":
    main()
