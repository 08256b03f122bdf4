"""Shards: what zarr-python writes, and nothing torn."""

import math
from pathlib import Path

import numpy as np
import pytest
import zarr

from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store import layout as layout_module
from mmf.store.layout import GROUP, Geometry, array_json
from mmf.store.slot import SlotWriter


@pytest.fixture
def small_slots(monkeypatch):
    monkeypatch.setattr(layout_module, "CHUNK_BYTES", 256)
    monkeypatch.setattr(Geometry.__init__, "__kwdefaults__", {"chunks_per_slot": 4})


def random_rows(spec: FeatureSpec, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return spec.encode(rng.integers(0, 100, (n, *spec.shape)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int32"])
@pytest.mark.parametrize("shape", [(5,), (3, 3, 2), (700,)])
@pytest.mark.parametrize("fill", [0.3, 0.5, 1.0])
def test_a_shard_is_byte_identical_to_the_one_zarr_python_writes(tmp_path, dtype, shape, fill):
    spec = FeatureSpec(name="f", modality="rgb", shape=shape, dtype=dtype)
    geometry = Geometry(rows_per_chunk=8, chunks_per_slot=4)
    rows = random_rows(spec, max(1, math.floor(fill * geometry.slot_rows)))

    writer = SlotWriter(tmp_path, geometry, spec.row_bytes)
    for part in np.array_split(rows, 3):
        writer.append(np.ascontiguousarray(part))
    writer.seal()

    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "zarr.json").write_bytes(array_json(spec, geometry, geometry.slot_rows))
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(theirs, mode="r+")[: len(rows)] = rows
    (shard,) = theirs.glob("c.*")
    assert writer.path.read_bytes() == shard.read_bytes()
    assert writer.size_bytes == shard.stat().st_size


def test_a_video_longer_than_a_slot_lies_in_several(tmp_path, small_slots):
    spec = FeatureSpec(name="f", modality="rgb", shape=(16,), dtype="float32")  # 16 rows a slot
    store = FeatureStore.create(tmp_path / "s")
    values = {
        f"v{n}": np.random.default_rng(n).normal(size=(n, 16)).astype("f4") for n in (5, 70, 3)
    }
    store.add(
        spec, [Track(video_id=v, values=x, times=np.arange(len(x))) for v, x in values.items()]
    )

    again = FeatureStore(tmp_path / "s")
    assert again.stored("f").geometry.slot_rows == 16
    assert len(list((tmp_path / "s" / GROUP / "f").glob("c.*"))) == 5
    for video, expected in values.items():
        np.testing.assert_array_equal(again.read("f", video).values, expected)
    batch = again.batch(again.all_items(), ["f"], label_set=None)
    np.testing.assert_array_equal(batch.lengths["f"], [3, 5, 70])
    np.testing.assert_array_equal(batch.values["f"][2], values["v70"])
    theirs = zarr.open_array(tmp_path / "s" / GROUP / "f", mode="r")
    assert theirs.shape == (78, 16)
    np.testing.assert_array_equal(theirs[5:75], values["v70"])


def test_a_short_shard_is_said_to_be_damaged(tmp_path):
    from mmf import MmfError

    store = FeatureStore.create(tmp_path / "s")
    spec = FeatureSpec(name="f", modality="rgb", shape=(4,))
    store.add(spec, [Track(video_id="v", values=np.ones((9, 4)), times=np.arange(9))])
    (shard,) = Path(tmp_path / "s" / GROUP / "f").glob("c.*")
    shard.write_bytes(shard.read_bytes()[:10])
    with pytest.raises(MmfError, match="'f' is damaged: the shard ends 62 bytes early"):
        store.read("f", "v")
