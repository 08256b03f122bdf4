"""What rows took, kept with them: it survives, and changes nothing that the store says."""

import numpy as np
import pytest

from mmf.store import FeatureSpec, FeatureStore, Media, Outcome, Track, log, records
from mmf.store.compact import compact
from mmf.store.delete import delete
from mmf.store.stored_feature import Milliseconds
from mmf.store.verify import verify

SPEC = FeatureSpec(name="f", modality="rgb", shape=(2,), dtype="float32")


def put(store: FeatureStore, video: str, rows: int, *, row=None, decode=None) -> None:
    values = np.full((rows, 2), rows, np.float32)
    track = Track(video_id=video, values=values, times=np.arange(rows))
    writer = store.writer()
    writer.put("f", track, media=Media(path=video, decode_seconds=decode))
    writer.commit(None if row is None else {"f": row})


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(tmp_path / "feats")
    store.create_feature(SPEC)
    return store


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A store as it was written before anything was measured, with an index."""
    plain = records.SCHEMA
    for name in ("decode_seconds", "row_seconds"):
        plain = plain.remove(plain.get_field_index(name))
    with monkeypatch.context() as then:
        then.setattr(records, "SCHEMA", plain)
        then.setattr(log, "SCHEMA", plain)
        store = FeatureStore.create(tmp_path / "older")
        store.create_feature(SPEC)
        put(store, "a", 3)
        put(store, "b", 4)
        store.index()
    assert "row_seconds" not in store.stored("f").outcomes.column_names
    records.read_record.cache_clear()  # as another process opens it
    return store.path


def test_a_feature_that_nobody_measured_says_so(store):
    assert store.stored("f").milliseconds_per_row == Milliseconds(compute=None, decode=None)
    put(store, "a", 3)
    assert store.stored("f").milliseconds_per_row == Milliseconds(compute=None, decode=None)


def test_milliseconds_are_the_mean_over_the_rows_of_all_jobs_that_were_measured(store):
    put(store, "a", 10, row=0.002, decode=0.1)
    put(FeatureStore(store.path), "b", 30, row=0.004, decode=0.5)
    put(store, "imported", 1000)
    put(store, "empty", 0, row=9.0, decode=9.0)
    store.refresh()
    found = store.stored("f").milliseconds_per_row
    assert found.compute == pytest.approx((10 * 2 + 30 * 4) / 40)
    assert found.decode == pytest.approx(600 / 40)


def test_what_was_measured_goes_with_its_rows_through_index_compaction_and_deletion(store):
    put(store, "a", 10, row=0.002, decode=0.1)
    put(store, "b", 30, row=0.004, decode=0.5)
    before = store.stored("f").milliseconds_per_row
    store.index()
    assert FeatureStore(store.path).stored("f").milliseconds_per_row == before
    compact(store.path)
    assert FeatureStore(store.path).stored("f").milliseconds_per_row == before
    delete(store.path, ["a"], purge=True)
    left = FeatureStore(store.path).stored("f").milliseconds_per_row
    assert left.compute == pytest.approx(4)
    assert left.decode == pytest.approx(500 / 30)


def test_the_content_hash_knows_nothing_of_what_rows_took(tmp_path):
    slow, fast = (FeatureStore.create(tmp_path / name) for name in ("slow", "fast"))
    for store, seconds in ((slow, 1.0), (fast, 0.001)):
        store.create_feature(SPEC)
        put(store, "a", 3, row=seconds, decode=seconds)
    assert slow.content_hash() == fast.content_hash()
    assert Media(decode_seconds=1.0) == Media(decode_seconds=2.0)


@pytest.mark.parametrize("with_index", [True, False])
def test_a_store_that_is_older_than_measuring_opens_and_goes_on(older, with_index):
    if not with_index:
        for path in (older / "index").iterdir():
            path.unlink()
    store = FeatureStore(older)
    assert store._log.covered == (2 if with_index else 0)
    assert store.stored("f").milliseconds_per_row == Milliseconds()
    put(store, "c", 5, row=0.003, decode=0.05)
    writer = store.writer()
    writer.mark("f", Outcome(video_id="d", status="failed", reason="x"))
    writer.commit()
    store.index()
    again = FeatureStore(older)
    assert again.state("f") == {"a": "done", "b": "done", "c": "done", "d": "failed"}
    assert again.read("f", "b").values.shape == (4, 2)
    assert again.stored("f").milliseconds_per_row.compute == pytest.approx(3)
    compact(older)
    assert FeatureStore(older).content_hash() == again.content_hash()
    assert verify(older) == []
