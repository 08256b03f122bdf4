"""A small store whose label needs two features at once."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from mmf import Registry
from mmf.fuse import TrainConfig, train
from mmf.fuse.synthetic import SyntheticOptions
from mmf.store import FeatureSpec, FeatureStore, Track

SMALL_BERT = {"vocab_size": 120, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 32}
SMALL_BERT |= {"num_attention_heads": 2, "max_position_embeddings": 12}

SMALL: dict[str, dict[str, Any]] = {
    "framewise": {"fusion_options": {"outputs": 8}},
    "mixer": {"blocks": 2},
    "policy": {"layers": [8], "epochs": {"tune": 1}},
    "mmf_transformer": {"layers": 2, "heads": 2},
}


@pytest.fixture
def small() -> Callable[[Registry, str], dict[str, Any]]:
    """Options that make a thing of a registry so small that a test of it takes no time.

    Every number of 32 or more becomes 8; what that does not serve stands in SMALL.
    """

    def options(table: Registry, name: str) -> dict[str, Any]:
        found = {f.name: f.default for f in fields(table.load(name).Options)}
        large = {n: 8 for n, default in found.items() if type(default) is int and default >= 32}
        return large | SMALL.get(name, {})

    return options


def spec(name: str, size: int, dtype: str = "float32") -> FeatureSpec:
    return FeatureSpec(name=name, modality=name, shape=(size,), dtype=dtype)


def fill(store: FeatureStore, videos: dict[str, tuple[int, int]], *, seed: int = 0) -> None:
    """Features a (3) and b (4): rows around ±1 by the video's two bits, of many lengths."""
    generator = np.random.default_rng(seed)
    for which, (name, size) in enumerate([("a", 3), ("b", 4)]):
        tracks = []
        for number, (video, bits) in enumerate(videos.items()):
            steps = 1 + (number * 7 + which) % 9
            rows = (2 * bits[which] - 1) + 0.3 * generator.normal(size=(steps, size))
            tracks.append(Track(video_id=video, values=rows, times=np.arange(steps)))
        store.add(spec(name, size), tracks)


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    """Annotations unchecked, as they are for a user, so that the code's own errors show."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def xor_store(tmp_path: Path) -> FeatureStore:
    """60 videos; class 'same' where the bits of a and b agree; 36 train, 12 val, 12 test."""
    store = FeatureStore.create(tmp_path / "feats")
    videos = {f"v{i:02}": (i % 2, i // 2 % 2) for i in range(60)}
    fill(store, videos)
    labels = {v: ["same" if a == b else "other"] for v, (a, b) in videos.items()}
    split = {
        v: ("train", "train", "train", "val", "test")[i // 4 % 5] for i, v in enumerate(videos)
    }
    store.label(labels, split=split)
    return store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., FeatureStore]:
    """Makes a store of videos with features a and b and without labels."""

    def make(videos: list[str], name: str = "made") -> FeatureStore:
        store = FeatureStore.create(tmp_path / name)
        fill(store, {v: (i % 2, i // 2 % 2) for i, v in enumerate(videos)})
        return store

    return make


@pytest.fixture
def make_bert(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a small BERT under the names of the published ones: a head beside it."""

    def make(name: str = "bert", seed: int = 0, **sizes: int) -> Path:
        import torch
        from safetensors.torch import save_file

        from mmf.fuse.text.bert import Bert, BertConfig, Dense

        config = BertConfig(**SMALL_BERT | sizes)
        torch.manual_seed(seed)
        tensors = {f"bert.{n}": 3 * t for n, t in Bert(config).state_dict().items()}
        pooler = Dense(config.hidden_size, config.hidden_size).state_dict()
        tensors |= {f"bert.pooler.{n}": t for n, t in pooler.items()}
        tensors["cls.predictions.bias"] = torch.zeros(config.vocab_size)
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for new, own in old.items():
            tensors = {n.replace(new, own): t for n, t in tensors.items()}
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps({"model_type": "bert", **asdict(config)}))
        return folder

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Trains a run, of one epoch unless more are asked for, in a folder of its fusion's name."""

    def make(store: FeatureStore, fusion: str = "mfb", name: str = "", **options: Any) -> Path:
        if "features" not in options:
            options["features"] = ("a",) if fusion == "single" else ("a", "b")
        if fusion == "mfb":
            options.setdefault("fusion_options", {"outputs": 8})
        config = {"epochs": 1, "batch_size": 16, "device": "cpu"} | options
        out = tmp_path / "runs" / (name or fusion)
        return train(TrainConfig(store=store.path, out=out, fusion=fusion, **config))

    return make


@pytest.fixture(scope="session")
def small_segments() -> SyntheticOptions:
    """Made videos whose label rgb or audio carries in some of 5 segments, few and narrow."""
    return SyntheticOptions(
        structure="segments",
        options={"segments": 5},
        train=12,
        val=6,
        test=40,
        rows=15,
        fewest=5,
        rgb=8,
        audio=6,
        latent=4,
        classes=3,
    )
