"""Several runs measured as one: by the metrics of the mean of their scores."""

import logging

import numpy as np
import pytest

from mmf import MmfError
from mmf.fuse import (
    Ensemble,
    by_frequency,
    choose_thresholds,
    evaluate,
    evaluate_classes,
    predict,
)
from mmf.fuse.metrics import gap


@pytest.fixture
def runs(xor_store, make_run):
    """Of both features, and of one alone with another label set, which knows a class more."""
    items, names = xor_store.items(), xor_store.classes()
    labels = {i.video_id: [names[i.labels[0]]] for i in items}
    labels["v00"] = ["third"]
    xor_store.label(labels, split={i.video_id: i.split for i in items}, name="more")
    return make_run(xor_store, "concat"), make_run(xor_store, "single", label_set="more")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": "row"}, "level 'row' takes an item apart, and runs are averaged item by item"),
        ({"level": "view"}, "level 'view' takes an item apart"),
        ({"zero": ("a",)}, "a: features are made zeros or left out of one run, and this is the"),
        ({"without": ("a", "b")}, "a, b: features are made zeros or left out"),
    ],
)
def test_what_is_asked_of_one_run_is_refused_of_several(runs, options, says):
    with pytest.raises(MmfError, match=says):
        evaluate(Ensemble(runs), **options)


def test_the_metrics_are_those_of_the_mean_of_the_runs_scores(runs, xor_store):
    names, truth = ("other", "same", "third"), xor_store.items("test")
    mean = np.zeros((len(truth), len(names)))
    for run, weight in zip(runs, (3, 1), strict=True):
        for row, said in enumerate(predict(run, xor_store.path, "test", top=None).to_pylist()):
            for name, score in zip(said["classes"], said["scores"], strict=True):
                mean[row, names.index(name)] += weight / 4 * score
    labels = np.array([[xor_store.classes()[i.labels[0]] == n for n in names] for i in truth])
    found = evaluate(Ensemble(runs, weights=[3, 1]), device="cpu")
    assert found["gap@20"] == pytest.approx(gap(mean, labels.astype("f4")), abs=1e-6)
    assert found["accuracy"] == np.mean(mean.argmax(1) == labels.argmax(1))
    rated = mean[labels] / mean[:, :2].sum(1)  # the labels measured by know no third class
    assert found["loss"] == pytest.approx(-np.log(rated).mean(), rel=1e-6)
    assert (found["items"], found["classes"], found["classes_used"]) == (12, 3, 2)
    assert evaluate(Ensemble(runs, weights=[3, 1]), level="video") == pytest.approx(found)


def test_the_ensemble_of_one_run_is_that_run(runs):
    for run in runs:
        assert evaluate(Ensemble([run])) == pytest.approx(evaluate(run), rel=1e-12)


def test_by_class_there_are_the_classes_of_all_and_no_thresholds_of_one(runs):
    choose_thresholds(runs[0])
    alone, both = evaluate_classes(runs[0]), evaluate_classes(Ensemble(runs))
    assert both["class"].to_pylist() == ["other", "same", "third"]
    assert both["training_positives"].to_pylist() == [18, 18, 1]  # of the first that knows it
    assert alone["threshold"].null_count == 0
    assert both["threshold"].null_count == both["f1"].null_count == 3
    assert by_frequency(both)["classes"].to_pylist() == [1, 2]


def test_a_run_that_has_learned_from_other_videos_is_named(runs, xor_store, make_run, caplog):
    splits = {i.video_id: i.split for i in xor_store.items()}
    turned = {"train": "train", "val": "test", "test": "val"}
    xor_store.catalog.add_splits(
        "other", {v: turned[s] for v, s in splits.items()} | {"v16": "train"}
    )
    strange = make_run(xor_store, "concat", "strange", split_set="other")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        evaluate(Ensemble([runs[0], strange]))
    assert [str(strange) in record.getMessage() for record in caplog.records] == [True]
