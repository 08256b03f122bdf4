"""Memory that a step gives back is kept for the next one.

A batch of YouTube-8M is 180 MB as float32, several times over. glibc takes as much from the system
each time, which fills every page with zeros: half of the time of a step of mean and MFB.
(`mmf.extract.memory` does the same for a forward pass of stage one.)
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT_BYTES = 1 << 30
_USUAL = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20}  # the most that glibc itself takes


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within, this process keeps what it frees, where its C library is glibc."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    for threshold in _USUAL:
        library.mallopt(threshold, _KEPT_BYTES)
    try:
        yield
    finally:
        for threshold, usual in _USUAL.items():
            library.mallopt(threshold, usual)
        library.malloc_trim(0)
