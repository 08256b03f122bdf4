"""A run whose policy draws, which takes no time to train, beside one without a policy."""

from pathlib import Path

import pytest

from mmf.fuse import TrainConfig, train
from mmf.fuse.synthetic import make
from mmf.store import FeatureStore

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
    """The folder of `policy` and `mean`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in {
        "policy": {"fusion_options": OPTIONS},
        "mean": {"fusion": "concat"},
    }.items():
        kinds = {"fusion": "policy", "steps": 2, "batch_size": 8, "device": "cpu"} | options
        train(TrainConfig(store=store.path, out=folder / name, **kinds))
    return folder
