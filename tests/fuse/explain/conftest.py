"""A run whose policy draws, which takes no time to train, beside one without a policy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmf.fuse import TrainConfig, train
from mmf.fuse.synthetic import make
from mmf.store import FeatureSpec, FeatureStore, Track

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


@pytest.fixture(scope="package")
def bits_store(tmp_path_factory) -> FeatureStore:
    """200 videos of two bits: pictures are red or blue, sounds low or high, beside noise.

    Labels "both" name the pair, "heard" the sound, "same" whether the bits agree. In split "odd" of
    "both" are a video without sound, one of a single row, and one without a label.
    """
    store, rng = FeatureStore.create(tmp_path_factory.mktemp("bits") / "feats"), _rng()
    bits = {f"v{i:04}": rng.integers(2, size=2).tolist() for i in range(200)}
    for m, (name, size) in enumerate({"rgb": 12, "audio": 4}.items()):
        means = rng.standard_normal((2, size))
        tracks = []
        for video, its in bits.items():
            n = int(rng.integers(1, 5))
            rows = means[its[m]] + 0.7 * rng.standard_normal((n, size))
            tracks.append(Track(video_id=video, values=rows.astype(np.float32), times=np.arange(n)))
        first = tracks[0].values[:1]
        odd = ["short", "bare", *(["silent"] if name == "rgb" else [])]
        tracks += [Track(video_id=v, values=first, times=np.arange(1)) for v in odd]
        spec = FeatureSpec(name=name, modality=name, shape=(size,), dtype="float32", rate=1.0)
        store.add(spec, tracks)
    splits = {v: ("train", "train", "train", "val", "test")[i % 5] for i, v in enumerate(bits)}
    splits |= dict.fromkeys(("short", "silent", "bare"), "odd")
    pairs = {v: [f"{('red', 'blue')[a]}-{('low', 'high')[b]}"] for v, (a, b) in bits.items()}
    odd_labels = {"short": ["red-low"], "silent": ["red-low"]}
    store.label(pairs | odd_labels, split=splits, name="both")
    heard = {v: [("low", "high")[b]] for v, (_, b) in bits.items()}
    store.label(heard, split=splits, name="heard")
    same = {v: ["same" if a == b else "other"] for v, (a, b) in bits.items()}
    store.label(same, split=splits, name="same")
    return store


@pytest.fixture(scope="package")
def bits(bits_store, tmp_path_factory) -> Path:
    """Runs on it: `linear` and `mixer` of both, `heard`, `same`, `alone` and `seeds` of heard."""
    folder = tmp_path_factory.mktemp("bits_runs")
    mixer = {"fusion": "mixer", "fusion_options": {"hidden": 16, "blocks": 2}, "steps": 80}
    few = mixer | {"steps": 16}
    for name, options in {
        "linear": {"fusion": "concat", "label_set": "both", "steps": 80, "lr": 0.01},
        "mixer": mixer | {"label_set": "both"},
        "heard": mixer | {"label_set": "heard"},
        "same": mixer | {"label_set": "same", "steps": 160},
        "alone": {"fusion": "single", "features": ("audio",), "label_set": "heard", "steps": 8},
        "seeds/seed-0": few | {"label_set": "heard", "seed": 0},
        "seeds/seed-1": few | {"label_set": "heard", "seed": 1},
    }.items():
        kinds: dict[str, Any] = {"device": "cpu", "batch_size": 32, "lr": 5e-3} | options
        kinds["eval_every"] = kinds["steps"] // 2
        train(TrainConfig(store=bits_store.path, out=folder / name, **kinds))
    return folder


@pytest.fixture
def token_run(tmp_path) -> Callable[[Path], Path]:
    """A run of a step on captions, as token ids, and sounds."""

    def train_on(bert: Path) -> Path:
        store, rng = FeatureStore.create(tmp_path / "tokens"), _rng()
        videos = {f"v{i}": ("train", "val", "test")[i % 3] for i in range(12)}
        text = FeatureSpec(
            name="text", modality="text", shape=(6,), dtype="int32", recipe={"tokenizer": "x"}
        )
        sound = FeatureSpec(name="audio", modality="audio", shape=(3,), dtype="float32", rate=1.0)
        for spec in (text, sound):
            ids = spec is text
            tracks = [
                Track(
                    video_id=video,
                    values=rng.integers(120, size=(2, 6)).astype(np.int32)
                    if ids
                    else rng.standard_normal((2, 3)).astype(np.float32),
                    times=np.arange(2),
                )
                for video in videos
            ]
            store.add(spec, tracks)
        store.label({v: [f"c{i % 2}"] for i, v in enumerate(videos)}, split=videos)
        out = tmp_path / "token_run"
        config = {"fusion": "concat", "steps": 1, "device": "cpu", "text": str(bert)}
        train(TrainConfig(store=store.path, out=out, **config))
        return out

    return train_on


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)
