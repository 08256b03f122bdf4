"""Curves of a job that runs, as TensorBoard itself reads them."""

import pytest

from mmf.cluster.watch import ClusterSeen
from mmf.extract import scalars
from mmf.extract.pipeline import Undone, VideoEnded
from mmf.extract.scalars import drawn
from mmf.extract.tally import BucketEnded, CurvesBegun
from mmf.store import FeatureStore, Media

reader = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard"
)
VIDEO = VideoEnded(video_id="a", status={"rgb": "failed"}, media=Media(frames=7, duration=2.0))


def curves(store):
    (folder,) = (store.path / "tensorboard").iterdir()
    events = reader.EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_what_is_through_is_drawn_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(scalars, "FIRST", 0.0)
    monkeypatch.setattr(scalars, "_EVERY", 0.0)
    store, told = FeatureStore.create(tmp_path / "s"), []
    events = [BucketEnded(tried=8, frames=80, media_seconds=16.0), ClusterSeen(workers=3)]
    events += [VIDEO, Undone(ended=VIDEO)]
    with drawn(store.files, told.append) as progress:
        for event in events:
            progress(event)
    assert [event for event in told if not isinstance(event, CurvesBegun)] == events
    assert [e.folder for e in told if isinstance(e, CurvesBegun)] == [
        str(store.path / "tensorboard")
    ]
    found = curves(store)
    assert found["extract/videos"] == [(n, n) for n in (8, 8, 9, 8, 8)]
    assert [value for _, value in found["extract/failed"]] == [0, 0, 1, 0, 0]
    assert [value for _, value in found["extract/frames"]] == [80, 80, 87, 80, 80]
    assert found["extract/workers"][0] == (8, 3)


def test_a_short_job_draws_nothing_and_a_store_with_curves_is_sound(tmp_path, monkeypatch):
    store = FeatureStore.create(tmp_path / "s")
    with drawn(store.files, lambda event: None) as progress:
        progress(VIDEO)
    assert not (store.path / "tensorboard").exists()
    (store.path / "tensorboard").mkdir()
    assert FeatureStore.create(tmp_path / "s").videos().num_rows == 0


def test_nothing_is_drawn_of_a_store_in_a_bucket_or_without_the_package(tmp_path, monkeypatch):
    store, told = FeatureStore.create(tmp_path / "s"), []
    (store.path / "origin.json").write_text("{}")
    with drawn(store.files, told.append) as progress:
        assert progress == told.append
    (store.path / "origin.json").unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with drawn(store.files, told.append) as progress:
        assert progress == told.append
