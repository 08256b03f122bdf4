"""Metrics of many batches: those of all at once, whether or not every score is kept."""

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import METRICS
from mmf.fuse.evaluation.accumulator import Accumulator
from mmf.fuse.metrics import SINGLE_LABEL, average_precisions

FULL = [name for name in METRICS if name not in SINGLE_LABEL]


def collected(names, scores, labels, rated=None, *, size=7, **options) -> Accumulator:
    accumulator = Accumulator(names, **options)
    for start in range(0, len(scores), size):
        part = slice(start, start + size)
        accumulator.add(scores[part], labels[part], None if rated is None else rated[part])
    return accumulator


def test_nothing_added_is_nothing_to_measure():
    with pytest.raises(MmfError, match="no item was added"):
        Accumulator(["gap@20"]).result()


def test_accuracy_counts_the_items_of_all_batches_that_have_several_labels():
    three = collected(["accuracy"], np.zeros((3, 2)), np.array([[0, 1], [1, 1], [0, 0]]), size=1)
    with pytest.raises(MmfError, match="2 of 3 items have none or several"):
        three.result()


def test_what_needs_every_score_is_left_out_of_too_many_and_said(caplog):
    scores = np.random.default_rng(0).random((10, 30))
    labels = np.eye(30)[:10]
    few = collected(FULL, scores, labels, most_scores=299)
    found = few.result()
    assert set(found) == set(FULL) - {"map"}
    assert "map needs all 300 scores at once and 299 are the most" in caplog.text
    assert np.isnan(few.average_precisions(None)).all()
    whole = collected(FULL, scores, labels, most_scores=300).result()
    assert whole == found | {"map": whole["map"]}


@pytest.mark.parametrize("decimals", [15, 1])  # as they are, and with very many ties
def test_neither_order_nor_batch_size_changes_a_metric(shared_data: Path, decimals):
    with np.load(shared_data / "yt8m" / "metric_fixture.npz") as file:
        scores, labels = file["predictions"].round(decimals), file["labels"]
        published = {n: float(file[k]) for n, k in [("gap@20", "gap20"), ("map@20", "map20")]}
        published |= {"perr": float(file["perr"]), "hit@1": float(file["hit1"])}
    wanted = {name: METRICS.load(name)(scores, labels) for name in FULL}
    for size in (1, 7, 400):
        order = np.random.default_rng(size).permutation(len(scores))
        given = torch.from_numpy(scores[order]), torch.from_numpy(labels[order])
        found = collected(FULL, *given, size=size).result()
        assert found == pytest.approx(wanted, abs=1e-12)
        if decimals == 15:
            assert {n: found[n] for n in published} == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_of_each_item_gives_the_metrics_of_all_scores(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 12, (50, 40)) / 11  # ties within items and between them
    labels = generator.random((50, 40)) < generator.random((50, 1)) ** 2  # up to more than 20
    assert labels.sum(1).max() > 20
    rated = generator.random((50, 40)) < 0.8
    rated[3], rated[4, 2:] = False, False
    found = collected(FULL, scores, labels, rated, most_scores=0).result()
    wanted = {n: METRICS.load(n)(scores, labels, rated=rated) for n in FULL if n != "map"}
    assert found == pytest.approx(wanted, abs=1e-12)


def test_what_is_kept_of_an_item_does_not_grow_with_the_classes():
    generator = np.random.default_rng(0)
    scores = generator.random((64, 2000), np.float32)
    labels = np.eye(2000, dtype=bool)[:64]
    accumulator = Accumulator(["gap@20", "map@20", "perr", "hit@1"])
    accumulator.add(scores, labels)
    tracemalloc.start()
    for _ in range(50):
        accumulator.add(scores, labels)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 50 * 64 * 250  # bytes; all scores and labels would be 6 × 2000 an item


def test_single_label_metrics_are_those_of_all_scores():
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 4, (60, 5)) / 3, np.eye(5)[generator.integers(0, 4, 60)]
    found = collected(SINGLE_LABEL, scores, labels).result()
    wanted = {n: METRICS.load(n)(scores, labels) for n in SINGLE_LABEL}
    assert found == pytest.approx(wanted, abs=1e-12)
    assert not collected(SINGLE_LABEL, scores, labels).is_whole


def test_each_classs_own_precision_is_that_of_all_scores():
    generator = np.random.default_rng(1)
    scores, labels = generator.random((40, 30)), generator.random((40, 30)) < 0.1
    labels[:, 7] = False
    accumulator = collected(FULL, scores, labels)
    for k in (20, None):
        assert accumulator.average_precisions(k) == pytest.approx(
            average_precisions(scores, labels, k), abs=1e-12, nan_ok=True
        )
    assert math.isnan(accumulator.average_precisions(None)[7])
    assert accumulator.positives.tolist() == labels.sum(0).tolist()


def test_precisions_that_were_asked_for_once_know_what_is_added_later():
    random = np.random.default_rng(0)
    scores, labels = random.random((40, 6)), random.random((40, 6)) < 0.3
    whole, early = collected(["map"], scores, labels), collected(["map"], scores[:21], labels[:21])
    early.average_precisions(None)[:] = 0  # whoever changes the answer changes his own
    np.testing.assert_array_equal(
        early.average_precisions(None), average_precisions(scores[:21], labels[:21], None)
    )
    early.add(scores[21:], labels[21:])
    for k in (None, 20):
        np.testing.assert_array_equal(early.average_precisions(k), whole.average_precisions(k))


def test_a_metric_that_it_does_not_know_is_given_every_score(monkeypatch):
    monkeypatch.setattr(METRICS, "load", lambda name: lambda s, y, rated: float((s * y).sum()))
    scores, labels = np.array([[0.5, 0.25], [1.0, 0.0]]), np.array([[1, 1], [1, 0]])
    assert collected(["own"], scores, labels, size=1).result() == {"own": 1.75}
