"""Runs of one epoch on the small store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmf.fuse import TrainConfig, train
from mmf.store import FeatureStore


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Trains a run of a fusion, in a folder of that name unless another is given."""

    def make(store: FeatureStore, fusion: str = "mfb", name: str = "", **options: Any) -> Path:
        if "features" not in options:
            options["features"] = ("a",) if fusion == "single" else ("a", "b")
        if fusion == "mfb":
            options.setdefault("fusion_options", {"outputs": 8})
        config = {"epochs": 1, "batch_size": 16, "device": "cpu"} | options
        out = tmp_path / "runs" / (name or fusion)
        return train(TrainConfig(store=store.path, out=out, fusion=fusion, **config))

    return make
