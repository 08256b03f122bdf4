"""Small stores and runs whose videos and classes have the names that a page must not obey."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmf.fuse import TrainConfig, train
from mmf.report.media import Clip, Times
from mmf.store import FeatureSpec, FeatureStore, Track

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "<b>bold</b> &amp; %{x} \u2028",
    '"><svg onload="alert(3)">',
)


def picture(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(file, "PNG")
    return file.getvalue()


class FakeMedia:
    """A frame, a sound and a hostile caption of every video but the first, which has gone."""

    def clips(self, store: FeatureStore, items: Sequence[Any]) -> Mapping[str, Clip | str]:
        frame = picture((200, 60, 50))
        clip = Clip(
            frames=[(0.5, frame), (1.5, frame)],
            sound=np.array([0.1, 0.9, 0.4]),
            cues=[(0.25, HOSTILE[0])],
        )
        gone = {item.id: f"video gone: /clips/{item.video_id}" for item in items[:1]}
        return {item.id: clip for item in items} | gone

    def thumbnails(self, store: FeatureStore, video_ids: Sequence[str]) -> Mapping[str, bytes]:
        return {video: picture((50, 80, 215)) for video in video_ids}

    def segments(self, subject: Any, drawn: Sequence[Any]) -> Mapping[str, Any]:
        return {}

    def frames(self, store: FeatureStore, times: Mapping[str, Times]) -> Mapping[str, list[Any]]:
        frame = np.zeros((48, 48, 3), np.uint8)
        return {key: [frame] * len(one.times) for key, one in list(times.items())[1:]}


@pytest.fixture(scope="session")
def media() -> FakeMedia:
    return FakeMedia()


@pytest.fixture(scope="session")
def make_store(tmp_path_factory) -> Callable[..., FeatureStore]:
    """Makes a store of two features and hostile names; the last class has no item."""

    def make(videos: int = 60, labels: int = 1, seed: int = 0) -> FeatureStore:
        random = np.random.default_rng(seed)
        store = FeatureStore.create(tmp_path_factory.mktemp("report") / "feats")
        names = [f"{HOSTILE[i % 4]}{i:03}" for i in range(videos)]
        of = [[(i + j) % 4 for j in range(labels)] for i in range(videos)]
        for name, size in (("a", 5), ("b", 3)):
            spec = FeatureSpec(name=name, modality=name, shape=(size,), dtype="float32")
            tracks = []
            for video, classes in zip(names, of, strict=True):
                rows = random.normal(classes[0], 1.2, size=(2 + classes[0], size))
                tracks.append(Track(video_id=video, values=rows, times=np.arange(len(rows))))
            store.add(spec, tracks)
        split = {
            v: ("train", "train", "val", "test", "test")[i // 4 % 5] for i, v in enumerate(names)
        }
        classes = [*HOSTILE, "nobody"]
        given = {v: [HOSTILE[c] for c in cs] for v, cs in zip(names, of, strict=True)}
        store.label(given, split=split, classes=classes)
        return store

    return make


@pytest.fixture(scope="session")
def store(make_store) -> FeatureStore:
    return make_store()


@pytest.fixture(scope="session")
def make_run(tmp_path_factory) -> Callable[..., Path]:
    """Trains a run of a few steps."""

    def make(store: FeatureStore, **options: Any) -> Path:
        config = {"steps": 12, "batch_size": 16, "device": "cpu", "eval_every": 3} | options
        out = tmp_path_factory.mktemp("runs") / "run"
        return train(TrainConfig(store=store.path, out=out, **config))

    return make


@pytest.fixture(scope="session")
def run(store, make_run) -> Path:
    return make_run(store)
