"""Metrics: the source's own numbers, an independent slow form, and every edge."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import METRICS
from mmf.fuse.metrics import (
    accuracy,
    average_precisions,
    gap,
    hit_at_one,
    mean_average_precision,
    mean_class_accuracy,
    perr,
)


def slow_average_precision(pairs: list[tuple[float, bool]], positives: int) -> float:
    """The mean over all rankings that the scores allow, one permutation at a time."""
    values = []
    for order in itertools.permutations(pairs):
        if any(a[0] < b[0] for a, b in itertools.pairwise(order)):
            continue
        hits, total = 0, 0.0
        for rank, (_, hit) in enumerate(order, 1):
            hits += hit
            total += hit * hits / rank
        values.append(total / positives)
    return sum(values) / len(values)


def slow_best(row: np.ndarray, k: int) -> list[int]:
    return sorted(range(len(row)), key=lambda c: (-row[c], c))[:k]


@pytest.fixture
def fixture(shared_data: Path) -> dict[str, np.ndarray]:
    with np.load(shared_data / "yt8m" / "metric_fixture.npz") as file:
        return dict(file)


def test_nan_scores_are_refused():
    with pytest.raises(MmfError, match="1 of 2 scores are NaN"):
        gap(np.array([[math.nan, 0.1]]), np.array([[0, 1]]))


def test_fractional_labels_are_refused():
    with pytest.raises(MmfError, match="0 or 1"):
        gap(np.array([[0.2, 0.1]]), np.array([[0.5, 1]]))


def test_other_shapes_are_refused(no_shape_checks):
    with pytest.raises(MmfError, match=r"\(2, 2\), labels \(2, 3\)"):
        gap(np.zeros((2, 2)), np.zeros((2, 3)))


@pytest.mark.parametrize("metric", [gap, mean_average_precision])
def test_no_class_per_item_is_refused(metric):
    with pytest.raises(MmfError, match="k = 0"):
        metric(np.zeros((1, 2)), np.array([[0, 1]]), 0)


def test_accuracy_refuses_an_item_of_two_labels():
    with pytest.raises(MmfError, match="1 of 2 items have none or several"):
        accuracy(np.zeros((2, 2)), np.array([[0, 1], [1, 1]]))


def test_the_sources_own_numbers_come_out(fixture):
    scores, labels = fixture["predictions"], fixture["labels"]
    assert gap(scores, labels) == pytest.approx(float(fixture["gap20"]), abs=1e-9)
    assert mean_average_precision(scores, labels) == pytest.approx(
        float(fixture["map20"]), abs=1e-9
    )
    assert perr(scores, labels) == pytest.approx(float(fixture["perr"]), abs=1e-9)
    assert hit_at_one(scores, labels) == pytest.approx(float(fixture["hit1"]), abs=1e-9)
    used = ~np.isnan(average_precisions(scores, labels))
    assert used.sum() == fixture["map20_num_classes"]


def test_torch_and_numpy_and_half_precision_agree():
    scores = np.array([[0.5, 0.25, 0.125], [0.125, 0.5, 0.25]])
    labels = np.array([[1, 0, 1], [1, 0, 0]])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert gap(torch.tensor(scores, dtype=dtype), torch.from_numpy(labels)) == gap(
            scores, labels
        )


@pytest.mark.parametrize("seed", range(20))
def test_gap_is_the_mean_over_the_orders_of_equal_scores(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 3, (3, 4)) / 2
    labels = generator.random((3, 4)) < 0.5
    labels[0, 0] = True
    pairs = [(scores[i, c], bool(labels[i, c])) for i in range(3) for c in slow_best(scores[i], 2)]
    wanted = slow_average_precision(pairs, int(labels.sum()))
    assert gap(scores, labels, 2) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("k", [2, None])
@pytest.mark.parametrize("seed", range(10))
def test_map_is_the_mean_of_slow_average_precisions(seed, k):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 3, (5, 4)) / 2
    labels = generator.random((5, 4)) < 0.4
    labels[:, 3] = False  # no positive: left out
    labels[0, 0] = True
    kept = [slow_best(row, k or 4) for row in scores]
    values = []
    for c in range(4):
        if labels[:, c].any():
            pairs = [(scores[i, c], bool(labels[i, c])) for i in range(5) if c in kept[i]]
            values.append(slow_average_precision(pairs, int(labels[:, c].sum())) if pairs else 0.0)
    assert mean_average_precision(scores, labels, k) == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_perr_and_hit_are_their_slow_forms(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (6, 5)) / 3
    labels = generator.random((6, 5)) < 0.4
    shares, hits = [], []
    for s, y in zip(scores, labels, strict=True):
        best = slow_best(s, int(y.sum()))
        shares.append(sum(y[c] for c in best if s[c] > 0) / max(1, y.sum()))
        hits.append(y[np.argmax(s)])
    assert perr(scores, labels) == pytest.approx(np.mean(shares))
    assert hit_at_one(scores, labels) == pytest.approx(np.mean(hits))


def test_gap_without_a_positive_is_zero():
    assert gap(np.array([[0.9, 0.1]]), np.array([[0, 0]])) == 0
    assert gap(np.zeros((0, 3)), np.zeros((0, 3))) == 0


def test_a_perfect_model_scores_below_one_with_more_labels_than_k():
    labels = np.zeros((1, 40))
    labels[0, :30] = 1
    assert gap(np.linspace(1, 0.1, 40)[None], labels) == pytest.approx(20 / 30)


def test_map_without_a_positive_and_hit_of_nothing_are_nan():
    assert math.isnan(mean_average_precision(np.zeros((2, 3)), np.zeros((2, 3))))
    empty = np.zeros((0, 3))
    assert math.isnan(hit_at_one(empty, empty))
    assert math.isnan(perr(empty, empty))
    assert math.isnan(accuracy(empty, empty))
    assert math.isnan(mean_class_accuracy(empty, empty))


def test_a_class_with_positives_in_no_top_counts_zero_in_map():
    scores = np.array([[0.9, 0.1], [0.8, 0.1]])
    labels = np.array([[1, 0], [0, 1]])  # class 1 is never the best one
    assert mean_average_precision(scores, labels, 1) == pytest.approx((1.0 + 0) / 2)


def test_items_without_labels_count_zero_unless_skipped():
    scores, labels = np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[1, 0], [0, 0]])
    assert perr(scores, labels) == 0.5
    assert perr(scores, labels, skip_unlabelled=True) == 1
    assert hit_at_one(scores, labels) == 0.5


def test_perr_never_counts_a_score_of_zero_as_found():
    assert perr(np.array([[0.0, 0.0]]), np.array([[1, 1]])) == 0


def test_hit_at_one_takes_the_first_of_equal_scores():
    assert hit_at_one(np.array([[0.5, 0.5]]), np.array([[1, 0]])) == 1
    assert hit_at_one(np.array([[0.5, 0.5]]), np.array([[0, 1]])) == 0


def test_mean_class_accuracy_weighs_classes_and_not_items():
    scores = np.array([[0.9, 0.1]] * 4)
    labels = np.array([[1, 0]] * 3 + [[0, 1]])
    assert accuracy(scores, labels) == 0.75
    assert mean_class_accuracy(scores, labels) == 0.5


@pytest.mark.parametrize("name", METRICS)
def test_unrated_labels_count_in_no_metric(name):
    generator = np.random.default_rng(0)
    scores = generator.random((8, 4))
    labels = np.eye(4)[np.arange(8) % 4]
    # a fifth class that would win everywhere, of which nothing is known
    wide = np.concatenate([scores, np.ones((8, 1))], 1)
    rated = np.ones((8, 5), bool)
    rated[:, 4] = False
    metric = METRICS.load(name)
    for claimed in (0.0, 1.0):
        known = np.concatenate([labels, np.full((8, 1), claimed)], 1)
        assert metric(wide, known, rated=rated) == pytest.approx(metric(scores, labels))


def test_a_score_of_an_unrated_label_may_be_nan():
    scores, labels = np.array([[0.9, math.nan]]), np.array([[1, 0]])
    assert gap(scores, labels, rated=np.array([[True, False]])) == 1


def test_one_class_is_enough_for_gap():
    assert gap(np.array([[0.9], [0.1]]), np.array([[0], [1]])) == 0.5
