"""What is freed within is kept, and given back at the end."""

import ctypes
import resource

import numpy as np
import pytest
import torch

from mmf.extract.memory import memory_kept

glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
SIZE = 48 << 20  # more than glibc keeps by itself


def pages_taken(times: int) -> int:
    """Pages that the system had to bring while a tensor came and went."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(SIZE, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_memory_that_comes_and_goes_is_not_brought_each_time():
    every_time = 20 * SIZE // resource.getpagesize()
    assert pages_taken(20) >= every_time
    with memory_kept():
        pages_taken(1)
        assert pages_taken(20) < every_time / 2


@glibc
def test_what_was_kept_goes_back_at_the_end():
    page = resource.getpagesize()

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * page

    with memory_kept():
        before = resident()
        arrays = [np.ones(SIZE, np.uint8) for _ in range(4)]
        del arrays
        held = resident() - before
    assert held > 3 * SIZE
    assert resident() - before < SIZE
