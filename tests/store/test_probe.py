"""Places that cannot hold a store are told from those that can."""

import errno
import os
import threading

import pytest

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store import local as local_module
from mmf.store.local import LocalFiles
from mmf.store.probe import probe
from mmf.store.verify import verify


@pytest.fixture
def no_links(monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


def test_a_place_that_gives_one_name_twice_is_refused(tmp_path, monkeypatch):
    store = FeatureStore.create(tmp_path / "s.mmf")

    def place(self, part, target):
        os.replace(part, target)
        return True

    monkeypatch.setattr(LocalFiles, "place", place)
    with pytest.raises(MmfError, match="2 got it, and b'second' was read there"):
        probe(store.path)


def test_a_folder_can_hold_a_store_and_nothing_of_the_probe_is_left(tmp_path):
    store = FeatureStore.create(tmp_path / "s.mmf")
    probe(store.path)
    assert not list(store.files.tmp.iterdir())


def test_without_links_a_store_is_filled_by_turns(tmp_path, no_links):
    store = FeatureStore.create(tmp_path / "s.mmf")
    probe(store.path)
    spec = FeatureSpec(name="f", modality="rgb", shape=(2,), dtype="float32")
    for i in range(3):
        store.add(spec, [Track(video_id=f"v{i}", values=[[i, i]], times=[0.0])])
    assert FeatureStore(store.path).state("f") == {f"v{i}": "done" for i in range(3)}
    assert not verify(store.path)
    assert not list(store.path.rglob("*.turn"))


def test_without_links_one_of_many_writers_gets_a_name(tmp_path, no_links):
    files, won = LocalFiles(tmp_path), []
    (tmp_path / "tmp").mkdir()

    def write(i):
        won.append(files.place(files.write_new(b"%d" % i), tmp_path / "name"))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_the_turn_of_a_writer_that_was_killed_ends(tmp_path, no_links, monkeypatch):
    monkeypatch.setattr(local_module, "_TURN_SECONDS", 0.05)
    files = LocalFiles(tmp_path)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "name.turn").mkdir()
    assert files.place(files.write_new(b"x"), tmp_path / "name")


def test_an_error_that_is_not_about_links_is_said(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    files = LocalFiles(tmp_path)
    (tmp_path / "tmp").mkdir()
    part = files.write_new(b"x")
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="No space left"):
        files.place(part, tmp_path / "name")
