"""A run whose policy draws, which takes no time to train, beside one without a policy."""

from dataclasses import replace
from pathlib import Path

import pytest

from mmf.fuse import TrainConfig, train
from mmf.fuse.synthetic import make
from mmf.store import FeatureStore, Track

OPTIONS = {
    "decisions": "random",
    "rate": {"rgb": 0.3, "audio": 0.8},
    "segments": 5,
    "epochs": {"single": 1},
    "milestones": {},
    "gflops": {"rgb": 14.0, "audio": 0.5, "policy": 0.25},
}


@pytest.fixture(scope="package")
def store(small_segments, tmp_path_factory) -> FeatureStore:
    return make(small_segments, tmp_path_factory.mktemp("made") / "feats")


@pytest.fixture(scope="package")
def runs(store, tmp_path_factory) -> Path:
    """The folder of `policy`, of `off`, which never uses anything, and of `mean`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in {
        "policy": {"fusion_options": OPTIONS},
        "off": {"fusion_options": OPTIONS | {"rate": 0.0}},
        "mean": {"fusion": "concat"},
    }.items():
        kinds = {"fusion": "policy", "steps": 2, "batch_size": 8, "device": "cpu"} | options
        train(TrainConfig(store=store.path, out=folder / name, **kinds))
    return folder


@pytest.fixture(scope="package")
def odd(store, tmp_path_factory) -> FeatureStore:
    """A video as made, one that is silent, one unseen, and one of a single row of each feature."""
    odd = FeatureStore.create(tmp_path_factory.mktemp("odd") / "feats")
    lacking = {"rgb": "unseen", "audio": "silent"}
    for name, spec in store.features.items():
        whole = store.read(name, "test0000020")
        short = Track(video_id="short", values=whole.values[:1], times=whole.times[:1])
        names = {"whole", "silent", "unseen"} - {lacking[name]}
        odd.add(spec, [short, *(replace(whole, video_id=video) for video in sorted(names))])
    videos = ("whole", "silent", "unseen", "short")
    odd.label({video: ["class0001"] for video in videos}, split=dict.fromkeys(videos, "test"))
    return odd
