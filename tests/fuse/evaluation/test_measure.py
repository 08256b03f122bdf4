"""Evaluation: on the right items, with the right features, from an independent computation."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import METRICS, evaluate, load
from mmf.fuse.metrics import gap
from mmf.fuse.run import Run
from mmf.store import FeatureStore


@pytest.fixture
def run(xor_store, make_run):
    return make_run(xor_store, epochs=3)


def copy(store: FeatureStore, place, *, features=("a", "b"), spec_changes=()) -> FeatureStore:
    other = FeatureStore.create(place)
    for name in features:
        spec = replace(store.features[name], **dict(spec_changes))
        other.add(spec, [store.read(name, v) for v in store.state(name)])
    classes = store.classes()
    items = store.items()
    other.label(
        {i.video_id: [classes[c] for c in i.labels] for i in items},
        split={i.video_id: i.split for i in items},
        classes=classes[::-1],  # in another order
    )
    return other


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(MmfError, match="is not a run"):
            evaluate(place)


def test_a_run_without_weights_says_how_to_go_on(run):
    for part in (run / "checkpoints").iterdir():
        part.rename(run / part.name)
    with pytest.raises(MmfError, match="has no weights yet.*--resume"):
        evaluate(run)


def test_a_split_that_is_not_there_names_those_that_are(run):
    with pytest.raises(
        MmfError, match="split 'tset' has no labelled item; splits: test, train, val"
    ):
        evaluate(run, split="tset")


def test_features_of_another_recipe_are_refused_with_the_field(run, xor_store, tmp_path):
    other = copy(xor_store, tmp_path / "other", spec_changes={"recipe": {"fps": 2}})
    with pytest.raises(MmfError, match="feature 'a' .* another recipe .*recipe.fps"):
        evaluate(run, other.path)


def test_a_store_without_any_of_the_features_is_refused(run, xor_store, tmp_path):
    other = copy(xor_store, tmp_path / "other", features=())
    with pytest.raises(MmfError, match=r"has none of the run's features \(a, b\)"):
        evaluate(run, other.path)


def test_classes_that_the_run_has_not_seen_are_refused(run, xor_store):
    xor_store.label({"v00": ["third"]}, name="more", split={"v00": "test"})
    with pytest.raises(MmfError, match="not trained on: 'third'"):
        evaluate(run, label_set="more")


def test_a_label_set_without_a_split_has_the_one_of_the_run(run, xor_store):
    names, items = xor_store.classes(), xor_store.items()
    labels = {i.video_id: [names[1 - i.labels[0]]] for i in items}  # the other one
    xor_store.label(labels, name="wrong")
    right, wrong = evaluate(run), evaluate(run, label_set="wrong")
    assert wrong["items"] == right["items"] == 12
    assert wrong["accuracy"] == pytest.approx(1 - right["accuracy"])
    xor_store.label({}, split={"v00": "test"}, name="wrong")
    assert evaluate(run, label_set="wrong")["items"] == 1


def test_a_split_without_a_positive_label_is_refused(run, xor_store):
    xor_store.label({"v00": []}, name="none", split={"v00": "test"}, classes=["same"])
    with pytest.raises(MmfError, match="none has a positive label"):
        evaluate(run, label_set="none")


def test_the_metrics_are_those_of_the_networks_own_scores(run, xor_store):
    network = load(run)
    scores, labels = [], []
    for item in xor_store.items("test"):
        rows = {n: torch.from_numpy(xor_store.read(n, item.video_id).values)[None] for n in "ab"}
        scores.append(network(rows).softmax(1)[0].detach().numpy())
        labels.append(np.eye(2)[item.labels[0]])
    found = evaluate(run, split="test", device="cpu")
    assert found["gap@20"] == pytest.approx(gap(np.array(scores), np.array(labels)), abs=1e-6)
    right = (np.argmax(scores, 1) == np.argmax(labels, 1)).mean()
    assert found["accuracy"] == pytest.approx(right)
    log_p = np.log((np.array(scores) * labels).sum(1))
    assert found["loss"] == pytest.approx(-log_p.mean(), rel=1e-5)
    assert set(METRICS) < set(found)
    assert {found[n] for n in ("items", "items_without_features", "classes_used")} == {12, 0, 2}


def test_another_store_gives_the_same_whatever_the_order_of_its_classes(run, xor_store, tmp_path):
    other = copy(xor_store, tmp_path / "other")
    assert other.classes() == xor_store.classes()[::-1]
    assert evaluate(run, other.path) == evaluate(run)


def test_a_feature_that_the_store_lacks_is_missing(run, xor_store, tmp_path):
    other = copy(xor_store, tmp_path / "other", features=("a",))
    found = evaluate(run, other.path)
    assert found["items"] == 12
    assert found["loss"] != evaluate(run)["loss"]


def test_videos_that_moved_into_the_test_split_are_said(run, xor_store, caplog):
    evaluate(run)
    assert "not those that run" not in caplog.text
    xor_store.label({"v00": ["same"]}, split={"v00": "test"})
    evaluate(run)
    assert "the videos of split 'train' are not those that run" in caplog.text


def test_items_without_rows_are_counted_and_not_measured(run, xor_store):
    before = evaluate(run)
    xor_store.label({"gone": ["same"], ("v08", 100.0, 101.0): ["same"]}, split={"gone": "test"})
    split = {i.video_id: i.split for i in xor_store.items()}
    assert split["v08"] == "train"
    assert evaluate(run) == before | {"items_without_features": 1}


def test_a_split_made_by_the_run_is_used_again(xor_store, make_run, tmp_path, caplog):
    store = FeatureStore.create(tmp_path / "other")
    for name, spec in xor_store.features.items():
        store.add(spec, [xor_store.read(name, v) for v in xor_store.state(name)])
    store.label({i.video_id: [str(i.labels[0])] for i in xor_store.items()})
    with caplog.at_level(logging.WARNING):
        run = make_run(store, "concat")
    opened = Run.open(run)
    wanted = opened.assigned["split"].to_pylist().count("test")
    assert wanted in (8, 10)
    assert evaluate(run, split="test")["items"] == wanted
    store.label({"v99": ["0"]})  # labelled later: in no split of this run
    assert evaluate(run, split="test")["items"] == wanted

    config = json.loads((run / "config.json").read_text())
    ids, splits = (column.to_pylist() for column in opened.assigned.columns)
    before = config | {"data": config["data"] | {"assigned": dict(zip(ids, splits, strict=True))}}
    (run / "config.json").write_text(json.dumps(before))  # as a run of an earlier mmf says it
    assert Run.open(run).assigned == opened.assigned
    (run / "config.json").write_text(json.dumps(config))
    (run / "splits.parquet").write_bytes(b"no table")
    with pytest.raises(MmfError, match=r"splits.parquet' of 60 videos cannot be read.*train it ag"):
        evaluate(run)


def test_a_run_on_some_of_the_training_videos_is_not_taken_for_another(xor_store, make_run, caplog):
    run = make_run(xor_store, "concat", train_videos=20, seed=1)
    evaluate(run)
    assert "not those that run" not in caplog.text
    xor_store.label({v: ["same"] for v in ("v00", "v01", "v02")}, split={"v00": "test"})
    xor_store.label({v: ["same"] for v in ("v20", "v21", "v22")}, split={"v20": "test"})
    evaluate(run)
    assert "not those that run" in caplog.text
