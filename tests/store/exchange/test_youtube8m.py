"""YouTube-8M's files: what is refused, what is kept, what a kill costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, RecipeMismatch, Track
from mmf.store.delete import delete
from mmf.store.exchange import example, youtube8m
from mmf.store.exchange.shards import papers_split
from mmf.store.exchange.tfrecord import read_records, write_record
from mmf.store.exchange.youtube8m_export import export_youtube8m
from mmf.store.exchange.youtube8m_import import import_youtube8m
from mmf.store.verify import verify


def video(name: str, *, labels=(1,), frames: int = 5, **other) -> youtube8m.Video:
    """A video whose rows follow from its name."""
    rng = np.random.default_rng(sum(name.encode()) + frames)
    times = np.arange(frames, dtype=np.float64)
    rows = {"rgb": (frames, 1024), "audio": (frames, 128)}
    tracks = {
        n: Track(video_id=name, values=rng.integers(0, 256, s, dtype=np.uint8), times=times)
        for n, s in rows.items()
    }
    return youtube8m.Video(video_id=name, tracks=tracks, labels=labels, **other)


def write(path: Path, *records: youtube8m.Video | bytes) -> list[int]:
    """Write a TFRecord file; returns where each record begins."""
    offsets = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for record in records:
            offsets.append(file.tell())
            data = record if isinstance(record, bytes) else youtube8m.write_video(record)
            write_record(file, data)
    return offsets


@pytest.fixture
def shards(tmp_path) -> Path:
    """A folder of three shards with four videos each."""
    for name in ("trainAb", "validate0z", "testQ1"):
        labels = None if name == "testQ1" else (1, 11)
        write(
            tmp_path / "yt8m" / f"{name}.tfrecord",
            *(video(f"{name[-2:]}{i}", labels=labels, frames=3 + i) for i in range(4)),
        )
    return tmp_path / "yt8m"


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "feats")


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def failures(store: FeatureStore) -> list[tuple[str, str, str]]:
    store.refresh()
    rows = store.failures().to_pylist()
    return [(r["video_id"], r["reason"], r["message"]) for r in rows]


def codes(store: FeatureStore, feature: str, name: str) -> np.ndarray:
    (item,) = [i for i in store.all_items([feature]) if i.video_id == name]
    return store.batch([item], [feature], label_set=None).values[feature][0]


# what is refused


def test_a_file_that_is_not_there_is_refused_before_anything_is_done(store, shards):
    with pytest.raises(MmfError, match="no TFRecord file at '.*nope'"):
        import_youtube8m(store, [shards, shards / "nope"])
    assert store.features == {}


def test_files_without_one_readable_record_are_an_error_that_names_the_first(store, tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(b"<html>404 Not Found</html>")
    with pytest.raises(MmfError, match="none of the 1 files .*a.tfrecord, byte 0: the length's"):
        import_youtube8m(store, [tmp_path / "a.tfrecord"])
    (tmp_path / "b.tfrecord").write_bytes(b"")
    with pytest.raises(MmfError, match="1 files are empty"):
        import_youtube8m(store, [tmp_path / "b.tfrecord"])


def test_rows_of_another_recipe_are_not_mixed_with_youtube8ms(store, shards):
    mine = FeatureSpec(name="rgb", modality="rgb", shape=(1024,), dtype="uint8", rate=1.0)
    store.create_feature(mine)
    with pytest.raises(RecipeMismatch, match="backbone null there, .youtube8m. here"):
        import_youtube8m(store, [shards], workers=1)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (b"\xff\xff", "no Example"),
        (example.build({"labels": [1]}), "the record has no id"),
        (example.build({"id": b"\xff\xfe"}), "not UTF-8"),
        (example.build({"id": b"x", "labels": [1]}), "no rgb, audio, mean_rgb or mean_audio"),
        (example.build({"id": b"x", "labels": [-1], "mean_rgb": [0.5]}), "labels -1 to -1"),
        (example.build({"id": b"x", "labels": [1 << 40], "mean_rgb": [0.5]}), "expected 0 to"),
        (example.build({"id": b"x", "mean_rgb": [0.5], "segment_labels": [3]}), "all four"),
    ],
)
def test_a_record_that_says_nonsense_is_a_failure_and_the_rest_goes_on(
    store, tmp_path, record, says
):
    _, at, _ = write(tmp_path / "trainAb.tfrecord", video("good"), record, video("also"))
    result = import_youtube8m(store, [tmp_path / "trainAb.tfrecord"])
    assert (result.imported, result.damaged) == (2, 1)
    ((name, reason, message),) = failures(store)
    assert (name, reason) == (f"trainAb.tfrecord@{at}", "unreadable")
    assert says in message
    assert f"trainAb.tfrecord, byte {at}: " in message


def test_rows_of_unequal_width_or_with_nan_are_a_failure_of_their_video(store, tmp_path):
    wide = video("wide").tracks["rgb"].values.repeat(2, axis=1)
    odd = example.build({"id": b"wide"}, {"rgb": wide})
    nan = example.build({"id": b"nan", "mean_rgb": np.array([np.nan])})
    write(tmp_path / "a.tfrecord", video("good"), odd, nan)
    import_youtube8m(store, [tmp_path / "a.tfrecord"])
    assert [f[:2] for f in sorted(failures(store))] == [("nan", "unfit"), ("wide", "unfit")]
    assert store.state("rgb") == {"good": "done", "wide": "failed"}


def test_a_list_of_rows_of_different_kinds_is_refused():
    feature_list = bytes(example.parse(youtube8m.write_video(video("x"))).lists["rgb"])
    ragged = feature_list + example.row_prefix(7) + bytes(7)
    with pytest.raises(MmfError, match="'rgb' has rows of 7 to 1024 values"):
        example.parse_rows("rgb", ragged)


def test_torn_and_corrupt_records_are_named_with_file_and_offset(store, shards):
    train = shards / "trainAb.tfrecord"
    offsets = write(train, *(video(f"Ab{i}") for i in range(4)))
    damage(train, offsets[1] + 100)
    train.write_bytes(train.read_bytes()[: offsets[3] + 50])
    result = import_youtube8m(store, [shards], workers=1)
    assert (result.files, result.imported, result.damaged) == (3, 10, 2)
    assert {(name, reason) for name, reason, _ in failures(store)} == {
        (f"trainAb.tfrecord@{offsets[1]}", "data_crc"),
        (f"trainAb.tfrecord@{offsets[3]}", "torn"),
    }


def test_a_file_that_was_fetched_again_takes_its_failures_back(store, shards):
    train = shards / "trainAb.tfrecord"
    whole = train.read_bytes()
    damage(train, 100)
    import_youtube8m(store, [shards], workers=1)
    assert len(failures(store)) == 1
    train.write_bytes(whole)
    result = import_youtube8m(store, [shards], workers=1)
    assert (result.imported, result.there, result.damaged) == (1, 11, 0)
    assert failures(store) == []
    assert store.state("rgb")["Ab0"] == "done"


# what is kept


def test_codes_times_labels_and_shards_come_as_they_are(store, shards):
    result = import_youtube8m(store, [shards], workers=1)
    assert (result.files, result.imported, result.there, result.damaged) == (3, 12, 0, 0)
    for feature in ("rgb", "audio"):
        spec = store.features[feature]
        assert (spec.dtype, spec.rate, spec.quantisation) == ("uint8", 1.0, (-2.0, 2.0))
        expected = video("0z2", frames=5).tracks[feature]
        np.testing.assert_array_equal(codes(store, feature, "0z2"), expected.values)
        np.testing.assert_array_equal(store.read(feature, "0z2").times, range(5))
    table = store.videos().to_pylist()
    row = next(r for r in table if r["video_id"] == "0z2")
    assert (row["partition"], row["shard"], row["split"]) == ("validate", "validate0z", "val")
    assert store.classes() == tuple(str(i) for i in range(12))  # class i is label i
    assert {i.split: i.labels for i in store.items()} == {"train": (1, 11), "val": (1, 11)}
    assert not [i for i in store.items() if i.split == "test"]  # they are not labelled


def test_the_real_record_comes_and_goes_byte_for_byte(store, shared_data):
    golden = shared_data / "yt8m" / "SjJ3_frame.tfrecord"
    import_youtube8m(store, [golden, shared_data / "yt8m" / "SjJ3_video.tfrecord"], workers=1)
    real = np.load(shared_data / "yt8m" / "SjJ3_frame.npz")
    for feature in ("rgb", "audio"):
        np.testing.assert_array_equal(codes(store, feature, "SjJ3"), real[feature])
    values = store.read("rgb", "SjJ3").values
    assert (values.min(), values.max()) == (-1.9921875, 2.0078125)
    assert store.read("mean_rgb", "SjJ3").values.shape == (1, 1024)
    assert store.items()[0].labels == (11,)


def test_video_level_means_are_float32_rows_at_time_zero(store, tmp_path):
    means = {n: np.linspace(-1, 1, d, dtype="f4") for n, d in (("mean_rgb", 8), ("mean_audio", 4))}
    write(tmp_path / "a.tfrecord", example.build({"id": b"v", "labels": [2], **means}))
    import_youtube8m(store, [tmp_path / "a.tfrecord"])
    track = store.read("mean_rgb", "v")
    np.testing.assert_array_equal(track.values, means["mean_rgb"][None])
    assert store.features["mean_audio"].modality == "audio"


def test_the_first_versions_id_is_known_and_rgb_alone_is_enough(store, tmp_path):
    rows = video("old").tracks["rgb"].values
    write(tmp_path / "a.tfrecord", example.build({"video_id": b"old"}, {"rgb": rows}))
    import_youtube8m(store, [tmp_path / "a.tfrecord"])
    assert store.state("rgb") == {"old": "done"}
    assert list(store.features) == ["rgb"]
    assert store.label_sets == ()


def test_mediapipes_floats_are_quantised_and_keep_their_timestamps(store, tmp_path):
    values = np.array([[-3.0, -2.0, 0.0, 1.999, 5.0], [0.5] * 5], dtype=np.float32)
    record = mediapipe_record("clip.mp4", values, microseconds=[0, 1_500_000])
    write(tmp_path / "a.tfrecord", record)
    import_youtube8m(store, [tmp_path / "a.tfrecord"])
    np.testing.assert_array_equal(codes(store, "rgb", "clip.mp4")[0], [0, 0, 127, 254, 255])
    np.testing.assert_array_equal(store.read("rgb", "clip.mp4").times, [0.0, 1.5])


def mediapipe_record(name: str, values: np.ndarray, *, microseconds: list[int]) -> bytes:
    new = example._CLASS["SequenceExample"]()
    entry = new.context.feature.add(key="clip/data_path")
    entry.value.bytes_list.value.append(name.encode())
    floats, stamps = (example._CLASS["FeatureList"]() for _ in range(2))
    for row, stamp in zip(values, microseconds, strict=True):
        floats.feature.add().float_list.value.extend(row.tolist())
        stamps.feature.add().int64_list.value.append(stamp)
    for key, value in (("floats", floats), ("timestamp", stamps)):
        new.feature_lists.feature_list.add(
            key=f"RGB/feature/{key}", value=value.SerializeToString()
        )
    return new.SerializeToString()


def test_segments_are_items_of_which_only_the_rated_classes_are_known(store, tmp_path):
    segments = {(0.0, 5.0): {3: True, 7: False}, (40.0, 45.0): {3: False}}
    write(tmp_path / "validate00.tfrecord", video("v", labels=(3, 9), segments=segments))
    import_youtube8m(store, [tmp_path / "validate00.tfrecord"])
    items = store.items(label_set="segments")
    assert [(i.id, i.labels, i.rated) for i in items] == [
        ("v@0-5", (3,), (3, 7)),
        ("v@40-45", (), (3,)),
    ]
    assert store.classes("segments") == tuple(map(str, range(8)))
    assert [i.labels for i in store.items()] == [(3, 9)]


def test_a_vocabulary_names_the_classes(store, shards, tmp_path):
    rows = [f"{i},{'' if i == 5 else f'thing {i}'}" for i in range(11)]
    (tmp_path / "vocabulary.csv").write_text("\n".join(["Index,Name", *rows]))
    import_youtube8m(store, [shards], workers=1, vocabulary=tmp_path / "vocabulary.csv")
    assert store.classes()[4:] == ("thing 4", "#5", *(f"thing {i}" for i in range(6, 11)), "#11")
    (tmp_path / "vocabulary.csv").write_text("Index,Name\n0,a\n0,b\n")
    with pytest.raises(MmfError, match="not each Index from 0 on, once"):
        import_youtube8m(store, [shards], vocabulary=tmp_path / "vocabulary.csv")
    with pytest.raises(MmfError, match="columns Index and Name"):
        import_youtube8m(store, [shards], vocabulary=shards / "trainAb.tfrecord")


def test_a_video_in_two_files_is_there_once_and_different_rows_are_told(store, tmp_path):
    write(tmp_path / "a.tfrecord", video("same"), video("other", frames=3))
    write(tmp_path / "b.tfrecord", video("same"), video("other", frames=4), video("same"))
    files = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]
    result = import_youtube8m(store, files, workers=1)
    assert (result.repeated, result.clashes) == (3, ("other",))
    assert store.state("rgb") == {"same": "done", "other": "done"}
    content = store.content_hash()
    write(tmp_path / "c.tfrecord", video("same"), video("other", frames=6))
    result = import_youtube8m(store, [tmp_path / "c.tfrecord"])
    assert (result.imported, result.there, result.clashes) == (0, 2, ("other",))
    assert FeatureStore(store.path).content_hash() == content


def two_of_one_video(folder: Path) -> list[Path]:
    """Files of one video with different rows, the second one small and soon done."""
    write(folder / "trainAa.tfrecord", *(video(f"a{i}", frames=300) for i in range(30)))
    with open(folder / "trainAa.tfrecord", "ab") as file:
        write_record(file, youtube8m.write_video(video("same", frames=3, labels=(1,))))
    write(folder / "trainBb.tfrecord", video("same", frames=5, labels=(2,)))
    return [folder / "trainAa.tfrecord", folder / "trainBb.tfrecord"]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_files_rows_those_of_the_first_in_order_stand(store, tmp_path, workers, turned):
    first, second = two_of_one_video(tmp_path)
    given = [second, first] if turned else [first, second]
    result = import_youtube8m(store, given, workers=workers)
    assert (result.repeated, result.clashes) == (1, ("same",))
    assert len(codes(store, "rgb", "same")) == 3
    (item,) = [i for i in store.items() if i.video_id == "same"]
    assert [store.classes()[c] for c in item.labels] == ["1"]
    (row,) = [r for r in store.videos().to_pylist() if r["video_id"] == "same"]
    assert row["shard"] == "trainAa"


def test_rows_that_a_killed_run_left_give_way_to_those_of_the_first_file(store, tmp_path):
    files = two_of_one_video(tmp_path)
    import_youtube8m(store, files[1:], workers=1)
    assert len(codes(store, "rgb", "same")) == 5
    result = import_youtube8m(store, files, workers=1)
    assert result.clashes == ("same",)
    assert len(codes(FeatureStore(store.path), "rgb", "same")) == 3
    again = import_youtube8m(store, files, workers=1)
    assert again.imported == 0
    assert len(codes(FeatureStore(store.path), "rgb", "same")) == 3
    assert verify(store.path) == []


def test_rows_of_an_earlier_import_stay_whatever_another_file_says(store, tmp_path):
    files = two_of_one_video(tmp_path)
    import_youtube8m(store, files[1:], workers=1)
    result = import_youtube8m(store, files[:1], workers=1)
    assert result.clashes == ("same",)
    assert len(codes(FeatureStore(store.path), "rgb", "same")) == 5


# videos that were deleted


def test_a_purged_video_is_not_imported_again_and_nothing_of_it_is_written(store, tmp_path, caplog):
    name = "0nQLFkdIZ3E"
    write(tmp_path / "trainAa.tfrecord", video(name), video("kept"))
    import_youtube8m(store, [tmp_path], workers=1)
    delete(store.path, [name], purge=True)
    (tmp_path / "trainAa.tfrecord").rename(tmp_path / "trainAb.tfrecord")
    before = set(store.path.rglob("c.*"))
    result = import_youtube8m(FeatureStore(store.path), [tmp_path], workers=1)
    assert (result.denied, result.imported, result.damaged) == (1, 0, 0)
    assert "1 videos were deleted from the store and stay out of it" in caplog.text
    assert set(store.path.rglob("c.*")) == before
    found = [p for p in store.path.rglob("*") if p.is_file() and name.encode() in p.read_bytes()]
    assert found == []
    assert FeatureStore(store.path).videos()["video_id"].to_pylist() == ["kept"]
    assert verify(store.path) == []


def test_files_of_nothing_but_deleted_videos_are_an_error_that_says_so(store, tmp_path):
    write(tmp_path / "a.tfrecord", video("x"))
    delete(store.path, ["x"], purge=True)
    with pytest.raises(MmfError, match="hold 1 videos, all of which were deleted"):
        import_youtube8m(FeatureStore(store.path), [tmp_path], workers=1)


# many files, and kills


def test_many_processes_give_the_content_of_one(store, shards, tmp_path):
    import_youtube8m(store, [shards], workers=2)
    alone = FeatureStore.create(tmp_path / "alone")
    import_youtube8m(alone, [shards], workers=1)
    assert FeatureStore(store.path).content_hash() == alone.content_hash()
    assert store.videos().to_pylist() == alone.videos().to_pylist()


def test_a_second_run_reads_no_record_again(store, shards, monkeypatch):
    import_youtube8m(store, [shards], workers=1)
    before = store.snapshot()
    monkeypatch.setattr(youtube8m, "read_video", None)  # would be an error
    result = import_youtube8m(store, [shards], workers=1)
    assert (result.imported, result.there) == (0, 12)
    assert FeatureStore(store.path).snapshot() == before


KILLED = """
import os, sys
from mmf.store import FeatureStore
from mmf.store.exchange import import_catalog, import_file, youtube8m_import
from mmf.store.writer import Writer

where, source, store = sys.argv[1], sys.argv[2], FeatureStore.create(sys.argv[3])
import_file.BUCKET_VIDEOS, calls = 2, []
cls, name = {"rows": (Writer, "commit"), "catalog": (import_catalog.ImportCatalog, "flush"),
             "labels": (type(store.catalog), "add_video_rows")}[where]
old = getattr(cls, name)

def dying(*arguments):
    calls.append(1)
    if len(calls) == (4 if where == "rows" else 1):
        os._exit(137)
    return old(*arguments)

setattr(cls, name, dying)
youtube8m_import.import_youtube8m(store, [source], workers=1)
"""


@pytest.mark.parametrize("where", ["rows", "catalog", "labels"])
def test_a_kill_anywhere_and_a_second_run_give_what_one_run_gives(shards, tmp_path, where):
    damage(shards / "testQ1.tfrecord", 100)
    whole = FeatureStore.create(tmp_path / "whole")
    import_youtube8m(whole, [shards], workers=1)
    there = str(tmp_path / "killed")
    killed = subprocess.run([sys.executable, "-c", KILLED, where, str(shards), there])
    assert killed.returncode == 137
    again = FeatureStore(there)
    result = import_youtube8m(again, [shards], workers=1)
    assert result.clashes == ()
    assert FeatureStore(there).content_hash() == FeatureStore(whole.path).content_hash()
    assert again.videos().to_pylist() == whole.videos().to_pylist()
    assert again.items() == whole.items()
    assert failures(again) == failures(whole)


def test_the_papers_splits_are_rebuilt_from_the_shards(store, tmp_path):
    with pytest.raises(MmfError, match="knows no partitions and shards"):
        papers_split(store)
    for partition, n in (("train", 2), ("validate", 6), ("test", 1)):
        for i in range(n):
            name = f"{partition}{i}x"
            write(tmp_path / "yt8m" / f"{name}.tfrecord", video(f"{name}-v", frames=1))
    import_youtube8m(store, [tmp_path / "yt8m"], workers=1)
    with pytest.raises(MmfError, match="6 shards of validate; 3000 for training and 200"):
        papers_split(store)
    counts = papers_split(store, training=3, evaluation=2, name="papers")
    assert counts == {"train": 5, "test": 2, "val": 1}
    found = store.catalog.splits("papers")
    assert papers_split(store, training=3, evaluation=2, name="again") == counts
    assert store.catalog.splits("again") == found
    assert not [v for v in found if v.startswith("test")]
    assert sorted(found.values()) == ["test"] * 2 + ["train"] * 5 + ["val"]


# out


def test_an_export_needs_rgb_or_audio(store, tmp_path):
    with pytest.raises(MmfError, match="no feature called rgb or audio. .* --feature rgb=NAME"):
        export_youtube8m(store, tmp_path / "out")
    spec = FeatureSpec(name="grid", modality="rgb", shape=(7, 7, 2))
    store.add(spec, [Track(video_id="v", values=np.ones((1, 7, 7, 2)), times=[0.0])])
    with pytest.raises(MmfError, match=r"'grid' has rows of shape \(7, 7, 2\); expected vectors"):
        export_youtube8m(store, tmp_path / "out", features={"rgb": "grid"})
    with pytest.raises(MmfError, match="YouTube-8M's keys are rgb and audio"):
        export_youtube8m(store, tmp_path / "out", features={"flow": "grid"})
    assert not (tmp_path / "out").exists()


def test_what_was_imported_is_exported_byte_for_byte(store, shards, tmp_path):
    segments = {(0.0, 5.0): {3: True, 7: False}, (40.0, 45.0): {3: False}}
    write(shards / "validate00.tfrecord", video("v", labels=(3, 9), segments=segments))
    import_youtube8m(store, [shards], workers=1)
    result = export_youtube8m(store, tmp_path / "out")
    assert (result.files, result.videos) == (4, 13)
    for path in shards.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in shards.iterdir()}


@pytest.mark.parametrize("level", ["frame", "video"])
def test_the_real_records_come_back_byte_for_byte(store, shared_data, tmp_path, level):
    golden = shared_data / "yt8m" / f"SjJ3_{level}.tfrecord"
    import_youtube8m(store, [golden])
    export_youtube8m(store, tmp_path / "out", level=level)
    assert (tmp_path / "out" / golden.name).read_bytes() == golden.read_bytes()


def test_means_are_of_what_the_codes_mean(store, shared_data, tmp_path):
    import_youtube8m(store, [shared_data / "yt8m" / "SjJ3_frame.tfrecord"])
    export_youtube8m(store, tmp_path / "out", level="video")
    golden = shared_data / "yt8m" / "SjJ3_video.tfrecord"
    there, here = (
        youtube8m.read_video(next(read_records(p)).data)
        for p in (golden, tmp_path / "out" / "SjJ3_frame.tfrecord")
    )
    assert here.labels == there.labels
    for name, track in there.tracks.items():
        np.testing.assert_allclose(here.tracks[name].values, track.values, atol=1e-6)


def test_floats_and_named_classes_are_written_as_codes_and_numbers(store, tmp_path):
    spec = FeatureSpec(name="pool", modality="rgb", shape=(3,), dtype="float32")
    values = [[-2.0, 0.0, 2.5], [1.0, -0.5, 0.25]]
    store.add(spec, [Track(video_id="a/b.mp4", values=values, times=[0.0, 1.0])])
    store.label({"a/b.mp4": ["cat", "ant"]})
    export_youtube8m(store, tmp_path / "out", features={"rgb": "pool"})
    (record,) = read_records(tmp_path / "out" / "data-00000-of-00001.tfrecord")
    back = youtube8m.read_video(record.data)
    np.testing.assert_array_equal(back.tracks["rgb"].values, [[0, 127, 255], [191, 95, 143]])
    assert (back.video_id, back.labels) == ("a/b.mp4", (0, 1))
    table = (tmp_path / "out" / "vocabulary.csv").read_text().split()
    assert table == ["Index,Name", "0,ant", "1,cat"]


# two at once


def test_two_imports_at_once_of_the_same_files_give_what_one_gives(shards, tmp_path):
    whole = FeatureStore.create(tmp_path / "whole")
    import_youtube8m(whole, [shards], workers=1)
    line = [sys.executable, "-c", "from mmf.cli import main; main()", "import", "youtube8m"]
    line += [str(shards), "--store", str(tmp_path / "both"), "--workers", "1"]
    jobs = [subprocess.Popen(line, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [job.wait() for job in jobs] == [0, 0]
    both = FeatureStore(tmp_path / "both")
    assert both.content_hash() == whole.content_hash()
    assert both.videos().to_pylist() == whole.videos().to_pylist()
    assert both.items() == whole.items()
    assert verify(both.path) == []
