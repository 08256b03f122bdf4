"""Which video falls in which split: for ever the same, since runs are compared by it.

The expected splits and digests are those of a plain loop over dictionaries, which gave each video
of a stratum in turn to the split that was most short.
"""

import numpy as np
import pytest

from mmf.fuse import TrainConfig
from mmf.fuse.training.plan import make_plan, videos_digest
from mmf.store import FeatureSpec, FeatureStore, Track

VIDEOS = [f"v{i * 7 % 60:02}" for i in range(60)]
CLASSES = ("cat", "dog", "ant", "bee")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Items of none to four labels, some of them intervals; not every video has every feature."""
    store = FeatureStore.create(tmp_path_factory.mktemp("splits") / "store")
    for name, gap in (("a", 11), ("b", 4)):
        tracks = [
            Track(video_id=v, values=np.ones((2, 2), "f4"), times=np.arange(2.0))
            for i, v in enumerate(VIDEOS)
            if i % gap
        ]
        store.add(FeatureSpec(name=name, modality=name, shape=(2,), dtype="float32"), tracks)
    labels = {}
    for i, video in enumerate(VIDEOS):
        of = CLASSES[: i % 5] if i % 3 else ("dog",)
        if i % 6 == 5:
            labels |= {(video, 0.0, 1.0): of, (video, 1.0, 2.0): ("cat",)}
        else:
            labels[video] = of
    store.label(labels, unrated={"v07": ["bee"]})
    four = ("train", "train", "dev", "test")
    store.catalog.add_splits("whole", {v: four[i % 4] for i, v in enumerate(VIDEOS) if i != 9})
    no_val = {v: "train" if i % 5 else "test" for i, v in enumerate(VIDEOS)}
    store.catalog.add_splits("no_val", no_val)
    return store


@pytest.mark.parametrize(
    ("split_set", "val", "test", "number", "digest", "trained_on"),
    [
        (
            *("", [2, 13, 20, 22, 43, 45, 48, 51, 52], [6, 9, 21, 31, 32, 41, 47, 55], 58),
            *("c125509c3d348fa1d3b43bac977aeba4", "45154c1c91439bf8a5d9784ae8da3e2f"),
        ),
        (
            *("no_val", [11, 43, 48, 49, 51, 52, 54, 58, 59], [], 47),
            *("49be449105525d4a1c25625c09ac0a0b", "f6e786c6f6fcd7dbc4c635c531e5eba2"),
        ),
        (
            *("whole", [], [], 0),
            *("db270bafcf10980e8b211617578f684d", "11940f630aa41f5017411f4a6a1fd99f"),
        ),
    ],
)
def test_the_same_videos_fall_in_the_same_splits_for_ever(
    store, split_set, val, test, number, digest, trained_on
):
    plan = make_plan(store, TrainConfig(store=store.path, split_set=split_set))
    ids, splits = (plan.assigned[name].to_pylist() for name in ("video_id", "split"))
    assert ids == sorted(ids)
    for name, wanted in (("val", val), ("test", test)):
        assert [int(v[1:]) for v, s in zip(ids, splits, strict=True) if s == name] == wanted
    assert splits.count("train") == number - len(val) - len(test)
    assert plan.digest().startswith(digest)
    assert videos_digest(plan.items["train"].video_ids).startswith(trained_on)


def test_a_plan_takes_the_splits_that_it_is_given(store):
    config = TrainConfig(store=store.path)
    first = make_plan(store, config)
    turned = first.assigned.set_column(1, "split", first.assigned["split"][::-1])
    again = make_plan(store, config, turned)
    assert again.assigned is turned
    assert again.digest() != first.digest() == make_plan(store, config, first.assigned).digest()
