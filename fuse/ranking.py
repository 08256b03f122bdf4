"""Scores in order: what is checked before they are ranked, an item's best, and one ranking's AP.

Parsed arrays are scores ``s`` (B, C) float, labels ``y`` (B, C) bool and ``r`` (B, C) bool, True
where a class is rated; y is False where r is.
"""

import math

import numpy as np
import torch

from mmf import MmfError

Array = np.ndarray | torch.Tensor


def parsed(
    scores: Array, labels: Array, rated: Array | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and rated as NumPy arrays, float, bool and bool; unrated is no label."""
    s, y = _numpy(scores), _numpy(labels)
    r = np.ones(s.shape, bool) if rated is None else _numpy(rated).astype(bool, copy=False)
    if s.ndim != 2 or s.shape != y.shape or s.shape != r.shape:
        raise MmfError(
            f"scores {s.shape}, labels {y.shape} and rated {r.shape}: expected (B, C) for each."
        )
    positive = y if y.dtype == bool else y == 1
    if not (positive | (y == 0) | ~r).all():
        raise MmfError("labels must be 0 or 1; mark what is not known as unrated instead.")
    if s.dtype.kind != "f":
        s = s.astype(np.float64)
    if nan := np.count_nonzero(np.isnan(s) & r):
        raise MmfError(f"{nan} of {s.size} scores are NaN; nothing to rank.")
    return s, positive & r, r


def _numpy(values: Array) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)


def best_classes(s: np.ndarray, rated: np.ndarray, k: int) -> np.ndarray:
    """Mask (B, C) of each item's k highest rated scores; ties go to the lower class."""
    if k < 1:
        raise MmfError(f"k = {k}: expected at least 1 class per item.")
    if k >= s.shape[1] or not s.size:
        return rated
    s = np.where(rated, s, -math.inf)
    if k == 1:
        found = np.zeros(s.shape, bool)
        found[np.arange(len(s)), s.argmax(1)] = True
        return found & rated
    kth = np.partition(s, s.shape[1] - k, axis=1)[:, s.shape[1] - k, None]
    found = s >= kth
    for i in np.flatnonzero(np.count_nonzero(found, axis=1) > k):  # of scores equal to the kth
        equal = np.flatnonzero(s[i] == kth[i])
        found[i, equal[k - np.count_nonzero(s[i] > kth[i]) :]] = False
    return found & rated


def shares_found(s: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """For each item, the share of its n labels among its n best classes (B,); 0 without a label.

    A class with a score of 0 or less is never found.
    """
    numbers, shares = np.count_nonzero(y, axis=1), np.zeros(len(s))
    for n in np.unique(numbers[numbers > 0]):
        rows = np.flatnonzero(numbers == n)
        best = best_classes(s[rows], r[rows], int(n))
        shares[rows] = np.count_nonzero(best & y[rows] & (s[rows] > 0), axis=1) / n
    return shares


def average_precision(scores: np.ndarray, hits: np.ndarray, positives: int) -> float:
    """AP of one ranking, averaged over the orders of equal scores; `positives` divides.

    In a tied group of n with p hits, after s hits, the i-th place (from 0) holds a hit with
    probability p/n and then has on average s + 1 + i (p-1)/(n-1) hits up to and with itself.
    """
    if not positives or not len(scores):
        return 0.0
    ends, p = tied(scores, hits)
    n, before = np.diff(ends, prepend=0), np.cumsum(p) - p
    some = p > 0  # the others add nothing, and are by far the most
    starts, n, p, before = (ends - n)[some], n[some], p[some], before[some]
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    rank = np.repeat(starts, n) + place + 1
    hits_so_far = np.repeat(before, n) + 1 + place * np.repeat((p - 1) / np.maximum(n - 1, 1), n)
    return float((np.repeat(p / n, n) * hits_so_far / rank).sum() / positives)


def tied(scores: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The groups of equal scores, best first: the rank at which each ends, and its hits."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    p = np.add.reduceat(hits[order], starts, dtype=np.int64)
    return np.append(starts[1:], len(scores)), p
