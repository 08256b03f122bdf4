"""Whether probabilities mean what they say: a reliability diagram and its calibration error.

Scores are put into K even bins, ``[k/K, (k+1)/K)``, the last closed. Of each bin, the mean score is
held against the share that is right, and over N scores

    ECE = sum_k n_k / N |share right in k - mean score in k|

(Naeini et al., AAAI 2015; Guo et al., ICML 2017, arXiv:1706.04599, equation 3; their bins are
closed above, these below). Of a run with one label per item a score is that of the best rated class
of the item, which is right or wrong. Of a run with several, every rated pair of item and class is a
score, right where the class is a label; most of these are near 0 and right to be, so the error is
small by itself and the diagram says more.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Shaped

from mmf import MmfError

BINS = 15


@dataclass(kw_only=True)
class Calibration:
    """Sums over scores in bins, collected batch by batch."""

    count: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(BINS))
    said: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(BINS))  # sum of scores
    right: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, scores: Shaped[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> None:
        """More scores in 0…1, and whether each is right."""
        if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
            raise MmfError(
                f"scores from {scores.min():g} to {scores.max():g}: expected probabilities, 0 to 1."
            )
        bins = len(self.count)
        at = np.minimum((scores * bins).astype(np.int64), bins - 1)
        self.count += np.bincount(at, minlength=bins)
        self.said += np.bincount(at, scores, bins)
        self.right += np.bincount(at, right, bins)

    def add_best(
        self,
        scores: Shaped[np.ndarray, "B C"],
        labels: Bool[np.ndarray, "B C"],
        rated: Bool[np.ndarray, "B C"],
    ) -> None:
        """The best rated class of each item."""
        some = rated.any(1)
        best = np.where(rated, scores, -1.0)[some].argmax(1)
        rows = np.arange(len(best))
        self.add(scores[some][rows, best], labels[some][rows, best])

    @property
    def error(self) -> float:
        """ECE; NaN where there is no score."""
        total = self.count.sum()
        return float(np.abs(self.right - self.said).sum() / total) if total else float("nan")

    @property
    def mean_score(self) -> Float[np.ndarray, " K"]:
        """Of each bin; NaN in an empty one."""
        return _divided(self.said, self.count)

    @property
    def share_right(self) -> Float[np.ndarray, " K"]:
        """Of each bin; NaN in an empty one."""
        return _divided(self.right, self.count)


def _divided(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
