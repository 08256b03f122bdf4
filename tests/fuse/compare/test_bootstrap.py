"""The paired bootstrap: against SciPy, a closed form, and the metric of each resample itself."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from mmf import MmfError
from mmf.fuse.compare.bootstrap import Mean, PooledPrecision, paired_interval
from mmf.fuse.metrics import gap


def of_gap(scores: np.ndarray, labels: np.ndarray, k: int) -> PooledPrecision:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(labels, best, 1) > 0
    return PooledPrecision(np.take_along_axis(scores, best, 1), hits, (labels > 0).sum(1))


def test_what_cannot_be_paired_is_refused():
    one, videos = Mean(np.ones(3)), np.arange(3)
    with pytest.raises(MmfError, match="1 and 2 seeds"):
        paired_interval([one], [one, one], videos)
    with pytest.raises(MmfError, match="0 items"):
        paired_interval([one], [one], np.arange(0))


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("digits", [1, 9])  # with one digit, most scores are equal to others
def test_gap_by_counts_is_gap_of_the_repeated_items(k, digits):
    random = np.random.default_rng(k)
    scores = random.random((40, 7)).round(digits)
    labels = (random.random((40, 7)) < 0.3).astype(float)
    statistic = of_gap(scores, labels, k)
    for _ in range(5):
        counts = random.multinomial(40, np.full(40, 1 / 40))
        rows = np.repeat(np.arange(40), counts)
        assert statistic.value(counts * 1.0) == pytest.approx(
            gap(scores[rows], labels[rows], k), abs=1e-12
        )
    assert of_gap(scores, labels * 0, k).value(np.ones(40)) == 0


def test_the_interval_of_a_mean_is_scipys_and_that_of_the_normal_distribution():
    random = np.random.default_rng(0)
    ours, theirs = random.random(500) < 0.7, random.random(500) < 0.6
    found = paired_interval(
        [Mean(ours * 1.0)], [Mean(theirs * 1.0)], np.arange(500), resamples=4000
    )
    each = ours * 1.0 - theirs
    assert found.difference == pytest.approx(each.mean())
    half = 1.96 * each.std() / 500**0.5
    assert (found.low, found.high) == pytest.approx(
        (each.mean() - half, each.mean() + half), abs=0.004
    )
    scipys = bootstrap(
        (ours * 1.0, theirs * 1.0),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=0.004)


def test_rows_that_agree_on_every_item_differ_by_nothing_whatever_is_drawn():
    each = np.arange(20.0)
    found = paired_interval([Mean(each + 1)] * 2, [Mean(each)] * 2, np.arange(20), resamples=50)
    assert (found.difference, found.low, found.high) == pytest.approx((1, 1, 1))


def test_seeds_are_paired_in_order_and_averaged():
    random = np.random.default_rng(3)
    a, b, c, d = (random.random(30) for _ in range(4))
    both = paired_interval([Mean(a), Mean(b)], [Mean(c), Mean(d)], np.arange(30), resamples=200)
    mean = paired_interval([Mean((a + b) / 2)], [Mean((c + d) / 2)], np.arange(30), resamples=200)
    assert (both.difference, both.low) == pytest.approx((mean.difference, mean.low))


def test_items_of_one_video_are_drawn_together():
    random = np.random.default_rng(4)
    each = np.repeat(random.random(25), 40)  # 1,000 items that are 25 independent ones
    videos = np.repeat(np.arange(25), 40)
    zero = Mean(np.zeros(1000))
    wide = paired_interval([Mean(each)], [zero], videos, resamples=500)
    narrow = paired_interval([Mean(each)], [zero], np.arange(1000), resamples=500)
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)
    assert wide.high - wide.low == pytest.approx(3.92 * each.std() / 5, rel=0.2)
