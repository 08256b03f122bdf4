"""The metrics of YouTube-8M and of classification, on scores (B, C) and 0/1 labels (B, C).

Formulas: google/youtube-8m ``eval_util.py``, ``average_precision_calculator.py`` and
``mean_average_precision_calculator.py`` (Abu-El-Haija et al. 2016, arXiv:1609.08675, section 5).
Two things differ on purpose. Ties: within an item the lower class index goes first; between items a
tied group counts as the average over all its orders (McSherry and Najork, ECIR 2008), so that no
value depends on the order of the items or on the size of a batch. Unrated labels, where ``rated``
is False, count nowhere: neither as a rank, nor as a positive, nor as a negative.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Shaped

from mmf import MmfError
from mmf.fuse.ranking import Array, average_precision, best_classes, parsed, shares_found

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
    s, y, r = parsed(scores, labels, rated)
    best = best_classes(s, r, k)
    return average_precision(s[best], y[best], int(y.sum()))


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
    return mean(per_class[~np.isnan(per_class)])


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
    s, y, r = parsed(scores, labels, rated)
    kept = r if k is None else best_classes(s, r, k)
    positives = y.sum(0)
    values = np.full(s.shape[1], math.nan)
    for c in np.flatnonzero(positives):
        rows = kept[:, c]
        values[c] = average_precision(s[rows, c], y[rows, c], int(positives[c]))
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
    s, y, r = parsed(scores, labels, rated)
    found = shares_found(s, y, r)
    return mean(found[y.any(1)] if skip_unlabelled else found)


def hit_at_one(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """The share of items whose best class is one of their labels; an item without labels counts 0.

    Items of which no class is rated are left out. NaN where no item is left.
    """
    s, y, r = parsed(scores, labels, rated)
    return mean((best_classes(s, r, 1) & y).any(1)[r.any(1)])


def accuracy(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """The share of items whose best class is their label. Every item has exactly one label."""
    right, _ = _right(scores, labels, rated)
    return mean(right)


def mean_class_accuracy(
    scores: Shaped[Array, "B C"],
    labels: Shaped[Array, "B C"],
    rated: Bool[Array, "B C"] | None = None,
) -> float:
    """The mean of the classes' own accuracies, over the classes that have an item."""
    right, label = _right(scores, labels, rated)
    return mean_of_classes(right, label)


def _right(scores: Array, labels: Array, rated: Array | None) -> tuple[np.ndarray, np.ndarray]:
    """Whether each item's best class is its label (B,), and the label (B,)."""
    s, y, r = parsed(scores, labels, rated)
    check_one_label(y.sum(1))
    return (best_classes(s, r, 1) & y).any(1), y.argmax(1)


def check_one_label(numbers: np.ndarray) -> None:
    """Raise MmfError unless every item has one label; `numbers` says how many each has."""
    if wrong := np.count_nonzero(numbers != 1):
        raise MmfError(
            f"accuracy needs exactly one label per item; {wrong} of {len(numbers)} items have none "
            "or several. Use gap, perr or hit_at_one."
        )


def mean(values: np.ndarray) -> float:
    """Their mean; NaN where there is none."""
    return float(values.mean()) if len(values) else math.nan


def mean_of_classes(right: np.ndarray, label: np.ndarray) -> float:
    """The mean over the classes of the share of items that are right; NaN where there is none."""
    _, number, items = np.unique(label, return_inverse=True, return_counts=True)
    return mean(np.bincount(number, right, len(items)) / items)
