"""Small forms of the fault trials of benchmarks/chaos.py, and what a user is told."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from mmf.store.files import write_new

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.parametrize("trial", ["points", "errno", "racing", "reading", "flips"])
def test_no_fault_loses_doubles_or_tears_anything(trial):
    command = [sys.executable, str(CHAOS), "--small", "--only", trial]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 faults" in done.stdout


def test_an_error_of_the_system_names_its_file_also_in_another_process(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: '.*part'") as caught:
        write_new(tmp_path, b"x")
    told = pickle.loads(pickle.dumps(caught.value))  # as a lane tells its job
    assert (told.errno, told.filename) == (errno.ENOSPC, caught.value.filename)
    assert not list(tmp_path.iterdir())
