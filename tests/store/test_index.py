"""The index of the log: it changes how long a store takes to open, and nothing that it says."""

import json
import logging
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from mmf.store import FeatureSpec, FeatureStore, Outcome, Track, index, log, standing
from mmf.store.layout import Geometry
from mmf.store.verify import verify

SPEC = FeatureSpec(name="f", modality="text", shape=(2,), dtype="float32")
WIDE = FeatureSpec(name="g", modality="rgb", shape=(3,), dtype="uint8")


def track(video_id, n=2, *, spec=SPEC, times=None):
    values = np.full((n, *spec.shape), hash(video_id) % 7, dtype=spec.dtype)
    return Track(
        video_id=video_id, values=values, times=np.arange(n) / 2 if times is None else times
    )


@pytest.fixture
def store(tmp_path):
    """Two features, irregular times, a failure that was done later, a video that is there twice."""
    store = FeatureStore.create(tmp_path / "feats")
    store.create_feature(SPEC)
    store.create_feature(WIDE)
    writer = store.writer()
    for i in range(6):
        writer.put("f", track(f"v{i}", i, times=np.sqrt(np.arange(i))))
        writer.put("g", track(f"v{i}", 3, spec=WIDE))
    writer.mark("f", Outcome(video_id="late", status="failed", reason="timeout"))
    writer.commit()
    for n in (4, 3):
        writer.put("f", track("late", n))
        writer.commit()
    return store


def says(path):
    store = FeatureStore(path)
    return (
        store.content_hash(),
        store.snapshot(),
        store.failures().to_pylist(),
        [store.stored(f).outcomes.drop_columns(["record"]).to_pylist() for f in ("f", "g")],
        [store.stored(f).metadata() for f in ("f", "g")],
        store.read("f", "v5").times.tolist(),
    )


def covered(path):
    return FeatureStore(path)._log.covered


def test_an_indexed_store_says_what_its_log_says(store):
    before = says(store.path)
    assert covered(store.path) == 0
    store.index()
    assert covered(store.path) == 3
    assert says(store.path) == before


def test_what_was_committed_since_the_index_is_seen(store):
    store.index()
    writer = store.writer()
    writer.mark("f", Outcome(video_id="v0", status="failed", reason="x"))  # done stands before it
    writer.mark("f", Outcome(video_id="a", status="skipped", reason="x"))
    writer.put("f", track("z", 9))
    writer.commit()
    with_index = says(store.path)
    assert covered(store.path) == 3
    for path in (store.path / "index").iterdir():
        path.unlink()
    assert says(store.path) == with_index
    assert FeatureStore(store.path).state("f") == {
        "a": "skipped", **{f"v{i}": "done" for i in range(6)}, "late": "done", "z": "done"
    }  # fmt: skip


@pytest.mark.parametrize("where", [0.05, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("suffix", [".arrow", ".json"])
def test_a_damaged_index_is_not_used(store, suffix, where, caplog):
    before = says(store.path)
    store.index()
    (path,) = (store.path / "index").glob(f"*{suffix}")
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert says(store.path) == before
    if suffix == ".json":
        assert "log is read instead" in caplog.text


def test_every_changed_byte_that_reading_goes_by_is_noticed(store):
    store.index()
    (path,) = (store.path / "index").glob("*.arrow")
    data = path.read_bytes()
    before, noticed = says(store.path), 0
    columns = ("video_id", "slot", "start", "rows", "crc32c", "t0")
    for at in range(8, len(data), 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        seen = FeatureStore(store.path)
        noticed += seen._log.covered == 0
        rows = [seen.stored("f").outcomes[c].to_pylist() for c in columns]
        assert rows == [[r[c] for r in before[3][0]] for c in columns]
    assert noticed


@pytest.mark.parametrize("name", ["*.arrow", "*.json"])
def test_a_lost_file_of_the_index_costs_nothing(store, name):
    before = says(store.path)
    store.index()
    (path,) = (store.path / "index").glob(name)
    path.unlink()
    assert says(store.path) == before


def test_an_index_of_records_that_are_gone_is_not_used(store):
    store.index()
    gone = max((store.path / "log").iterdir(), key=lambda p: p.stat().st_size)
    gone.unlink()
    assert covered(store.path) == 0
    assert set(FeatureStore(store.path).state("f")) == {"late"}


def test_commits_write_the_index_when_many_records_are_not_in_it(store, monkeypatch):
    monkeypatch.setattr(log, "UNCOVERED", 4)
    writer = store.writer()
    for i in range(9):
        writer.put("f", track(f"w{i}"))
        writer.commit()
    assert 12 - 4 <= covered(store.path) < 12
    assert len(list((store.path / "index").iterdir())) == 2  # older ones are gone
    for path in (store.path / "index").iterdir():
        path.unlink()
    assert set(FeatureStore(store.path).state("f")) == set(store.state("f"))


def test_a_commit_does_not_resolve_what_was_there(store, monkeypatch):
    sizes = []

    def resolve(table, names):
        sizes.append(len(table))
        return standing.resolve(table, names)

    monkeypatch.setattr(log, "resolve", resolve)
    writer = store.writer()
    for i in range(20):
        writer.put("f", track(f"w{i}"))
        writer.commit()
    assert sizes == []
    assert len(store.state("f")) == 27
    assert sum(sizes) <= 2 * 29


def test_few_rows_among_many_are_merged_as_if_all_were_sorted(monkeypatch):
    rng = np.random.default_rng(0)
    records = [f"{k:02}" for k in rng.permutation(12)]

    def rows(n, numbers):
        table = {
            "video_id": [f"v{i:03}" for i in rng.integers(0, 400, n)],
            "status": rng.choice(standing.RANKED, n).tolist(),
            "attempts": rng.integers(1, 3, n).tolist(),
            "record": rng.choice(numbers, n).tolist(),
        }
        return pa.table(table)

    for _ in range(20):
        old, fresh = rows(500, range(9)), rows(20, range(9, 12))
        expected = standing.resolve(pa.concat_tables([old, fresh]), records)
        monkeypatch.setattr(standing, "_FEW", 0)
        old, fresh = (standing.resolve(t, records) for t in (old, fresh))
        assert standing.merge(old, fresh, records).to_pylist() == expected.to_pylist()


def test_the_index_holds_the_ends_of_arrays_with_videos_longer_than_a_slot(store, monkeypatch):
    monkeypatch.setattr("mmf.store.layout.CHUNK_BYTES", 16)
    long = FeatureSpec(name="l", modality="text", shape=(16,), dtype="uint8")
    monkeypatch.setattr(
        "mmf.store.feature_store.layout.Geometry.of",
        lambda spec: Geometry(rows_per_chunk=1, chunks_per_slot=4),
    )
    store.add(long, [track("a", 3, spec=long), track("b", 10, spec=long), track("c", 2, spec=long)])
    before = json.loads(store.stored("l").metadata())["shape"]
    assert before == [15, 16]
    store.index()
    again = FeatureStore(store.path)
    assert again._log.covered
    assert json.loads(again.stored("l").metadata())["shape"] == before
    assert again.read("l", "b").values.shape == (10, 16)


def test_an_empty_store_has_no_index(tmp_path):
    store = FeatureStore.create(tmp_path / "s")
    store.index()
    assert not (tmp_path / "s" / index.FOLDER).exists()


@pytest.mark.parametrize("name", ["*.arrow", "*.json"])
def test_verify_names_a_damaged_file_of_the_index(store, name):
    store.index()
    assert verify(store.path) == []
    (path,) = (store.path / "index").glob(name)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert [p.path for p in verify(store.path)] == [f"index/{path.name}"]


def test_another_process_takes_the_index_also_with_columns_that_are_empty(tmp_path):
    store = FeatureStore.create(tmp_path / "s")
    store.add(SPEC, [track("a")])
    store.index()
    script = (
        "import sys; from mmf.store import FeatureStore; "
        "print(FeatureStore(sys.argv[1])._log.covered)"
    )
    command = [sys.executable, "-c", script, str(store.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
