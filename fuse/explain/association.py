"""Whether two numbers of some runs go together: Spearman's rank correlation, and its chance.

``rho`` is Pearson's correlation of ranks, equal values sharing the mean of theirs. The p-value is
that of a permutation, two-sided: the share of orders of y whose ``|rho|`` is at least as large. All
n! orders are tried up to n = 8, and else `DRAWN` that are drawn, with the one that is there counted
among them. The orders are as likely as each other only if the runs are each other's equals, which
seeds of the same setting are not quite; with few runs no p can be small (n = 4: 1/12 at least).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_ALL, DRAWN = 8, 20_000
_FEWEST = 3  # pairs


@dataclass(frozen=True, kw_only=True)
class Association:
    """Of n pairs; NaN where n < 3 or either side is the same everywhere."""

    rho: float
    p: float
    n: int


def spearman(x: Sequence[float], y: Sequence[float]) -> Association:
    """The rank correlation of pairs; those of which either is NaN do not count."""
    pairs = np.array([x, y], dtype=np.float64).reshape(2, -1)
    pairs = pairs[:, ~np.isnan(pairs).any(0)]
    n, (a, b) = pairs.shape[1], (_centred_ranks(one) for one in pairs)
    scale = math.sqrt(float((a @ a) * (b @ b)))
    if n < _FEWEST or scale == 0:
        return Association(rho=float("nan"), p=float("nan"), n=n)
    rho = float(a @ b) / scale
    as_large = [abs(float(order @ a)) / scale >= abs(rho) - 1e-12 for order in _orders(b)]
    more = 0 if n <= _ALL else 1
    p = (sum(as_large) + more) / (len(as_large) + more)
    return Association(rho=rho, p=p, n=n)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rho alone; None of fewer than 3 pairs, or where either side does not vary."""
    a, b = _centred_ranks(x), _centred_ranks(y)
    scale = math.sqrt(float((a @ a) * (b @ b)))
    return float(a @ b) / scale if len(x) >= _FEWEST and scale else None


def _orders(b: np.ndarray) -> Iterator[np.ndarray]:
    if len(b) <= _ALL:
        return (b[list(order)] for order in itertools.permutations(range(len(b))))
    rng = np.random.default_rng(0)
    return (rng.permutation(b) for _ in range(DRAWN))


def _centred_ranks(x: np.ndarray) -> np.ndarray:
    """Around 0; equal values have the mean of theirs."""
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[which] - (len(x) + 1) / 2
