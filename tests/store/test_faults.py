"""What a user is told where the disk fails; the trials themselves are in tests/chaos."""

import errno
import os
import pickle

import pytest

from mmf.store.files import write_new


def test_an_error_of_the_system_names_its_file_also_in_another_process(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: '.*part'") as caught:
        write_new(tmp_path, b"x")
    told = pickle.loads(pickle.dumps(caught.value))  # as a lane tells its job
    assert (told.errno, told.filename) == (errno.ENOSPC, caught.value.filename)
    assert not list(tmp_path.iterdir())
