"""Scores and labels collected batch by batch, and the metrics of all of them.

The metrics of YouTube-8M rest on each item's best classes and on numbers per item, so that is what
is kept: about 170 bytes an item, whatever the number of classes. Ranking every item for every class
(`map`) needs every score; they are kept as long as there are not too many.
"""

import logging
import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mmf import MmfError
from mmf.fuse import METRICS
from mmf.fuse.metrics import check_one_label, mean, mean_of_classes
from mmf.fuse.ranking import Array, average_precision, best_classes, parsed, shares_found

logger = logging.getLogger(__name__)

K = 20  # best classes of an item that are kept
MOST_SCORES = 250_000_000  # items × classes; 1.5 GB, and three times that for a moment


class Accumulator:
    """Collects scores and labels; the metrics are exact whatever the batches were.

    `names` are the metrics wanted. Some need every score: where these become more than
    `most_scores`, they are dropped with a warning, and what needs them is left out of the result.
    """

    def __init__(self, names: Iterable[str], *, most_scores: int | None = None):
        self.names = tuple(names)
        most = MOST_SCORES if most_scores is None else most_scores
        self._most = most if any(n not in _FROM_BEST for n in self.names) else 0
        self._items: list[tuple[np.ndarray, ...]] = []
        self._best: list[tuple[np.ndarray, ...]] = []
        self._all: list[tuple[np.ndarray, ...]] = []
        self._scores = 0
        self._precisions: dict[int | None, np.ndarray] = {}  # of all that is there, by k
        self.positives: Int[np.ndarray, " C"] = np.zeros(0, np.int64)

    def add(
        self,
        scores: Shaped[Array, "B C"],
        labels: Shaped[Array, "B C"],
        rated: Bool[Array, "B C"] | None = None,
    ) -> None:
        """One more batch."""
        s, y, r = parsed(scores, labels, rated)
        self._precisions.clear()
        self.positives = np.count_nonzero(y, axis=0) + (self.positives if self._items else 0)
        right, rated_any = (best_classes(s, r, 1) & y).any(1), np.asarray(r.any(1))
        numbers = np.asarray(np.count_nonzero(y, axis=1))
        self._items.append((shares_found(s, y, r), right, rated_any, numbers, y.argmax(1)))
        best = best_classes(s, r, K)
        classes = np.nonzero(best)[1].astype(np.uint16 if s.shape[1] <= 65536 else np.int32)
        self._best.append((s[best], y[best], classes))
        self._scores += s.size
        if self._scores <= self._most:
            self._all.append((s, y, r))
        elif self._all:
            self._all.clear()

    @property
    def is_whole(self) -> bool:
        """Whether every score is there, and not only those of each item's best classes."""
        return bool(self._all)

    @property
    def has_one_label_each(self) -> bool:
        """Whether every item has exactly one label."""
        return all(bool((part[3] == 1).all()) for part in self._items)

    def result(self) -> dict[str, float]:
        """The metrics of all that was added."""
        if not self._items:
            raise MmfError("there is nothing to measure: no item was added.")
        kept = [n for n in self.names if n in _FROM_BEST or self.is_whole]
        if lost := [n for n in self.names if n not in kept]:
            logger.warning(
                "%s needs all %d scores at once and %d are the most that are kept, so it is left "
                "out; map@20 ranks each item for its 20 best classes",
                *(", ".join(lost), self._scores, self._most),
            )
        return {name: self._metric(name) for name in kept}

    def average_precisions(self, k: int | None) -> Float[np.ndarray, " C"]:
        """AP of each class, NaN without a positive; among the items that have it in their 20 best.

        With k None, among all items; NaN for every class where not every score was kept.
        """
        if k not in self._precisions:
            self._precisions[k] = self._averaged(k)
        return self._precisions[k].copy()

    def _averaged(self, k: int | None) -> Float[np.ndarray, " C"]:
        values = np.full(len(self.positives), math.nan)
        if k is None and not self.is_whole:
            return values
        for c, scores, hits in self._rankings(whole=k is None):
            if self.positives[c]:
                values[c] = average_precision(scores, hits, int(self.positives[c]))
        return values

    def rankings(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(class, scores, hits) of every class, over all that is kept."""
        return self._rankings(whole=self.is_whole)

    def _rankings(self, *, whole: bool) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        if whole:
            s, y, r = _joined(self._all)
            for c in range(s.shape[1]):
                rows = r[:, c]
                yield c, s[rows, c], y[rows, c]
            return
        scores, hits, classes = _joined(self._best)
        order = np.argsort(classes, kind="stable")
        ends = np.cumsum(np.bincount(classes, minlength=len(self.positives)))
        for c, end in enumerate(ends):
            of_class = order[ends[c - 1] if c else 0 : end]
            yield c, scores[of_class], hits[of_class]

    def _metric(self, name: str) -> float:
        shares, right, rated, numbers, labels = _joined(self._items)
        if name == "gap@20":
            scores, hits, _ = _joined(self._best)
            return average_precision(scores, hits, int(self.positives.sum()))
        if name in ("map@20", "map"):
            per_class = self.average_precisions(K if name == "map@20" else None)
            return mean(per_class[~np.isnan(per_class)])
        if name == "perr":
            return mean(shares)
        if name == "hit@1":
            return mean(right[rated])
        if name in ("accuracy", "mean_class_accuracy"):
            check_one_label(numbers)
            return mean(right) if name == "accuracy" else mean_of_classes(right, labels)
        s, y, r = _joined(self._all)
        return float(METRICS.load(name)(s, y, rated=r))


_FROM_BEST = ("gap@20", "map@20", "perr", "hit@1", "accuracy", "mean_class_accuracy")


def _joined(parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """The columns of all parts, which become one part, so that it is done once."""
    if len(parts) > 1:
        parts[:] = [tuple(np.concatenate(column) for column in zip(*parts, strict=True))]
    return list(parts[0])
