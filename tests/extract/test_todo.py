"""What is still to do: found by columns, and the same as video by video."""

import numpy as np
import pyarrow as pa
import pytest

from mmf.extract.asked import USUAL, Asked, JobOptions, asked
from mmf.extract.chosen import Chosen
from mmf.extract.manifest import Manifest
from mmf.extract.request import FeatureRequest
from mmf.extract.todo import count
from mmf.store import FeatureSpec, FeatureStore, Outcome, Track
from mmf.store.delete import delete

RGB = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
AUDIO = FeatureRequest(name="audio", modality="audio", backbone="logmel")
IDS = ("d", "b", "z", "a", "c")  # a list need not be in order, and has ids of its own


def listed(ids=IDS) -> Manifest:
    """A manifest of these ids, every one in a chunk of its own."""
    rows = [
        pa.table({"video_id": [one], "path": pa.array([one.encode()], pa.binary())}) for one in ids
    ]
    return Manifest(source="test", table=pa.concat_tables(rows), first=np.arange(len(ids)))


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """`rgb`: a and b are done, c failed at the second try; `audio`: b is done, c failed at once."""
    made = FeatureStore.create(tmp_path / "s.mmf")
    for name in ("rgb", "audio"):
        made.create_feature(FeatureSpec(name=name, modality=name, shape=(1,), dtype="float32"))
    writer = made.writer()
    for name, video in (("rgb", "a"), ("rgb", "b"), ("audio", "b"), ("audio", "elsewhere")):
        writer.put(name, Track(video_id=video, values=[[1.0]], times=[0.0]))
    for name, attempts in (("rgb", 2), ("audio", 1)):
        writer.mark(
            name, Outcome(video_id="c", status="failed", reason="timeout", attempts=attempts)
        )
    writer.commit()
    return made


def job(store, options: JobOptions = USUAL, ids=IDS, requests=(RGB, AUDIO)) -> Asked:
    return asked(listed(ids), store, requests, options)


def said(groups) -> dict:
    return {n: [(t.source.video_id, t.attempts) for t in tasks] for n, tasks in groups.items()}


# bad input first


def test_a_list_of_which_nothing_is_left_to_do_has_no_groups(store):
    assert job(store, ids=("b", "c")).todo() == {}
    assert job(store, JobOptions(retry_failed=True), ids=("a", "b", "d")).todo() == {}


def test_a_store_that_is_not_there_lacks_all_and_has_nothing_to_try_again(tmp_path):
    gone = tmp_path / "gone.mmf"
    everything = {("rgb", "audio"): [(video, 1) for video in IDS]}
    assert said(job(gone).todo()) == everything
    assert job(gone, JobOptions(retry_failed=True)).todo() == {}
    assert not gone.exists()


def test_a_feature_that_is_not_there_is_lacking_everywhere(store):
    slow = FeatureRequest(name="slow", modality="rgb", backbone="hog", fps=0.5)
    groups = job(store, requests=(RGB, slow)).todo()
    assert said(groups) == {
        ("rgb", "slow"): [("d", 1), ("z", 1)],
        ("slow",): [("b", 1), ("a", 1), ("c", 1)],
    }


# what is to do


def test_videos_are_grouped_by_what_they_lack_in_the_order_of_the_list(store):
    groups = job(store).todo()
    assert said(groups) == {("rgb", "audio"): [("d", 1), ("z", 1)], ("audio",): [("a", 1)]}
    tasks = groups["rgb", "audio"]
    assert len(tasks) == 2
    assert list(tasks) == list(tasks)  # again and again
    assert next(iter(tasks)) in tasks


def test_failed_videos_alone_are_tried_again_with_the_most_attempts(store):
    assert said(job(store, JobOptions(retry_failed=True)).todo()) == {("rgb", "audio"): [("c", 3)]}
    only = job(store, JobOptions(retry_failed=True), requests=(AUDIO,))
    assert said(only.todo()) == {("audio",): [("c", 2)]}


def test_a_feature_that_begins_anew_is_lacking_whatever_there_is(store):
    assert said(job(store).todo(anew=["rgb"])) == {
        ("rgb", "audio"): [("d", 1), ("z", 1), ("a", 1)],
        ("rgb",): [("b", 1), ("c", 1)],
    }


def test_what_is_chosen_of_a_video_goes_with_its_task(store):
    some = Chosen(seconds=1.0, rows={"rgb": ((0, 1),)})
    tasks = job(store).todo(chosen={"z": some})["rgb", "audio"]
    assert [task.chosen for task in tasks] == [None, some]


def test_deleted_videos_are_no_inputs(store):
    delete(store.path, ["z", "b"])
    found = job(store.path)
    assert [one.video_id for one in found.manifest.inputs(found.rows)] == ["d", "a", "c"]
    assert said(found.todo()) == {("rgb", "audio"): [("d", 1)], ("audio",): [("a", 1)]}


def test_shards_part_a_list_and_keep_its_order(store):
    ids = [f"v{n}" for n in range(99, -1, -1)]
    parts = [job(store, JobOptions(shard=(i, 3)), ids).rows for i in range(3)]
    assert all(len(part) and np.all(np.diff(part) > 0) for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(100))


def test_many_videos_come_out_as_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"v{n}" for n in rng.permutation(10_000)]
    made = FeatureStore.create(tmp_path / "s.mmf")
    tracks = [Track(video_id=video, values=[[0.0]], times=[0.0]) for video in ids[::3]]
    made.add(FeatureSpec(name="rgb", modality="rgb", shape=(1,), dtype="float32"), tracks)
    table = pa.table({"video_id": ids, "path": pa.array([v.encode() for v in ids], pa.binary())})
    whole = Manifest(source="test", table=table, first=np.arange(len(ids)))
    found = asked(whole, made, [RGB], USUAL)
    (tasks,) = found.todo().values()
    assert [task.source.video_id for task in tasks] == [v for n, v in enumerate(ids) if n % 3]
    assert count(made, "rgb", whole, found.rows[:10]) == {
        "done": 4,
        "skipped": 0,
        "failed": 0,
        "missing": 6,
    }
