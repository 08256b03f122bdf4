"""Parquet that pandas and DuckDB read."""

import json

import duckdb
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

from mmf import MmfError, UnknownName
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.exchange import parquet
from mmf.store.exchange.parquet import export_parquet


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(tmp_path / "feats")
    rng = np.random.default_rng(0)
    for name, dtype in (("rgb", "uint8"), ("text", "float32"), ("clip", "float16")):
        spec = FeatureSpec(name=name, modality="rgb", shape=(2, 3), dtype=dtype)
        store.add(
            spec,
            [
                Track(video_id=f"v/{n}", values=rng.normal(size=(n, 2, 3)), times=np.arange(n) / 4)
                for n in range(40)
            ],
        )
    return store


def rows(store, feature):
    tracks = [store.read(feature, f"v/{n}") for n in range(1, 40)]
    return {t.video_id: t for t in tracks}


def test_a_feature_that_is_not_there_is_refused(store, tmp_path):
    with pytest.raises(UnknownName, match="unknown feature 'rbg'. Did you mean 'rgb'"):
        export_parquet(store, tmp_path / "out", features=["rbg"])
    with pytest.raises(MmfError, match="has no features to export"):
        export_parquet(FeatureStore.create(tmp_path / "empty"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("feature", ["rgb", "text", "clip"])
def test_pandas_and_duckdb_read_ids_times_and_embeddings(store, tmp_path, feature):
    (path,) = export_parquet(store, tmp_path / "out", features=[feature])
    frame = pandas.read_parquet(path)
    expected = rows(store, feature)
    assert len(frame) == sum(map(len, expected.values()))
    for video, part in frame.groupby("video_id"):
        np.testing.assert_array_equal(part["time"], expected[video].times)
        values = np.stack(part["embedding"].tolist()).reshape(-1, 2, 3)
        np.testing.assert_array_equal(values.astype("f4"), expected[video].values)
    found = duckdb.sql(
        f"select time, embedding from '{tmp_path}/out/{feature}/*.parquet' "
        "where video_id = 'v/7' order by time"
    ).fetchall()
    np.testing.assert_array_equal([t for t, _ in found], expected["v/7"].times)
    np.testing.assert_allclose(
        np.array([e for _, e in found]).reshape(-1, 2, 3), expected["v/7"].values
    )
    spec = FeatureSpec.from_json(json.loads(pq.read_schema(path).metadata[b"mmf"]))
    assert spec == store.features[feature]


def test_codes_stay_codes_when_asked_for(store, tmp_path):
    (path,) = export_parquet(store, tmp_path / "out", features=["rgb"], codes=True)
    table = pq.read_table(path)
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list<")
    first = table["embedding"].combine_chunks().flatten().to_numpy()[:6]
    decoded = store.features["rgb"].decode(first.reshape(1, 2, 3))
    np.testing.assert_array_equal(decoded, store.read("rgb", "v/1").values)


def test_files_are_bounded_and_those_of_an_earlier_export_go(store, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1000)
    many = export_parquet(store, tmp_path / "out", features=["text"], file_bytes=5000)
    assert len(many) > 4
    assert [p.name for p in many] == [f"part-{i:05d}.parquet" for i in range(len(many))]
    for path in many:
        assert pq.read_table(path).nbytes < 6500
    assert sum(pq.read_metadata(p).num_rows for p in many) == sum(range(40))
    few = export_parquet(store, tmp_path / "out", features=["text"])
    assert sorted((tmp_path / "out" / "text").iterdir()) == few


def test_a_failed_export_leaves_no_half_file(store, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "stored_track", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_parquet(store, tmp_path / "out", features=["text"])
    assert list((tmp_path / "out").rglob("*.parquet")) == []


def test_a_feature_without_rows_is_a_file_without_rows(store, tmp_path):
    store.create_feature(FeatureSpec(name="none", modality="rgb", shape=(2,)))
    (path,) = export_parquet(store, tmp_path / "out", features=["none"])
    assert pq.read_table(path).num_rows == 0
