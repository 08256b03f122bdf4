"""Damage is found and named."""

import random

import numpy as np
import pytest

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.verify import verify

SPEC = FeatureSpec(name="f", modality="rgb", shape=(6,), dtype="float32")


def video(i: int) -> Track:
    rng = np.random.default_rng(i)
    return Track(
        video_id=f"v{i:03}", values=rng.normal(size=(20 + i % 7, 6)), times=np.arange(20 + i % 7)
    )


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(tmp_path / "s")
    store.add(SPEC, [video(i) for i in range(6)])
    store.add(SPEC, [video(i) for i in range(6, 9)])
    store.label({"v001": ["a"], "v002": ["b"]}, split={"v001": "train"})
    store.catalog.add_videos([{"video_id": "v001", "series": "x"}])
    return store


def committed(store):
    return [p for p in sorted(store.path.rglob("*")) if p.is_file()]


def test_a_whole_store_has_no_problems(store):
    assert verify(store.path) == []


def test_any_flipped_bit_in_any_committed_file_is_found_and_the_file_named(store):
    rng = random.Random(0)
    files = committed(store)
    assert len(files) > 10
    for path in files:
        whole = path.read_bytes()
        for _ in range(8):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            name = str(path.relative_to(store.path))
            assert name in [p.path for p in verify(store.path)], name
        path.write_bytes(whole)
    assert verify(store.path) == []


@pytest.mark.parametrize(
    "pattern",
    ["mmf.json", "features.zarr/**/c.*", "features.zarr/**/zarr.json", "catalog/**/*.parquet"],
)
def test_a_deleted_file_is_found(store, pattern):
    path = sorted(store.path.glob(pattern))[-1]
    path.unlink()
    assert str(path.relative_to(store.path)) in [p.path for p in verify(store.path)]


def test_reading_a_lost_shard_is_an_error_and_not_zeros(store):
    for path in store.path.glob("features.zarr/f/c.*"):
        path.unlink()
    with pytest.raises(MmfError, match=r"has lost '.*c\.0\.0'"):
        FeatureStore(store.path).read("f", "v000")
