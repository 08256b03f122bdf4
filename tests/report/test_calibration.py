"""The calibration error against a form of its own, and against numbers done by hand."""

import itertools

import numpy as np
import pytest

from mmf import MmfError
from mmf.report.calibration import BINS, Calibration


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(MmfError, match=r"scores from -0\.5 to 2: expected probabilities, 0 to 1"):
        Calibration().add(np.array([-0.5, 2.0]), np.array([True, False]))


def test_without_a_score_there_is_no_error():
    assert np.isnan(Calibration().error)


def test_the_error_is_the_one_done_by_hand():
    one = Calibration()
    one.add(np.array([0.95, 0.95, 0.95, 0.95]), np.array([True, True, True, False]))
    one.add(np.array([0.1, 1.0]), np.array([False, True]))
    # bin of 0.95 and 1: 5 scores, mean 0.96, right 0.8; bin of 0.1: one, right 0
    assert one.error == pytest.approx(5 / 6 * (0.96 - 0.8) + 1 / 6 * 0.1)


def test_the_error_is_that_of_a_loop_over_bins_whatever_the_batches():
    random = np.random.default_rng(0)
    scores = np.concatenate([random.random(500), np.arange(BINS + 1) / BINS])
    right = random.random(len(scores)) < scores**2
    one = Calibration()
    for at in np.array_split(np.arange(len(scores)), 7):
        one.add(scores[at], right[at])
    expected = 0.0
    edges = [k / BINS for k in range(BINS)] + [1.1]
    for low, high in itertools.pairwise(edges):
        inside = [i for i, s in enumerate(scores) if low <= s < high]
        if inside:
            gap = np.mean([right[i] for i in inside]) - np.mean([scores[i] for i in inside])
            expected += len(inside) / len(scores) * abs(gap)
    assert one.error == pytest.approx(expected, abs=1e-3)
    assert one.count.sum() == len(scores)


def test_an_item_counts_by_its_best_rated_class():
    scores = np.array([[0.9, 0.6], [0.2, 0.8], [0.5, 0.4]])
    labels = np.array([[False, True], [False, True], [True, False]])
    rated = np.array([[False, True], [True, True], [False, False]])
    one = Calibration()
    one.add_best(scores, labels, rated)
    assert one.count.sum() == 2
    assert one.right.sum() == 2
    assert one.said.sum() == pytest.approx(0.6 + 0.8)
