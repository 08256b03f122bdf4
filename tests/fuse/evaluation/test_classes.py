"""Classes one by one: as scikit-learn counts them, and in decades of their training items."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from mmf import MmfError
from mmf.fuse import (
    by_frequency,
    choose_thresholds,
    evaluate,
    evaluate_classes,
    predict,
)
from mmf.fuse.evaluation.classes import CLASSES


@pytest.fixture
def store(xor_store):
    """Labels 'same' and 'other', 'first' of two videos of each split, 'never' of none in test."""
    items, names = xor_store.items(), xor_store.classes()
    labels = {i.video_id: [names[i.labels[0]]] for i in items}
    for split in ("train", "val", "test"):
        for item in xor_store.items(split)[:2]:
            labels[item.video_id].append("first")
    labels["v00"].append("never")
    xor_store.label(labels, split={i.video_id: i.split for i in items}, name="more")
    return xor_store


@pytest.fixture
def run(store, make_run):
    return make_run(store, "concat", label_set="more", epochs=3)


def table_of(store, run, split="test"):
    """Scores and labels (B, C) from the predictions."""
    classes = evaluate_classes(run)["class"].to_pylist()
    rows = predict(run, store.path, split, top=None, device="cpu").to_pylist()
    pairs = [dict(zip(r["classes"], r["scores"], strict=True)) for r in rows]
    scores = np.array([[one[name] for name in classes] for one in pairs])
    names = store.classes("more")
    truth = {i.video_id: {names[c] for c in i.labels} for i in store.items(label_set="more")}
    return scores, np.array([[name in truth[r["video_id"]] for name in classes] for r in rows])


def test_a_run_that_did_not_keep_its_counts_has_no_frequencies(run):
    config = json.loads((run / "config.json").read_text())
    del config["data"]["positives"]
    (run / "config.json").write_text(json.dumps(config))
    table = evaluate_classes(run)
    assert table["training_positives"].null_count == 4
    with pytest.raises(MmfError, match="did not keep how many items"):
        by_frequency(table)


def test_thresholds_of_other_weights_are_said_and_not_used(run):
    (run / "thresholds.json").write_text(json.dumps({"weights": "0", "thresholds": {}}))
    with pytest.raises(MmfError, match="chosen for other weights"):
        evaluate_classes(run)


def test_each_class_is_as_scikit_learn_measures_it(run, store):
    chosen = choose_thresholds(run)
    scores, labels = table_of(store, run)
    table = evaluate_classes(run, device="cpu")
    assert table.schema == CLASSES
    for c, row in enumerate(table.to_pylist()):
        name, positives = row["class"], int(labels[:, c].sum())
        assert (row["positives"], row["threshold"]) == (positives, chosen[name])
        if name == "never":
            assert {row[k] for k in ("threshold", "ap", "precision", "recall", "f1")} == {None}
            continue
        assert len(np.unique(scores[:, c])) == len(scores)  # no ties: the same definition
        wanted = average_precision_score(labels[:, c], scores[:, c])
        assert row["ap"] == pytest.approx(wanted)
        assert row["ap"] == row["ap@20"]  # four classes are all among the 20 best
        of_class = precision_recall_fscore_support(
            labels[:, c], scores[:, c] >= chosen[name], average="binary", zero_division=0
        )
        found = [row[k] or 0 for k in ("precision", "recall", "f1")]
        assert found == pytest.approx(of_class[:3])
    used = [row["ap"] for row in table.to_pylist() if row["ap"] is not None]
    assert np.mean(used) == pytest.approx(evaluate(run)["map"])


def test_without_thresholds_nothing_is_said_of_precision(run):
    table = evaluate_classes(run)
    for name in ("threshold", "precision", "recall", "f1"):
        assert table[name].null_count == 4
    assert table["ap"].null_count == 1


def test_training_items_are_counted_as_the_run_learned_from_them(run, store):
    before = evaluate_classes(run)
    names = store.classes("more")
    counts = dict.fromkeys(names, 0)
    for item in store.items("train", label_set="more"):
        for c in item.labels:
            counts[names[c]] += 1
    assert before["training_positives"].to_pylist() == [counts[n] for n in names]
    store.label({"v01": ["first"]}, name="more")  # later
    assert evaluate_classes(run)["training_positives"] == before["training_positives"]


def row(learned: int, positives: int, ap: float | None) -> dict:
    empty = dict.fromkeys(CLASSES.names)
    return empty | {
        "class": f"c{learned}-{positives}",
        "training_positives": learned,
        "positives": positives,
        "ap": ap,
        "ap@20": ap and ap / 2,
    }


def test_frequencies_are_decades_and_means_are_over_classes_with_a_positive():
    rows = [row(9, 4, 0.5), row(1, 2, 0.25), row(2, 0, None), row(10, 1, 1.0), row(1000, 0, None)]
    found = by_frequency(
        pa.Table.from_pylist([*rows, row(0, 3, 0.125)], schema=CLASSES)
    ).to_pylist()
    keys = ("training_positives", "classes", "classes_used", "positives", "map", "map@20", "f1")
    assert [tuple(one[k] for k in keys) for one in found] == [
        ("0", 1, 1, 3, 0.125, 0.0625, None),
        ("1-9", 3, 2, 6, 0.375, 0.1875, None),
        ("10-99", 1, 1, 1, 1.0, 0.5, None),
        ("1000-9999", 1, 0, 0, None, None, None),
    ]


def test_classes_at_a_level_are_those_of_that_level(run):
    rows = evaluate_classes(run, level="row")
    assert sum(rows["positives"].to_pylist()) > sum(evaluate_classes(run)["positives"].to_pylist())
    used = [one for one in rows["ap"].to_pylist() if one is not None]
    assert math.isclose(np.mean(used), evaluate(run, level="row")["map"])
