"""Damage is found and named; kills leave nothing torn."""

import json
import os
import random
import signal
import subprocess
import sys
import time

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


WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[2]).parent))
from test_verify import SPEC, video
from mmf.store import FeatureStore
store = FeatureStore.create(sys.argv[1])
store.create_feature(SPEC)
print("ready", flush=True)
for i in range(40):
    store.refresh()
    if store.state("f").get(f"v{i:03}") != "done":
        writer = store.writer()
        writer.put("f", video(i))
        writer.commit()
"""


def test_kills_of_two_racing_writers_lose_nothing_double_nothing_tear_nothing(tmp_path):
    command = [sys.executable, "-c", WRITE, str(tmp_path / "s"), __file__]
    rng = random.Random(1)
    for _ in range(6):
        pair = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for process in pair:
            process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.12))
        for process in pair:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        seen = FeatureStore(tmp_path / "s")
        for name, state in seen.state("f").items():
            assert state == "done"
            np.testing.assert_array_equal(
                seen.read("f", name).values, video(int(name[1:])).values.astype("f4")
            )
    subprocess.run(command, check=True, capture_output=True)
    assert verify(tmp_path / "s") == []
    whole = FeatureStore.create(tmp_path / "whole")
    whole.add(SPEC, [video(i) for i in range(40)])
    assert FeatureStore(tmp_path / "s").content_hash() == whole.content_hash()
    stated = json.loads((tmp_path / "s/features.zarr/f/zarr.json").read_bytes())["shape"][0]
    assert stated >= sum(len(video(i)) for i in range(40))
