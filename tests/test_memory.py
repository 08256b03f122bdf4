"""What is freed within is kept, and given back at the end; in a process of its own."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from mmf.memory import memory_kept

SIZE, PAGE = 48 << 20, resource.getpagesize()  # more than glibc keeps by itself

def pages_taken(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(SIZE, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * PAGE

pages_taken(1)
each_time = 20 * SIZE // PAGE
print(pages_taken(20) >= each_time)
start = resident()
with memory_kept():
    pages_taken(1)
    print(pages_taken(20) < each_time / 2)
    print(resident() - start > SIZE / 2)
print(resident() - start < SIZE / 2)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_memory_that_comes_and_goes_is_brought_once_and_given_back_at_the_end():
    run = [sys.executable, "-c", PROGRAM]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True"] * 4
