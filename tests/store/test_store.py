"""The store as a user meets it: what it refuses, what it keeps, what it gives back."""

import doctest
import sys

import numpy as np
import pyarrow as pa
import pytest
import xarray
import zarr

from mmf import MmfError, UnknownName
from mmf.store import FeatureSpec, FeatureStore, Item, Outcome, RecipeMismatch, Track

TEXT = FeatureSpec(name="text", modality="text", shape=(3,), dtype="float32", recipe={"fps": 1})


def track(video: str, n: int, spec: FeatureSpec = TEXT, times=None) -> Track:
    rng = np.random.default_rng(abs(hash(("seed", n))) % 1000)
    values = rng.integers(0, 50, (n, *spec.shape)).astype("f4")
    return Track(video_id=video, values=values, times=np.arange(n) if times is None else times)


@pytest.fixture
def store(tmp_path):
    return FeatureStore.create(tmp_path / "feats")


def test_opening_what_is_not_there_says_how_a_store_is_made(tmp_path):
    with pytest.raises(MmfError, match=r"no feature store at .* `mmf extract` makes one"):
        FeatureStore(tmp_path / "nothing")


def test_a_folder_of_other_things_is_not_made_a_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(MmfError, match=r"is not empty \(it holds 'thesis.tex'\)"):
        FeatureStore.create(tmp_path)


def test_a_store_of_a_later_format_says_what_this_version_reads(store):
    (store.path / "mmf.json").write_text('{"format": "mmf-feature-store", "version": 9}')
    with pytest.raises(MmfError, match=r"'version': 9.*reads .*'version': 1"):
        FeatureStore(store.path)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "zarr.json", "c.0", "-x", "a b", "ä"])
def test_a_feature_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(MmfError, match="feature name"):
        FeatureSpec(name=name, modality="rgb", shape=(1,))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.ones((2, 4)), r"rows of shape \(3,\); got \(4,\)"),
        (np.array([[1, 2, np.nan]] * 2), "NaN or infinity"),
        (np.array([[1, 2, np.inf]] * 2), "NaN or infinity"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_committed(store, values, says):
    with pytest.raises(MmfError, match=says):
        store.add(TEXT, [track("good", 3), Track(video_id="bad", values=values, times=[0, 1])])
    assert FeatureStore(store.path).state("text") == {}
    assert not list((store.path / "tmp").iterdir())


def test_a_value_too_large_for_float16_names_the_remedy(store):
    spec = FeatureSpec(name="f", modality="rgb", shape=(1,), dtype="float16")
    with pytest.raises(MmfError, match=r"70000 does not fit float16.*--dtype float32"):
        store.add(spec, [Track(video_id="v", values=[[70000.0]], times=[0.0])])


def test_times_that_run_backwards_are_refused():
    with pytest.raises(MmfError, match="must not decrease"):
        track("v", 2, times=[1.0, 0.5])


def test_another_recipe_under_the_same_name_is_refused_with_the_field(store):
    store.add(TEXT, [track("v1", 2)])
    other = FeatureSpec(
        name="text", modality="text", shape=(3,), dtype="float32", recipe={"fps": 2}
    )
    with pytest.raises(RecipeMismatch, match=r"recipe.fps 1 there, 2 here.*--replace"):
        store.add(other, [track("v2", 2)])
    assert store.state("text") == {"v1": "done"}


def test_replace_begins_a_feature_anew_also_with_another_shape(store):
    store.add(TEXT, [track("v1", 2)])
    other = FeatureSpec(name="text", modality="text", shape=(5,), dtype="uint8")
    store.add(other, [track("v2", 4, other)], replace=True)
    again = FeatureStore(store.path)
    assert again.features["text"] == other
    assert again.state("text") == {"v2": "done"}
    assert again.read("text", "v2").values.shape == (4, 5)
    store.add(TEXT, [track("v1", 3)], replace=True)
    assert len(store.read("text", "v1")) == 3


def test_the_same_video_again_is_refused(store):
    store.add(TEXT, [track("v1", 2)])
    with pytest.raises(MmfError, match="'v1' has feature 'text' already"):
        store.add(TEXT, [track("v2", 2), track("v1", 2)])
    assert store.state("text") == {"v1": "done"}


def test_an_unknown_feature_suggests_the_nearest(store):
    store.add(TEXT, [track("v1", 2)])
    with pytest.raises(UnknownName, match="Did you mean 'text'"):
        store.read("texte", "v1")


def test_a_video_without_rows_says_why(store):
    store.create_feature(TEXT)
    writer = store.writer()
    writer.mark("text", Outcome(video_id="v", status="failed", reason="truncated", stage="decode"))
    writer.commit()
    with pytest.raises(MmfError, match=r"no rows of feature 'text' \(failed: truncated\)"):
        store.read("text", "v")
    assert store.failures().select(["video_id", "reason", "attempts"]).to_pylist() == [
        {"video_id": "v", "reason": "truncated", "attempts": 1}
    ]


def test_done_stands_before_skipped_before_failed_whatever_the_order(store):
    store.create_feature(TEXT)
    for status in ("failed", "skipped", "done", "failed", "skipped", "done"):
        writer = store.writer()
        if status == "done":
            writer.put("text", track("v", 2))
        else:
            writer.mark("text", Outcome(video_id="v", status=status, reason="x"))
        writer.commit()
    assert store.state("text") == {"v": "done"}
    assert len(store.videos()) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int32"])
@pytest.mark.parametrize("shape", [(1,), (17,), (7, 7, 3)])
def test_rows_and_times_come_back_as_they_were_put(store, dtype, shape):
    spec = FeatureSpec(name="f", modality="rgb", shape=shape, dtype=dtype, quantisation=None)
    irregular = np.cumsum(np.random.default_rng(0).random(6))
    tracks = [
        track("a", 4, spec),
        track("b", 6, spec, times=irregular),
        track("é\x1b\N{SNOWMAN}/../x", 1, spec, times=[8.333333333333334]),
        track("none", 0, spec),
    ]
    if dtype == "uint8":  # codes pass unchanged
        tracks = [
            Track(video_id=t.video_id, values=t.values.astype("u1"), times=t.times) for t in tracks
        ]
    store.add(spec, tracks)
    for put in tracks:
        got = FeatureStore(store.path).read("f", put.video_id)
        expected = spec.decode(put.values) if dtype == "uint8" else put.values
        np.testing.assert_array_equal(got.values, expected)
        assert got.values.dtype == (np.int32 if dtype == "int32" else np.float32)
        np.testing.assert_array_equal(got.times, put.times)


def test_youtube8m_codes_survive_the_round_trip_and_decode_as_published(store):
    spec = FeatureSpec(name="f", modality="rgb", shape=(256,), dtype="uint8")
    codes = np.arange(256, dtype=np.uint8)[None]
    numbers = spec.decode(codes)
    assert numbers[0, 0] == np.float32(-1.9921875)
    assert numbers[0, 255] == np.float32(2.0078125)
    np.testing.assert_array_equal(spec.encode(numbers), codes)


def test_zarr_and_xarray_read_the_arrays(store):
    spec = FeatureSpec(name="rgb", modality="rgb", shape=(4,), dtype="uint8")
    store.add(spec, [track("v1", 3, spec), track("v2", 2, spec)])
    store.add(TEXT, [track("v1", 2)])
    group = zarr.open_group(store.path / "features.zarr", mode="r")
    assert sorted(group.array_keys()) == ["rgb", "text"]
    assert group["rgb"].shape == (5, 4)
    data = xarray.open_zarr(store.path / "features.zarr", consolidated=False)
    numbers = np.concatenate([store.read("rgb", v).values for v in ("v1", "v2")])
    np.testing.assert_allclose(data["rgb"].values, numbers, atol=1e-6)
    np.testing.assert_array_equal(data["text"].values, store.read("text", "v1").values)


def test_a_store_grows_by_videos_and_features_at_any_time(store):
    store.add(TEXT, [track("v1", 2)])
    store.add(TEXT, [track("v2", 3)])
    other = FeatureSpec(name="rgb", modality="rgb", shape=(2,))
    store.add(other, [track("v2", 5, other), track("v3", 1, other)])
    videos = store.videos()
    assert videos["video_id"].to_pylist() == ["v1", "v2", "v3"]
    assert videos["text"].to_pylist() == ["done", "done", None]
    assert videos["rgb"].to_pylist() == [None, "done", "done"]


def test_two_writers_at_once_leave_every_video_once(store):
    store.create_feature(TEXT)
    one, two = FeatureStore(store.path), FeatureStore(store.path)
    writers = one.writer(), two.writer()
    for writer, videos in zip(writers, (("a", "b"), ("b", "c")), strict=True):
        for video in videos:
            writer.put("text", track(video, 4))
    for writer in writers:
        writer.commit()
    store.refresh()
    assert store.state("text") == {"a": "done", "b": "done", "c": "done"}
    np.testing.assert_array_equal(store.read("text", "b").values, track("b", 4).values)
    one.refresh()
    assert one.content_hash() == store.content_hash()
    assert one.snapshot() == store.snapshot()


def test_the_content_hash_depends_on_content_and_not_on_commits(tmp_path):
    tracks = [track(f"v{i}", i + 1) for i in range(5)]
    at_once, one_by_one, other = (FeatureStore.create(tmp_path / n) for n in "abc")
    at_once.add(TEXT, tracks)
    for t in reversed(tracks):
        one_by_one.add(TEXT, [t])
    other.add(TEXT, [*tracks[:-1], track("v4", 5, times=np.arange(5) + 0.25)])
    assert at_once.content_hash() == one_by_one.content_hash() != other.content_hash()


def test_the_docstring_of_the_store_is_true(tmp_path):
    names = {**vars(sys.modules[FeatureStore.__module__]), "tmp": tmp_path}
    failed = doctest.run_docstring_examples
    tests = doctest.DocTestFinder().find(FeatureStore, "FeatureStore", globs=names)
    runner = doctest.DocTestRunner()
    assert failed is not None
    assert sum(len(t.examples) for t in tests) > 2
    assert sum(runner.run(t).failed for t in tests) == 0


# items, labels, splits, batches


def test_an_interval_is_read_as_the_rows_of_its_times(store):
    spec = FeatureSpec(name="rgb", modality="rgb", shape=(1,), dtype="float32", rate=1.0)
    values = np.arange(10, dtype="f4")[:, None]
    store.add(spec, [Track(video_id="v", values=values, times=np.arange(10) + 0.25)])
    spans = {
        (0.0, 2.0): [0, 1],
        (0.25, 1.25): [0],
        (3.3, 3.4): [3],
        (50.0, 60.0): [],
        (0.0, 0.1): [],
    }
    store.label({("v", *span): ["x"] for span in spans})
    items = store.items()
    assert items[0].id == "v@0-0.1"
    batch = store.batch(items, ["rgb"])
    for i, item in enumerate(items):
        rows = batch.values["rgb"][i, : batch.lengths["rgb"][i], 0]
        assert rows.tolist() == spans[item.start, item.end]


def test_a_missing_feature_is_a_mask_and_not_zeros(store):
    store.add(TEXT, [track("v1", 2)])
    store.label({"v1": ["a"], "v2": ["b"]})
    batch = store.batch(store.items(), ["text"])
    assert batch.lengths["text"].tolist() == [2, 0]
    assert batch.mask("text").tolist() == [[True, True], [False, False]]
    assert [i.video_id for i in store.items(features=["text"])] == ["v1"]


def test_labels_and_splits_have_names_and_are_merged(store):
    store.label({"v1": ["cat"], "v2": ["dog", "cat"]}, split={"v1": "train", "v2": "test"})
    store.label({"v2": ["bird"]}, name="other", classes=["ant", "bird"], unrated={"v2": ["ant"]})
    store.label({"v3": ["emu"], "v1": ["dog"]})
    assert store.classes() == ("cat", "dog", "emu")
    assert [i.labels for i in store.items()] == [(1,), (0, 1), (2,)]
    assert [i.split for i in store.items()] == ["train", "test", None]
    (item,) = store.items(label_set="other")
    assert (item.labels, item.unrated) == ((1,), (0,))
    batch = store.batch([item], [], label_set="other")
    assert batch.labels.tolist() == [[0, 1]]
    assert batch.rated.tolist() == [[False, True]]
    assert store.label_sets == ("default", "other")


def test_a_class_that_the_list_has_not_is_refused(store):
    with pytest.raises(UnknownName, match="unknown class 'catt'. Did you mean 'cat'"):
        store.label({"v": ["catt"]}, classes=["cat", "dog"])


def test_a_name_alone_is_one_class_and_one_feature(store):
    store.add(TEXT, [track("v1", 2)])
    store.label({"v1": "cat"}, split={"v1": "train"})
    assert store.classes() == ("cat",)
    (batch,) = store.batches("text", "train")
    assert batch.lengths["text"].tolist() == [2]


def test_intervals_that_differ_by_little_have_ids_of_their_own():
    one, two = (Item(video_id="v", start=1234.5678, end=e) for e in (1300.0, 1300.0001))
    assert one.id == "v@1234.5678-1300"
    assert one.id != two.id


def test_an_interval_must_end_after_its_start(store):
    with pytest.raises(MmfError, match="end must lie after its start"):
        store.label({("v", 3.0, 3.0): ["x"]})


def test_an_unknown_label_set_says_which_there_are(store):
    store.label({"v": ["x"]})
    with pytest.raises(UnknownName, match="unknown label set 'defualt'. Did you mean 'default'"):
        store.items(label_set="defualt")


def test_an_epoch_has_every_item_once_in_an_order_of_seed_and_epoch(store):
    n = 53
    store.add(TEXT, [track(f"v{i:02}", 1 + i % 5) for i in range(n)])
    store.label(
        {f"v{i:02}": ["x"] for i in range(n)}, split={f"v{i:02}": "train" for i in range(n)}
    )

    def order(**options):
        found = store.batches(["text"], "train", batch_size=8, **options)
        return [item.video_id for batch in found for item in batch.items]

    assert sorted(order()) == [f"v{i:02}" for i in range(n)]
    assert order() == order(seed=0, epoch=0)
    assert order(seed=1) != order() != order(epoch=1)
    assert order(start_batch=3) == order()[24:]
    assert order(shuffle=False) == sorted(order())
    for batch in store.batches(["text"], "train", batch_size=8):
        for i, item in enumerate(batch.items):
            expected = store.read("text", item.video_id).values
            np.testing.assert_array_equal(batch.values["text"][i, : len(expected)], expected)
            assert not batch.values["text"][i, len(expected) :].any()


def test_max_steps_keeps_evenly_spaced_rows(store):
    spec = FeatureSpec(name="n", modality="rgb", shape=(1,), dtype="int32")
    store.add(spec, [Track(video_id="v", values=np.arange(100)[:, None], times=np.arange(100))])
    batch = store.batch([Item(video_id="v")], ["n"], label_set=None, max_steps=4)
    assert batch.values["n"][0, :, 0].tolist() == [12, 37, 62, 87]


def test_manifest_columns_come_back_with_the_videos(store):
    store.catalog.add_videos([{"video_id": "v1", "series": "a"}, {"video_id": "v2", "year": 1999}])
    store.catalog.add_videos([{"video_id": "v1", "year": 2001}])
    rows = store.videos()
    assert isinstance(rows, pa.Table)
    assert rows.select(["video_id", "series", "year"]).to_pylist() == [
        {"video_id": "v1", "series": "a", "year": "2001"},
        {"video_id": "v2", "series": None, "year": "1999"},
    ]


def test_an_empty_store_has_no_videos_and_no_failures(store):
    assert store.videos().column_names == ["video_id", "split", "labels"]
    assert len(store.videos()) == len(store.failures()) == 0


def test_labelled_items_can_be_read_without_their_labels(store):
    store.add(TEXT, [track("v1", 2)])
    store.label({"v1": ["a"]})
    assert store.batch(store.items(), ["text"], label_set=None).labels.shape == (1, 0)


def test_videos_with_rows_are_those_of_any_of_the_features_each_once_and_in_order(store):
    of = {"a": ["v3", "v1", "v2"], "b": ["v2", "v0", "v4"], "c": ["v1"]}
    for name, videos in of.items():
        spec = FeatureSpec(name=name, modality="text", shape=(3,))
        store.add(spec, [track(v, 2, spec) for v in videos] + [track("empty", 0, spec)])
    for names in (["a"], ["a", "b"], ["c", "a"], ["a", "b", "c"], []):
        wanted = sorted({v for name in names or of for v in of[name]})
        assert store.with_rows(names).to_pylist() == wanted
        assert [item.video_id for item in store.all_items(names)] == wanted
