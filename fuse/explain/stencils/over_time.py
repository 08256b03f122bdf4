"""What each step of an item contributes to the score of a class, with its seconds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mmf.fuse.explain.met import Met, meet
from mmf.fuse.explain.segment_times import row_edges
from mmf.fuse.explain.stencils.scores import Said
from mmf.fuse.explain.subject import Subject
from mmf.store import Item
from mmf.store.items import Items


@dataclass(frozen=True, kw_only=True, eq=False)
class OverTime:
    """Of one item and one class, by the stencil that speaks for the class; M modalities."""

    item: Item
    name: str  # of the class
    modalities: tuple[str, ...]
    contributions: Sequence[Float[np.ndarray, " _"]]  # M × (T,); none where the item lacks it
    edges: Sequence[Float[np.ndarray, " _"]]  # M × (T + 1,), seconds: when each begins and ends
    begins: float  # the first row of the video itself, seconds
    logit: float
    positive: bool  # it is a label of the item

    @property
    def shares(self) -> Float[np.ndarray, " M"]:
        """Of each modality in the sum of |contributions|; zeros where all of them are."""
        sums = np.array([np.abs(x).sum() for x in self.contributions])
        return sums / max(sums.sum(), 1e-30)

    @property
    def span(self) -> tuple[float, float]:
        """From its first second to its last."""
        there = [x for x in self.edges if len(x) > 1]
        return min(float(x[0]) for x in there), max(float(x[-1]) for x in there)

    def times(self, n: int) -> list[float]:
        """The middles of n equal parts of its span."""
        start, end = self.span
        return (start + (end - start) * (np.arange(n) + 0.5) / n).tolist()


def over_time(subject: Subject, said: Sequence[Said], most: int) -> Iterator[OverTime]:
    """Of the first items, each to the class of these that it is most given to."""
    numbers = [subject.run.classes.index(one.stencils.name) for one in said]
    left = most
    for met in meet(subject) if most else ():
        edges, begins = _edges(subject, met)
        for i in range(min(left, len(met))):
            c = int(met.logits[i, numbers].argmax())
            one = said[c]
            parts = one.stencils.contributions(met.item(i))
            yield OverTime(
                item=met.items[i],
                name=one.stencils.name,
                modalities=one.stencils.modalities,
                contributions=[x[one.best].cpu().numpy() for x in parts],
                edges=edges[i],
                begins=begins[i],
                logit=float(met.logits[i, numbers[c]]),
                positive=bool(met.positive[i, numbers[c]]),
            )
        left -= len(met)
        if left <= 0:
            return


def _edges(subject: Subject, met: Met) -> tuple[list[list[np.ndarray]], list[float]]:
    """The seconds of each item's steps, by modality, and when its video begins.

    The cells of a row have its time in equal parts, and so have sub-words that of all their rows:
    which of them belong to which row is not known here.
    """
    store, items = subject.store, Items.of(met.items)
    found: list[list[np.ndarray]] = [[] for _ in met.items]
    begins = [np.inf] * len(found)
    for name, mask in zip(subject.network.features, met.there, strict=True):
        steps = mask.sum(1).tolist()
        if name not in store.features:
            for its in found:
                its.append(np.zeros(1))
            continue
        feature = store.stored(name)
        spans = feature.spans(items, feature.positions(items.video_ids)).tolist()
        for i, (its, span, n) in enumerate(zip(found, spans, steps, strict=True)):
            rows = min(span[2], subject.run.config.max_steps)
            if not n:
                its.append(np.zeros(1))
                continue
            begins[i] = min(begins[i], float(feature.times(span[0])[0]))
            edges = row_edges(feature, span, rows)
            its.append(np.interp(np.arange(n + 1) / n * rows, np.arange(rows + 1), edges))
    return found, begins
