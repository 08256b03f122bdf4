"""The paired bootstrap: how sure a difference between two rows is, as far as test items go.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16, percentiles. A
resample draws as many test videos as there are, with replacement, each with all of its items (items
of one video are not independent). Both rows are measured on the same resample, seed by seed; its
difference is the mean over the seeds of (ours - theirs). So the interval is of the runs that were
trained: what other seeds would give is shown by the deviation beside the mean, not by this.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mmf import MmfError

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference, and where 95 % of its resamples lie."""

    difference: float
    low: float
    high: float


class Statistic(ABC):
    """A metric as a function of how often each item counts."""

    @abstractmethod
    def value(self, counts: Float[np.ndarray, " B"]) -> float:
        """The metric of a multiset of the items, given as counts."""


class Mean(Statistic):
    """The mean of a number of each item, e.g. accuracy of whether it is right."""

    def __init__(self, each: Float[np.ndarray, " B"]):
        self._each = each

    def value(self, counts: Float[np.ndarray, " B"]) -> float:
        """``sum c x / sum c``."""
        return float(counts @ self._each / counts.sum())


class PooledPrecision(Statistic):
    """GAP: the average precision of all items' best scores in one ranking, as `metrics.gap`.

    The ranking is sorted once. An item that counts c times stands in it c times: a group of n equal
    scores with p hits, behind R others with H hits, adds, on average over the group's orders,

        p/n · sum_{i<n} (H + 1 + i (p-1)/(n-1)) / (R + 1 + i)

    and both sums over i follow from harmonic numbers.
    """

    def __init__(
        self,
        scores: Float[np.ndarray, "B K"],
        hits: Bool[np.ndarray, "B K"],
        positives: Int[np.ndarray, " B"],
    ):
        order = np.argsort(-scores, axis=None, kind="stable")
        ranked = scores.ravel()[order]
        self._item = np.repeat(np.arange(len(scores)), scores.shape[1])[order]
        self._hit = hits.ravel()[order]
        self._starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        self._positives = positives
        self._harmonic = np.zeros(1)

    def value(self, counts: Float[np.ndarray, " B"]) -> float:
        """GAP of the multiset; 0 where it has no positive."""
        total = counts @ self._positives
        if not total:
            return 0.0
        each = counts[self._item]
        n = np.add.reduceat(each, self._starts)
        p = np.add.reduceat(each * self._hit, self._starts)
        there = p > 0
        ranks, found = (np.cumsum(n) - n)[there], (np.cumsum(p) - p)[there]
        n, p = n[there], p[there]
        h = self._harmonics(int(n.sum() + ranks.max(initial=0)) + 1)
        inverse = h[(ranks + n).astype(int)] - h[ranks.astype(int)]  # sum of 1 / (R + 1 + i)
        slope = (p - 1) / np.maximum(n - 1, 1)
        sums = (found + 1) * inverse + slope * (n - (ranks + 1) * inverse)
        return float((p / n * sums).sum() / total)

    def _harmonics(self, most: int) -> np.ndarray:
        """H_0 … H_most."""
        if len(self._harmonic) <= most:
            self._harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, most + 1))])
        return self._harmonic


def paired_interval(
    ours: Sequence[Statistic],
    theirs: Sequence[Statistic],
    videos: Int[np.ndarray, " B"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The difference of two rows, a statistic for each seed, and its 95 % interval.

    `videos` numbers the video of each item, from 0 without a gap.
    """
    if len(ours) != len(theirs) or not ours or not len(videos) or resamples < 1:
        raise MmfError(
            f"{len(ours)} and {len(theirs)} seeds, {len(videos)} items, {resamples} resamples: "
            "expected as many seeds of either row, and at least 1 of each."
        )

    def difference(counts: np.ndarray) -> float:
        pairs = zip(ours, theirs, strict=True)
        return float(np.mean([a.value(counts) - b.value(counts) for a, b in pairs]))

    number = int(videos.max()) + 1
    random = np.random.default_rng(seed)
    drawn = [
        difference(
            np.bincount(random.integers(number, size=number), minlength=number)[videos] * 1.0
        )
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(difference=difference(np.ones(len(videos))), low=float(low), high=float(high))
