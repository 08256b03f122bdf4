"""What a policy selected: of the items that are asked for, as it is measured."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmf import MmfError
from mmf.fuse import evaluate
from mmf.fuse.explain.selection import open_deciding, selections
from mmf.fuse.explain.selection_tables import Summary, rows, writing
from mmf.store import FeatureStore, Item


def found(run, *arguments, **options):
    return list(selections(open_deciding(run, *arguments, device="cpu", **options)))


def test_a_run_without_a_policy_says_which_have_one_and_how_to_train_it(runs):
    with pytest.raises(MmfError, match=r"no policy.*have one: .*policy; `mmf train .*--fusion pol"):
        open_deciding(runs / "mean")


def test_an_item_that_is_not_there_is_named_with_the_nearest(runs):
    with pytest.raises(MmfError, match=r"unknown item 'test0000919'.*'test0000019'.*58 items"):
        open_deciding(runs / "policy", items=["test0000020", "test0000919"])
    with pytest.raises(MmfError, match="split 'tset' has no item"):
        open_deciding(runs / "policy", split="tset")


def test_a_store_that_has_moved_is_asked_for(runs, store, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    values = json.loads((runs / "policy" / "config.json").read_text())
    values["config"]["store"] = str(tmp_path / "moved")
    (run / "config.json").write_text(json.dumps(values))
    (run / "checkpoints").symlink_to(runs / "policy" / "checkpoints")
    with pytest.raises(
        MmfError, match=r"no feature store at .*moved.*say with --store where it is"
    ):
        open_deciding(run)
    assert len(open_deciding(run, store.path).items) == 40


def test_an_item_without_rows_is_left_out(runs, store, tmp_path):
    small = FeatureStore.create(tmp_path / "small")
    for name, spec in store.features.items():
        small.add(spec, [store.read(name, "test0000020")])
    labelled = {"test0000020": ["class0001"], "empty": ["class0000"]}
    small.label(labelled, split=dict.fromkeys(labelled, "test"))
    (one,) = found(runs / "policy", small.path)
    assert one.item.id == "test0000020"
    assert found(runs / "policy", small.path, items=["empty"]) == []


def test_what_is_counted_is_what_evaluation_measures(runs):
    summary = Summary()
    for one in found(runs / "policy"):
        summary.add(one)
    measured = evaluate(runs / "policy", device="cpu")
    by_modality = {row["modality"]: row for row in summary.by_modality().to_pylist()}
    for name in ("rgb", "audio"):
        assert by_modality[name]["used"] == pytest.approx(measured[f"used_{name}"])
        assert by_modality[name]["there"] == 1
    assert summary.items == measured["items"]
    assert summary.accuracy == pytest.approx(measured["accuracy"])
    assert summary.gflops == pytest.approx((measured["gflops"], 5 * (14.0 + 0.5 + 0.25)))


def test_the_summary_by_class_is_the_mean_over_its_items(runs):
    items, summary = found(runs / "policy"), Summary()
    for one in items:
        summary.add(one)
    table = summary.by_class().to_pylist()
    assert [row["class"] for row in table] == sorted({one.labels[0] for one in items})
    for row in table:
        its = [one for one in items if one.labels == (row["class"],)]
        rgb = its[0].modalities.index("rgb")
        assert row["items"] == len(its)
        assert row["used_rgb"] == pytest.approx(np.mean([one.used[:, rgb].mean() for one in its]))
        assert row["accuracy"] == np.mean([one.predicted == row["class"] for one in its])
        assert row["gflops"] == pytest.approx(np.mean([one.gflops for one in its]))


def test_an_item_alone_is_decided_about_as_among_all(runs):
    (alone,) = found(runs / "policy", items=["test0000033"])
    (same,) = (one for one in found(runs / "policy") if one.item.id == "test0000033")
    assert rows(alone) == rows(same)
    assert {row["used"] for row in rows(alone)} == {False, True}


def test_what_is_used_weighs_the_same_in_a_mean(runs):
    for one in found(runs / "policy", items=["test0000033", "test0000034"]):
        np.testing.assert_allclose(one.weights, one.used / len(one.used), rtol=1e-6)
        assert [row["weight"] for row in rows(one)] == one.weights.ravel().tolist()


def test_a_video_stands_for_all_of_its_items(runs, store, tmp_path):
    cut = FeatureStore.create(tmp_path / "cut")
    for name, spec in store.features.items():
        cut.add(spec, [store.read(name, v) for v in ("test0000020", "test0000021")])
    parts = [("test0000020", 0.0, 3.0), ("test0000020", 3.0, 5.0), ("test0000021", 1.0, 4.0)]
    cut.label({part: ["class0001"] for part in parts})
    names = [one.item.id for one in found(runs / "policy", cut.path, items=["test0000020"])]
    assert names == ["test0000020@0-3", "test0000020@3-5"]
    (one,) = found(runs / "policy", cut.path, items=["test0000021@1-4"])
    assert one.item == Item(video_id="test0000021", start=1.0, end=4.0, labels=one.item.labels)
    assert (one.times.start[0], one.times.end[-1]) == (1.0, 4.0)


def test_of_an_item_that_nobody_has_labelled_nothing_is_right_or_wrong(runs, store, tmp_path):
    bare = FeatureStore.create(tmp_path / "bare")
    for name, spec in store.features.items():
        bare.add(spec, [store.read(name, "test0000020")])
    (one,) = found(runs / "policy", bare.path, items=["test0000020"])
    assert (one.labels, one.right) == ((), None)
    summary = Summary()
    summary.add(one)
    assert summary.accuracy is None
    assert summary.by_class().num_rows == 0


def test_the_file_has_a_row_for_each_segment_and_modality(runs, tmp_path):
    items = found(runs / "policy", split="val")
    with writing(tmp_path / "selection.parquet") as writer:
        for one in items:
            writer.add(one)
    table = pq.read_table(tmp_path / "selection.parquet")
    assert table.num_rows == 6 * 5 * 2
    assert table == pa.Table.from_pylist([r for one in items for r in rows(one)], table.schema)
    of_rgb = [
        r for r in table.to_pylist() if (r["item"], r["modality"]) == (items[0].item.id, "rgb")
    ]
    assert [r["segment"] for r in of_rgb] == [0, 1, 2, 3, 4]
    assert [r["end_s"] for r in of_rgb[:-1]] == [r["start_s"] for r in of_rgb[1:]]


def test_an_item_of_which_nothing_is_used_is_told_with_what_is_said_without_it(runs, odd):
    summary = Summary()
    for one in found(runs / "off", odd.path):
        assert not one.used.any()
        assert (one.predicted, one.score) == ("class0000", pytest.approx(1 / 3))  # of zeros
        assert one.gflops == pytest.approx(0.25 * len(one.used))  # to decide
        assert one.gflops_all > one.gflops
        assert {row["used"] for row in rows(one)} == {False}
        summary.add(one)
    assert (summary.items, summary.nothing) == (4, 4)
    assert summary.by_class()["used_rgb"].to_pylist() == [0.0]
    assert summary.by_modality()["items_using"].to_pylist() == [0.0, 0.0]


def test_where_everything_is_on_or_one_segment_is_off_the_item_uses_something(runs, store):
    summary, items = Summary(), found(runs / "policy")
    for one in items:
        summary.add(one)
    off = [one for one in items if not one.used.any(1).all()]
    assert len(off) > summary.nothing == sum(not one.used.any() for one in items)
    of_one = rows(off[0])
    empty = int(np.flatnonzero(~off[0].used.any(1))[0])
    assert [row["used"] for row in of_one if row["segment"] == empty] == [False, False]


def test_a_video_that_lacks_a_modality_has_its_segments_by_the_other(runs, odd):
    by_name = {one.item.id: one for one in found(runs / "policy", odd.path)}
    whole = by_name["whole"]
    for video, lacks in (("silent", "audio"), ("unseen", "rgb")):
        one = by_name[video]
        m = one.modalities.index(lacks)
        assert not one.there[:, m].any()
        assert not one.used[:, m].any()
        assert one.there[:, 1 - m].all()
        np.testing.assert_array_equal(one.times.start, whole.times.starts[:, 1 - m])
        np.testing.assert_array_equal(one.times.starts[:, m], one.times.start)
        assert {row["there"] for row in rows(one) if row["modality"] == lacks} == {False}
        assert one.gflops_all == pytest.approx(5 * (0.25 + {"audio": 14.0, "rgb": 0.5}[lacks]))


def test_a_video_of_one_row_is_one_segment(runs, odd):
    (one,) = found(runs / "policy", odd.path, items=["short"])
    assert one.used.shape == one.there.shape == (1, 2)
    assert one.there.all()
    assert len(rows(one)) == 2
    assert one.times.end[0] > one.times.start[0]


def test_a_store_without_one_of_the_features_is_told_as_items_that_lack_it(runs, odd, tmp_path):
    silent = FeatureStore.create(tmp_path / "silent")
    silent.add(odd.features["rgb"], [odd.read("rgb", "whole")])
    (one,) = found(runs / "policy", silent.path, items=["whole"])
    assert one.there[:, one.modalities.index("rgb")].all()
    assert not one.there[:, one.modalities.index("audio")].any()
