"""How alike the rows of an item are: the cosine of each pair of steps, and how far likeness goes.

The rows are as the run's fusion meets them, behind its normalisation; all cells of a grid together
are one row. Of x (T, D), with c(k) the mean cosine of pairs k steps apart and c that of all pairs,

    half-life   the smallest k with c(k) - c <= (c(1) - c) / 2

how far apart half of what neighbours have in common beyond any two rows is gone; what each row has
of its own, noise say, does not count. In steps, and in seconds by the mean time between steps; NaN
where neighbours are no more alike than others, as in shuffled rows or those of a still.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from mmf.fuse.explain.maps.given import calls, each_item
from mmf.fuse.explain.maps.layers import Steps
from mmf.fuse.explain.subject import Subject
from mmf.fuse.layers.normalise import unit
from mmf.store import Item


@dataclass(frozen=True, kw_only=True, eq=False)
class Similar:
    """The T rows of one feature of one item."""

    item: Item
    feature: str
    steps: Steps
    cosine: Float[np.ndarray, "T T"]
    begins: float  # seconds of the video's first row

    @property
    def by_distance(self) -> Float[np.ndarray, " T"]:
        """c(k): the mean cosine of rows k steps apart, from 0."""
        return np.array([np.diagonal(self.cosine, k).mean() for k in range(len(self.steps))])

    @property
    def neighbours(self) -> float:
        """c(1); NaN for one row."""
        return float(np.diagonal(self.cosine, 1).mean()) if len(self.steps) > 1 else float("nan")

    @property
    def mean(self) -> float:
        """c, of all pairs of two rows; NaN for one row."""
        T = len(self.steps)
        pairs = self.cosine.sum() - np.trace(self.cosine)
        return float(pairs / (T * (T - 1))) if T > 1 else float("nan")

    @property
    def half_life(self) -> float:
        """In steps."""
        beyond = self.by_distance[1:] - self.mean
        if not len(beyond) or beyond[0] < 1e-9:
            return float("nan")
        return float((beyond <= beyond[0] / 2).argmax() + 1)  # some are: their mean is about 0

    @property
    def half_life_seconds(self) -> float:
        """The same in seconds."""
        times = self.steps.times
        return self.half_life * float(times[-1] - times[0]) / max(len(times) - 1, 1)


def cosines(x: Float[torch.Tensor, "T D"]) -> Float[torch.Tensor, "T T"]:
    """Of each pair of rows; that of a row of zeros with any is 0."""
    x = unit(x.double(), 1)
    return x @ x.T


def similarities(subject: Subject) -> Iterator[tuple[Similar, ...]]:
    """Of each feature of each item, in order; an item without a row is left out."""
    network = subject.network
    modules = dict(zip(network.features, network.normalise, strict=True))
    for given in each_item(subject):
        outputs, found = calls(subject, given, modules), []
        for name, times in given.times.items():
            words = subject.run.specs[name].dtype == "int32"  # else cells of a row stand together
            rows = len(times) if words else given.features[name].shape[1]
            if not rows:
                continue
            its = Steps(features=(name,) * rows, times=times[:: len(times) // rows])
            cosine = cosines(outputs[name][1][0].reshape(rows, -1)).cpu().numpy()
            found.append(
                Similar(
                    item=given.item, feature=name, steps=its, cosine=cosine, begins=given.begins
                )
            )
        yield tuple(found)
