"""Windows: from 0 to the last row's end, of one length."""

import numpy as np
import pytest

from mmf import MmfError
from mmf.fuse.inference.windows import windows
from mmf.store import FeatureSpec, FeatureStore, Track


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(tmp_path / "store")
    spec = FeatureSpec(name="a", modality="x", shape=(1,), rate=1.0)
    lengths = {"v0": 12, "v1": 5, "v2": 1}
    tracks = [Track(video_id=v, values=np.ones((n, 1)), times=range(n)) for v, n in lengths.items()]
    store.add(spec, tracks)
    times = [0.0, 13.0]
    irregular = FeatureSpec(name="b", modality="x", shape=(1,))
    store.add(irregular, [Track(video_id="v1", values=np.ones((2, 1)), times=times)])
    store.label({v: ["x"] for v in [*lengths, "v9"]})
    return store


def found(store, features=("a",), **seconds) -> list[str]:
    parts = windows(store, features, store.items().video_ids, **seconds)
    return [item.id for part in parts for item in part]


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [({"window": 0.0}, "window = 0"), ({"window": 1.0, "hop": -1.0}, "hop = -1")],
)
def test_windows_of_no_length_are_refused(store, seconds, sentence):
    with pytest.raises(MmfError, match=sentence):
        found(store, **seconds)


def test_they_begin_before_the_video_ends_and_the_last_may_reach_beyond(store):
    segments = ["v0@0-5", "v0@5-10", "v0@10-15", "v1@0-5", "v2@0-5"]
    assert found(store, window=5.0) == [*segments, "v9"]


def test_they_may_overlap_or_leave_gaps(store):
    assert found(store, window=4.0, hop=2.5)[:5] == [
        f"v0@{s:g}-{s + 4:g}" for s in (0, 2.5, 5, 7.5, 10)
    ]
    assert found(store, window=1.0, hop=10.0)[:2] == ["v0@0-1", "v0@10-11"]


def test_the_longest_feature_says_where_a_video_ends(store):
    ends = [i for i in found(store, ("a", "b", "not there"), window=5.0) if i.startswith("v1")]
    assert ends == ["v1@0-5", "v1@5-10", "v1@10-15"]


def test_steps_that_binary_fractions_do_not_have_make_no_window_more(store):
    assert len([i for i in found(store, window=0.1) if i.startswith("v2")]) == 10


def test_many_videos_come_in_parts_none_is_lost(tmp_path):
    store = FeatureStore.create(tmp_path / "many")
    spec = FeatureSpec(name="a", modality="x", shape=(1,), rate=2.0)
    ids = [f"v{i:03}" for i in range(150)]
    store.add(spec, [Track(video_id=v, values=np.ones((3, 1)), times=[0, 0.5, 1]) for v in ids])
    parts = list(windows(store, ["a"], store.all_items().video_ids, window=1.0))
    assert len(parts) == 3
    assert [i.id for p in parts for i in p] == [f"{v}@{s}-{s + 1}" for v in ids for s in (0, 1)]
