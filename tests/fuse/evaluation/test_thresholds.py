"""Thresholds: the best F1 by trying every one, of the best weights, and of no others."""

import json
import shutil

import numpy as np
import pytest

from mmf import MmfError
from mmf.fuse import choose_thresholds, predict, thresholds
from mmf.fuse.evaluation import accumulator
from mmf.fuse.evaluation.thresholds import best_threshold


def f1(said: np.ndarray, hits: np.ndarray) -> float:
    return 2 * (said & hits).sum() / (said.sum() + hits.sum())


@pytest.fixture
def run(xor_store, make_run):
    return make_run(xor_store, "concat", epochs=2)


def test_a_run_without_thresholds_says_how_they_are_chosen(run):
    with pytest.raises(MmfError, match="no thresholds. Choose them with .*--choose-thresholds"):
        thresholds(run)


def test_thresholds_that_cannot_be_read_are_an_error(run):
    (run / "thresholds.json").write_text("{")
    with pytest.raises(MmfError, match="cannot be read"):
        thresholds(run)


def test_thresholds_of_other_weights_are_refused(run):
    choose_thresholds(run)
    kept = json.loads((run / "thresholds.json").read_text())
    (run / "thresholds.json").write_text(json.dumps(kept | {"weights": "0" * 64}))
    with pytest.raises(MmfError, match="chosen for other weights"):
        thresholds(run)


def test_a_class_without_a_positive_has_no_threshold(xor_store, make_run):
    items = xor_store.items()
    classes = xor_store.classes()
    labels = {i.video_id: [classes[i.labels[0]]] for i in items}
    labels |= {"v00": [*labels["v00"], "seldom"]}
    split = {i.video_id: i.split for i in items}
    assert split["v00"] == "train"
    xor_store.label(labels, split=split, name="more")
    found = choose_thresholds(make_run(xor_store, "concat", label_set="more"))
    assert found["seldom"] is None
    assert isinstance(found["same"], float)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_has_a_better_f1(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 9, 30) / 8
    hits = generator.random(30) < 0.1 + 0.8 * scores * generator.random()
    hits[0] = True
    chosen = best_threshold(scores, hits, int(hits.sum()))
    assert chosen is not None
    every = {t: f1(scores >= t, hits) for t in np.unique(scores)}
    assert f1(scores >= chosen, hits) == pytest.approx(max(every.values()))
    lowest = scores[scores >= chosen].min()
    assert all(value < every[lowest] for t, value in every.items() if t > lowest)


def test_a_threshold_lies_in_the_middle_of_a_gap():
    assert best_threshold(np.array([0.9, 0.5, 0.25]), np.array([True, True, False]), 2) == 0.375
    assert best_threshold(np.array([0.9, 0.5]), np.array([True, True]), 2) == 0.5


def test_positives_that_have_no_score_here_count_as_missed():
    scores, hits = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert best_threshold(scores, hits, 2) == pytest.approx(0.4)  # F1 0.8 against 2/3
    assert best_threshold(scores, np.zeros(4, bool), 2) is None


def test_a_runs_thresholds_are_chosen_on_validation_and_kept(run, xor_store, tmp_path):
    chosen = choose_thresholds(run, device="cpu")
    assert thresholds(run) == chosen
    table = predict(run, xor_store.path, "val", top=None, device="cpu").to_pylist()
    truth = {i.video_id: xor_store.classes()[i.labels[0]] for i in xor_store.items("val")}
    for name, value in chosen.items():
        scores = np.array([dict(zip(r["classes"], r["scores"], strict=True))[name] for r in table])
        hits = np.array([truth[r["item"]] == name for r in table])
        assert f1(scores >= value, hits) == max(f1(scores >= t, hits) for t in scores)
    shutil.move(run, tmp_path / "elsewhere")
    assert thresholds(tmp_path / "elsewhere") == chosen


def test_of_very_many_scores_each_items_best_are_enough(run, monkeypatch, caplog):
    whole = choose_thresholds(run)
    monkeypatch.setattr(accumulator, "MOST_SCORES", 3)
    assert choose_thresholds(run) == whole  # two classes: both are among an item's 20 best
    assert "too many scores to keep" in caplog.text
