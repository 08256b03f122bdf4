"""What becomes of a store: snapshots, compaction, deletion, garbage, repair."""

import os
import random
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmf import MmfError, UnknownName
from mmf.store import FeatureSpec, FeatureStore, Outcome, Track
from mmf.store import layout as layout_module
from mmf.store.compact import compact
from mmf.store.delete import delete
from mmf.store.files import Files
from mmf.store.gc import collect
from mmf.store.layout import GROUP, Geometry
from mmf.store.repair import repair
from mmf.store.verify import verify

F = FeatureSpec(name="f", modality="rgb", shape=(6,), dtype="float32")
G = FeatureSpec(name="g", modality="audio", shape=(2, 2), dtype="uint8")


@pytest.fixture(autouse=True)
def small_slots(monkeypatch):
    monkeypatch.setattr(layout_module, "CHUNK_BYTES", 192)  # 8 rows of f, 48 of g
    monkeypatch.setattr(Geometry.__init__, "__kwdefaults__", {"chunks_per_slot": 4})


def video(i: int, spec: FeatureSpec = F) -> Track:
    rng = np.random.default_rng(i)
    n = 3 + 13 * (i % 4)  # some longer than a slot of 32 rows
    times = np.arange(n) if i % 2 else np.sort(rng.random(n))
    return Track(video_id=f"v{i:03}", values=rng.normal(size=(n, *spec.shape)), times=times)


def put(store, numbers, specs=(F, G)):
    writer = store.writer()
    for i in numbers:
        for spec in specs:
            writer.put(spec.name, video(i, spec))
    writer.commit()


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(tmp_path / "s")
    store.create_feature(F)
    store.create_feature(G)
    for first in range(0, 12, 3):
        put(store, range(first, first + 3))
    writer = store.writer()
    writer.mark("f", Outcome(video_id="v900", status="failed", reason="truncated"))
    writer.mark("g", Outcome(video_id="v901", status="skipped", reason="no_such_stream"))
    writer.commit()
    store.label({f"v{i:03}": ["a", "b"][i % 2 :] for i in range(12)}, split={"v001": "train"})
    store.catalog.add_videos([{"video_id": "v001", "series": "x"}])
    return store


def expect(store, numbers, specs=(F, G)):
    for spec in specs:
        for i in numbers:
            read = store.read(spec.name, f"v{i:03}")
            expected = spec.decode(spec.encode(video(i, spec).values))
            np.testing.assert_array_equal(read.values, expected)
            np.testing.assert_array_equal(read.times, video(i, spec).times)


def files(root):
    return sorted(p for p in root.rglob("*") if p.is_file())


# snapshots


def test_an_unknown_snapshot_says_what_there_is(store):
    known = store.snapshot()
    with pytest.raises(UnknownName, match=f"unknown snapshot 'x'.*{known}"):
        FeatureStore(store.path, snapshot="x")


def test_a_snapshot_shows_what_was_there_and_takes_nothing(store):
    name, before = store.snapshot(), store.content_hash()
    put(store, [20, 21])
    store.label({"v001": ["c"]}, split={"v001": "test"})
    store.create_feature(FeatureSpec(name="h", modality="text", shape=(1,)))
    store.add(G, [video(30, G)], replace=True)
    assert store.snapshot() != name

    then = FeatureStore(store.path, snapshot=name)
    assert then.snapshot() == name
    assert then.content_hash() == before
    assert sorted(then.features) == ["f", "g"]
    assert then.classes() == ("a", "b")
    assert [i.video_id for i in then.items("train")] == ["v001"]
    then.refresh()
    expect(then, range(12))
    with pytest.raises(MmfError, match="open at snapshot .* takes nothing"):
        then.writer()
    with pytest.raises(MmfError, match="takes no labels"):
        then.label({"v001": ["a"]})


# compaction


def test_compaction_keeps_what_is_visible_in_one_global_order(store):
    before, spec = store.content_hash(), store.features["f"]
    done = compact(store.path)
    assert [(c.feature, c.array, c.videos) for c in done] == [("f", "f.2", 13), ("g", "g.2", 13)]
    again = FeatureStore(store.path)
    assert again.content_hash() == before
    assert again.features["f"] == spec
    expect(again, range(12))
    assert verify(store.path) == []
    table = again.stored("f").outcomes.to_pylist()
    order = [
        r["video_id"] for r in sorted(table, key=lambda r: (r["slot"], r["start"])) if r["rows"]
    ]
    assert order == sorted(order, key=lambda v: layout_module.shuffled(0, v))
    assert order != sorted(order)
    compact(store.path, ["f"], seed=1)
    assert FeatureStore(store.path).stored("f").array == "f.3"
    assert FeatureStore(store.path).content_hash() == before


def test_an_open_store_goes_on_reading_the_old_array(store):
    open_one = FeatureStore(store.path)
    compact(store.path)
    expect(open_one, range(12))
    assert open_one.stored("f").array == "f"


def test_what_is_committed_to_the_old_array_during_a_compaction_is_not_lost(store, monkeypatch):
    late = FeatureStore(store.path)
    early, middle, after = late.writer(), late.writer(), late.writer()
    for writer, i in ((early, 20), (middle, 21), (after, 22)):
        writer.put("f", video(i))
    publish = Files.publish

    def commit_around(files, folder, *arguments, **named):
        if folder.parent.name == "features":
            early.commit()  # after the last pass, before the new version
            won = publish(files, folder, *arguments, **named)
            middle.commit()  # after the new version, before the compaction looks again
            return won
        return publish(files, folder, *arguments, **named)

    monkeypatch.setattr(Files, "publish", commit_around)
    compact(store.path, ["f"])
    monkeypatch.undo()
    after.commit()
    again = FeatureStore(store.path)
    assert again.stored("f").array == "f.2"
    expect(again, [*range(12), 20, 21, 22], [F])
    assert verify(store.path) == []


def test_of_two_compactions_one_wins_and_the_loser_is_garbage(store, monkeypatch):
    publish, before = Files.publish, store.content_hash()

    def race(files, folder, *arguments, **named):
        monkeypatch.setattr(Files, "publish", publish)
        compact(store.path, ["f"])
        return publish(files, folder, *arguments, **named)

    monkeypatch.setattr(Files, "publish", race)
    assert compact(store.path, ["f"]) == []
    assert FeatureStore(store.path).stored("f").array == "f.3"
    assert FeatureStore(store.path).content_hash() == before
    collect(store.path, grace_seconds=0)
    assert not (store.path / GROUP / "f.2").exists()
    assert FeatureStore(store.path).content_hash() == before
    assert verify(store.path) == []


# deletion


def holds(root, text: str) -> list[str]:
    """Files that hold the text, as bytes or in a table."""
    found = []
    for path in files(root):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += str(pq.read_table(path).to_pylist()).encode()
        if text.encode() in data or text in path.name:
            found.append(str(path.relative_to(root)))
    return found


def test_a_deleted_video_is_hidden_everywhere_and_does_not_come_back(store):
    store.index()
    assert delete(store.path, ["v001", "nobody"]) == ["v001"]
    for one in (store, FeatureStore(store.path)):
        one.refresh()
        assert "v001" in one.denied
        assert "v001" not in one.state("f")
        assert "v001" not in one.videos()["video_id"].to_pylist()
        assert "v001" not in [i.video_id for i in one.items()]
    writer = store.writer()
    writer.put("f", video(1))
    writer.commit()
    store.label({"v001": ["a"]}, split={"v001": "train"})
    assert "v001" not in store.state("f")
    assert "v001" not in store.videos()["video_id"].to_pylist()
    expect(store, [0, *range(2, 12)])


def test_of_a_purged_video_nothing_stays(store):
    rows = G.encode(video(1, G).values).tobytes()
    assert holds(store.path, "v001")
    name = store.snapshot()
    compact(store.path, ["g"])
    store.index()
    FeatureStore(store.path).label({"v000": ["b"]})  # older tables
    delete(store.path, ["v005"])
    assert delete(store.path, ["v001"], purge=True) == ["v001"]
    assert holds(store.path, "v001") == []
    assert not any(rows in p.read_bytes() for p in files(store.path))
    assert verify(store.path) == []
    left = [0, 2, 3, 4, *range(6, 12)]
    expect(FeatureStore(store.path), left)
    expect(FeatureStore(store.path, snapshot=name), left)
    assert FeatureStore(store.path, snapshot=name).stored("g").array == "g"


def test_a_writer_that_held_a_video_while_it_was_purged_leaves_nothing_of_it(store):
    late = FeatureStore(store.path)
    writer = late.writer()
    for i in (1, 20):
        writer.put("f", video(i))
    delete(store.path, ["v001"], purge=True)
    writer.commit()
    late.label({"v001": ["a"]})
    assert holds(store.path, "v001") == []
    expect(FeatureStore(store.path), [0, 20], [F])
    assert verify(store.path) == []


# garbage


def test_nothing_is_garbage_within_the_grace_period(store):
    compact(store.path)
    before = files(store.path)
    assert collect(store.path) == []
    assert files(store.path) == before


def test_gc_takes_what_nobody_sees_and_says_so(store):
    (store.path / "tmp" / "x.part").write_bytes(b"x" * 7)
    orphan = store.path / GROUP / "f" / "c.99.0"
    orphan.write_bytes(b"y")
    compact(store.path, ["g"])
    writer = FeatureStore(store.path).writer()
    writer.mark("f", Outcome(video_id="v001", status="failed", reason="late"))  # it is done
    writer.commit()
    store.label({"v001": ["c"]})
    before = store.content_hash()
    asked = collect(store.path, grace_seconds=0, dry_run=True)
    assert orphan.exists()
    found = {str(g.path.relative_to(store.path)): g for g in collect(store.path, grace_seconds=0)}
    assert sorted(found) == sorted(str(g.path.relative_to(store.path)) for g in asked)
    assert found["tmp/x.part"].size_bytes == 7
    assert found["features.zarr/g"].why == "is of no feature, and of no snapshot"
    assert not (store.path / GROUP / "g").exists()
    assert not orphan.exists()
    assert any(n.startswith("log/") for n in found)
    assert any(n.startswith("catalog/labels/default/") for n in found)
    assert verify(store.path) == []
    assert FeatureStore(store.path).content_hash() == before
    assert collect(store.path, grace_seconds=0) == []


def test_gc_keeps_what_a_snapshot_names_until_it_is_forgotten(store):
    from mmf.store import snapshot

    name, before = store.snapshot(), store.content_hash()
    compact(store.path)
    store.label({"v001": ["c"]})
    store.add(F, [video(40)], replace=True)
    collect(store.path, grace_seconds=0)
    assert FeatureStore(store.path, snapshot=name).content_hash() == before
    expect(FeatureStore(store.path, snapshot=name), range(12))
    assert verify(store.path) == []
    snapshot.forget(store.path, [name])
    assert {g.path.name for g in collect(store.path, grace_seconds=0)} >= {"f", "g"}
    assert verify(store.path) == []
    expect(FeatureStore(store.path), range(12), [G])


# verify and repair


def whole_store(store):
    name = store.snapshot()
    compact(store.path, ["g"])
    delete(store.path, ["v011"])
    store = FeatureStore(store.path)
    put(store, [30])
    collect(store.path, grace_seconds=0)
    store = FeatureStore(store.path)
    assert verify(store.path) == []
    return store, name


def test_any_one_deleted_file_is_missed_and_named(store):
    store, _ = whole_store(store)
    for path in files(store.path):
        if path.match("index/*.json"):
            continue  # a cache: without it the log is read
        data = path.read_bytes()
        path.unlink()
        name = str(path.relative_to(store.path))
        assert name in [p.path for p in verify(store.path)], name
        path.write_bytes(data)
    assert verify(store.path) == []


def test_repair_of_any_one_deleted_or_damaged_file_keeps_what_can_be_read(store, tmp_path):
    import shutil

    store, _ = whole_store(store)
    rng = random.Random(3)
    for number, original in enumerate(files(store.path)):
        relative = original.relative_to(store.path)
        if relative.match("index/*.json") and number % 2:
            continue
        root = tmp_path / f"copy{number}"
        shutil.copytree(store.path, root)
        if number % 2:
            (root / relative).unlink()
        else:
            data = bytearray(original.read_bytes())
            data[rng.randrange(len(data))] ^= 16
            (root / relative).write_bytes(data)
        done = repair(root)
        if relative.parts[0] == "denied":  # no other file says who was deleted
            assert [p.path for p in verify(root)] == [str(relative)]
            continue
        assert str(relative) in [d.path for d in done]
        assert verify(root) == [], relative
        again = FeatureStore(root)
        lost = {pair for d in done for pair in d.lost}
        for spec in (F, G):
            for i in range(11):
                state = again.state(spec.name).get(f"v{i:03}")
                assert (state is None) or (state == "done"), relative
                if state == "done":
                    expect(again, [i], [spec])
                elif relative.parts[0] != "log":
                    assert (spec.name, f"v{i:03}") in lost
        missing = [i for i in range(11) if f"v{i:03}" not in again.state("f")]
        put(again, missing, [F])
        expect(again, range(11), [F])


def test_a_damaged_row_costs_its_video_and_no_other(store):
    (shard,) = (store.path / GROUP / "g").glob("c.0.*")
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.write_bytes(data)
    (done,) = repair(store.path)
    assert done.lost == (("g", "v000"),)
    again = FeatureStore(store.path)
    assert "v000" not in again.state("g")
    assert again.state("f")["v000"] == "done"
    expect(again, range(1, 12))
    assert verify(store.path) == []
    assert (store.path / "lost" / re.sub("/", ".", f"{GROUP}/g/{shard.name}")).exists()


def test_the_metadata_of_old_stores_comes_back(store):
    os.unlink(store.path / "head.json")
    assert [p.path for p in verify(store.path)] == ["head.json"]
    assert [d.path for d in repair(store.path)] == ["head.json"]
    assert verify(store.path) == []
