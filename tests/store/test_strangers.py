"""A store from a stranger: it runs nothing, reads nothing outside of itself, takes no memory."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.delete import delete
from mmf.store.files import digest, read_sealed, sealed
from mmf.store.records import table_bytes
from mmf.store.verify import verify

RGB = FeatureSpec(name="rgb", modality="rgb", shape=(4,), dtype="float32")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of four videos."""
    store = FeatureStore.create(tmp_path / "s.mmf")
    ones = np.ones((3, 4))
    store.add(RGB, [Track(video_id=f"v{i}", values=ones, times=np.arange(3)) for i in range(4)])
    return store.path


def forget(root: Path) -> None:
    """Remove what only repeats what the files say that a stranger has changed."""
    (root / "head.json").unlink(missing_ok=True)
    shutil.rmtree(root / "index", ignore_errors=True)


def change_feature(root: Path, **values) -> None:
    """Other values in the feature's file, under a digest that fits."""
    for path in root.glob("features/rgb/*.json"):
        value = read_sealed(path)
        spec = {**value["spec"], **values.pop("spec", {})}
        path.write_bytes(sealed({**value, **values, "spec": spec}))
    forget(root)


def change_record(root: Path, shards: dict | None = None, **columns) -> None:
    """Other values in every row of the log, under digests that fit."""
    for path in root.glob("log/*.parquet"):
        table = pq.read_table(path)
        for name, value in columns.items():
            at = table.schema.get_field_index(name)
            field = table.schema.field(at)
            table = table.set_column(at, field, pa.array([value] * len(table), field.type))
        if shards is not None:
            meta = {**table.schema.metadata, b"mmf.shards": json.dumps(shards).encode()}
            table = table.replace_schema_metadata(meta)
        data = table_bytes(table)
        path.unlink()
        path.with_name(f"{path.name.split('.')[0]}.{digest(data)}.parquet").write_bytes(data)
    forget(root)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"array": "../../outside"}, "no name of an array"),
        ({"array": "/etc"}, "no name of an array"),
        ({"geometry": {"rows_per_chunk": 10**12, "chunks_per_slot": 10**9}}, "no slot"),
        ({"geometry": {"rows_per_chunk": 0, "chunks_per_slot": -1}}, "no slot"),
        ({"spec": {"shape": [10**6, 10**7]}}, "more than 268435456 values"),
        ({"spec": {"shape": [2**32, 2**32]}}, "more than 268435456 values"),
        ({"spec": {"shape": [-4]}}, "empty dimension"),
        ({"spec": {"dtype": "O"}}, "dtype 'O' is none of"),
        ({"spec": {"name": "../x"}}, "expected 1 to 64 letters"),
    ],
)
def test_a_feature_that_mmf_does_not_make_is_refused(root, values, says):
    change_feature(root, **values)
    with pytest.raises(MmfError, match=says):
        FeatureStore(root).read("rgb", "v1")


@pytest.mark.parametrize(
    "columns",
    [
        {"rows": 2**32 - 1},
        {"rows": 4 * 10**9, "start": 4 * 10**9},
        {"rows": 2**32 - 1, "more_slots": [1, 2]},
    ],
)
def test_more_rows_than_slots_hold_are_refused_before_memory_is_taken(root, columns):
    change_record(root, **columns)
    with pytest.raises(MmfError, match="do not fit into its slots"):
        FeatureStore(root).read("rgb", "v1")


def test_an_array_that_claims_40_terabytes_gives_the_rows_of_the_log(root):
    path = root / "features.zarr" / "rgb" / "zarr.json"
    value = json.loads(path.read_text())
    value["shape"][0] = 10**13
    path.write_text(json.dumps(value))
    assert FeatureStore(root).read("rgb", "v1").values.shape == (3, 4)
    assert [p.path for p in verify(root)] == ["features.zarr/rgb/zarr.json"]


def test_a_codec_that_could_run_code_is_refused(root):
    path = root / "features.zarr" / "rgb" / "zarr.json"
    value = json.loads(path.read_text())
    value["codecs"] = [{"name": "numcodecs.pickle"}]
    path.write_text(json.dumps(value))
    with pytest.raises(MmfError, match="pickle"):
        FeatureStore(root).read("rgb", "v1")


def test_a_link_in_the_place_of_rows_is_not_followed(root):
    (shard,) = root.glob("features.zarr/rgb/c*")
    secret = root.parent / "secret"
    secret.write_bytes(b"secret42" * (shard.stat().st_size // 8))
    shard.unlink()
    shard.symlink_to(secret)
    store = FeatureStore(root)
    with pytest.raises(MmfError, match="is a link to another file"):
        store.read("rgb", "v1")
    store.label({f"v{i}": ["a"] for i in range(4)})
    items = list(store.items())
    with pytest.raises(MmfError, match="is a link to another file"):
        store.batch(items, ["rgb"])


@pytest.mark.parametrize(
    "name", ["../../mine", "/etc/passwd", "rgb/../../../mine", "rgb/zarr.json"]
)
def test_a_record_that_names_files_outside_of_the_store_removes_none(root, name):
    mine = root.parent / "mine"
    mine.write_text("mine")
    change_record(root, shards={name: [4, 0]})
    with pytest.raises(MmfError, match="no name of a shard"):
        delete(root, ["v1"], purge=True)
    assert mine.read_text() == "mine"
