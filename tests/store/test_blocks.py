"""Files in blocks: the same bytes however they come, and errors that name the file."""

import errno
import fcntl
import os

import numpy as np
import pytest

from mmf.store import blocks
from mmf.store.blocks import BlockFile


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8192)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("written", ["in a thread", "at the end"])
def test_a_disk_that_refuses_a_block_is_an_error_that_names_the_file(
    tmp_path, written, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    file = BlockFile(tmp_path / "part")
    with pytest.raises(OSError, match="No space left on device: '.*part'"):  # noqa: PT012
        file.write(np.zeros(30_000 if written == "in a thread" else 100, np.uint8))
        file.finish()
    file.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("pieces", [[1], [8192], [8191, 2], [3, 70_000, 0, 5], [4096] * 9])
def test_a_file_holds_what_was_written_whatever_the_pieces(tmp_path, pieces):
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, n, np.uint8) for n in pieces]
    file = BlockFile(tmp_path / "part")
    for part in parts:
        file.write(part)
    file.finish()
    assert (tmp_path / "part").read_bytes() == b"".join(p.tobytes() for p in parts)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("stops", [1, 4096, 5000])
def test_a_disk_that_takes_less_than_a_block_at_once_gets_the_rest(tmp_path, stops, monkeypatch):
    monkeypatch.setattr(BlockFile, "_go_direct", lambda self, direct: None)  # takes odd pieces

    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, view, at: real(fd, view[:stops], at))
    file = BlockFile(tmp_path / "part")
    data = np.random.default_rng(0).integers(0, 256, 30_000, np.uint8)
    file.write(data)
    file.finish()
    assert (tmp_path / "part").read_bytes() == data.tobytes()


@pytest.mark.usefixtures("small_blocks")
def test_a_system_without_direct_writes_writes_as_usual(tmp_path, monkeypatch):
    real = fcntl.fcntl

    def refusing(fd, command, flags=0):
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    file = BlockFile(tmp_path / "part")
    file.write(np.arange(30_000, dtype=np.uint16).view(np.uint8))
    file.finish()
    assert (tmp_path / "part").read_bytes() == np.arange(30_000, dtype=np.uint16).tobytes()


@pytest.mark.usefixtures("small_blocks")
def test_memory_that_is_used_again_belongs_to_one_file_only(tmp_path):
    for name in "abc":
        file = BlockFile(tmp_path / name)
        file.write(np.ones(10, np.uint8))
        file.finish()
        file.discard()  # as after a commit that fails behind its shards
    files = {value: BlockFile(tmp_path / str(value)) for value in (1, 2, 3)}
    for value, file in files.items():
        file.write(np.full(5000, value, np.uint8))
    for value, file in files.items():
        file.finish()
        assert (tmp_path / str(value)).read_bytes() == bytes([value]) * 5000
