"""The metrics of YouTube-8M and of classification, on scores (B, C) and 0/1 labels (B, C).

Formulas: google/youtube-8m ``eval_util.py``, ``average_precision_calculator.py`` and
``mean_average_precision_calculator.py`` (Abu-El-Haija et al. 2016, arXiv:1609.08675, section 5).
Two things differ on purpose. Ties: within an item the lower class index goes first; between items a
tied group counts as the average over all its orders (McSherry and Najork, ECIR 2008), so that no
value depends on the order of the items or on the size of a batch. Unrated labels, where ``rated``
is False, count nowhere: neither as a rank, nor as a positive, nor as a negative.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped

from mmf import MmfError
from mmf.fuse import METRICS

Array = np.ndarray | torch.Tensor

SINGLE_LABEL = ("accuracy", "mean_class_accuracy")  # defined where an item has exactly one label


def gap(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    k: int = 20,
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """Global average precision: the AP of all items' k best classes in one pooled ranking.

    ``(1/R) sum_r y_r (y_1 + … + y_r) / r`` over the pooled pairs; R counts all positives, also
    those outside an item's k best, so a perfect model scores below 1 where an item has more than
    k labels. 0 where there is no positive.
    """
    s, y, r = _parse(scores, labels, rated)
    best = _best(s, r, k)
    return _average_precision(s[best], y[best], int(y.sum()))


def mean_average_precision(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    k: int | None = 20,
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """The mean of the classes' average precisions over the classes that have a positive.

    With k, as YouTube-8M computes it, a class is ranked only among the items that have it in their
    k best: a lower bound of the full one, which is ``k=None``. NaN where no class has a positive.
    """
    per_class = average_precisions(scores, labels, k, rated)
    used = ~np.isnan(per_class)
    return float(per_class[used].mean()) if used.any() else math.nan


def mean_average_precision_full(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """`mean_average_precision` with every item ranked for every class."""
    return mean_average_precision(scores, labels, None, rated)


def average_precisions(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    k: int | None = 20,
    rated: Bool[Array, "B C"] | None = None,
) -> Float[np.ndarray, " C"]:
    """Average precision of each class; NaN for a class without a positive."""
    s, y, r = _parse(scores, labels, rated)
    kept = r if k is None else _best(s, r, k)
    positives = y.sum(0)
    values = np.full(s.shape[1], math.nan)
    for c in np.flatnonzero(positives):
        rows = kept[:, c]
        values[c] = _average_precision(s[rows, c], y[rows, c], int(positives[c]))
    return values


def perr(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
    skip_unlabelled: bool = False,
) -> float:
    """Precision at equal recall rate: of an item's n best classes, the share that is right.

    n is the item's own number of positives; a class with a score of 0 or less is never counted as
    found, so scores are probabilities. An item without positives counts 0, as in the source,
    unless `skip_unlabelled`. NaN where no item is left.
    """
    s, y, r = _parse(scores, labels, rated)
    numbers = y.sum(1)
    found = np.zeros(len(s))
    for n in np.unique(numbers[numbers > 0]):
        rows = numbers == n
        best = _best(s[rows], r[rows], int(n))
        found[rows] = (best & y[rows] & (s[rows] > 0)).sum(1) / n
    if skip_unlabelled:
        found = found[numbers > 0]
    return float(found.mean()) if len(found) else math.nan


def hit_at_one(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """The share of items whose best class is one of their labels; an item without labels counts 0.

    Items of which no class is rated are left out. NaN where no item is left.
    """
    s, y, r = _parse(scores, labels, rated)
    s, y, r = s[r.any(1)], y[r.any(1)], r[r.any(1)]
    if not len(s):
        return math.nan
    return float((_best(s, r, 1) & y).any(1).mean())


def accuracy(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """The share of items whose best class is their label. Every item has exactly one label."""
    right, _ = _right(scores, labels, rated)
    return float(right.mean()) if len(right) else math.nan


def mean_class_accuracy(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """The mean of the classes' own accuracies, over the classes that have an item."""
    right, label = _right(scores, labels, rated)
    if not len(right):
        return math.nan
    return float(np.mean([right[label == c].mean() for c in np.unique(label)]))


class Accumulator:
    """Collects scores and labels batch by batch; the metrics are exact whatever the batches were.

    It keeps everything: 6 bytes per item and class, 26 GB for 1.1 million items of 3,862 classes,
    and the metrics want about three times that for a moment.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(
        self,
        scores: Shaped[Array, "B C"],
        labels: Shaped[Array, "B C"],
        rated: Bool[Array, "B C"] | None = None,
    ) -> None:
        """One more batch."""
        self._parts.append(_parse(scores, labels, rated))

    def result(self, names: Iterable[str]) -> dict[str, float]:
        """The named metrics of all that was added."""
        if not self._parts:
            raise MmfError("there is nothing to measure: no item was added.")
        s, y, r = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return {name: METRICS.load(name)(s, y, rated=r) for name in names}


def _parse(
    scores: Array, labels: Array, rated: Array | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and rated as NumPy arrays, float, bool and bool; unrated is no label."""
    s, y = _numpy(scores), _numpy(labels)
    r = np.ones(s.shape, bool) if rated is None else _numpy(rated).astype(bool)
    if s.ndim != 2 or s.shape != y.shape or s.shape != r.shape:
        raise MmfError(
            f"scores {s.shape}, labels {y.shape} and rated {r.shape}: expected (B, C) for each."
        )
    if np.isnan(s[r]).any():
        raise MmfError(f"{int(np.isnan(s[r]).sum())} of {s.size} scores are NaN; nothing to rank.")
    if not np.isin(y[r], (0, 1)).all():
        raise MmfError("labels must be 0 or 1; mark what is not known as unrated instead.")
    if s.dtype.kind != "f":
        s = s.astype(np.float64)
    return s, (y == 1) & r, r


def _numpy(values: Array) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)


def _best(s: np.ndarray, rated: np.ndarray, k: int) -> np.ndarray:
    """Mask (B, C) of each item's k highest rated scores; ties go to the lower class."""
    if k < 1:
        raise MmfError(f"k = {k}: expected at least 1 class per item.")
    s = np.where(rated, s, -math.inf)
    if k >= s.shape[1] or not s.size:
        return rated
    kth = np.partition(s, s.shape[1] - k, axis=1)[:, s.shape[1] - k, None]
    above, equal = s > kth, s == kth
    room = k - above.sum(1, keepdims=True)
    return (above | (equal & (equal.cumsum(1) <= room))) & rated


def _average_precision(scores: np.ndarray, hits: np.ndarray, positives: int) -> float:
    """AP of one ranking, averaged over the orders of equal scores; `positives` divides.

    In a tied group of n with p hits, after s hits, the i-th place (from 0) holds a hit with
    probability p/n and then has on average s + 1 + i (p-1)/(n-1) hits up to and with itself.
    """
    if not positives or not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    n = np.diff(np.concatenate([starts, [len(scores)]]))
    p = np.add.reduceat(hits.astype(np.int64), starts)
    before = np.cumsum(p) - p
    rank = np.arange(1, len(scores) + 1)
    place = rank - 1 - np.repeat(starts, n)
    hits_so_far = np.repeat(before, n) + 1 + place * np.repeat((p - 1) / np.maximum(n - 1, 1), n)
    return float((np.repeat(p / n, n) * hits_so_far / rank).sum() / positives)


def _right(scores: Array, labels: Array, rated: Array | None) -> tuple[np.ndarray, np.ndarray]:
    """Whether each item's best class is its label (B,), and the label (B,)."""
    s, y, r = _parse(scores, labels, rated)
    wrong = int((y.sum(1) != 1).sum())
    if wrong:
        raise MmfError(
            f"accuracy needs exactly one label per item; {wrong} of {len(y)} items have none or "
            "several. Use gap, perr or hit_at_one."
        )
    return (_best(s, r, 1) & y).any(1), y.argmax(1)
