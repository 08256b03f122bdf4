"""A step's memory is used again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from mmf.fuse.training.memory import memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
with memory_kept():
    np.ones(16 << 20)
    kept = faults()
print(usual, kept, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_within_no_page_is_asked_for_twice_and_behind_all_is_as_before():
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept, behind = map(int, run.stdout.split())
    assert kept < usual / 4
    assert behind > usual / 4
