"""What a prediction owes to each modality, by Shapley's value: of any network, without a gradient.

    φ_m = sum over sets A without m of |A|! (M - 1 - |A|)! / M! · (v(A + m) - v(A))

Shapley 1953; of predictions, Štrumbelj and Kononenko 2010, Lundberg and Lee 2017, arXiv:1705.07874.
v(A) is the mean logit where the modalities outside of A are those of other items, K of them, the
same for every item. So each modality is one that there is, and none is replaced by a nothing that
the network has never met; that the two belong to different items is what is being asked. With M
modalities it is exact over all 2^M sets; the φ of an item sum to its logit less the mean of the
others'. The **share** of a modality is that of ``|φ|``.

Beside it stand ``alone``, v({m}) - v({}), and ``last``, v(all) - v(all but m). Where modalities add
up, both are φ; where a class needs two at once, alone is near 0 and last near all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmf import MmfError
from mmf.fuse.explain.met import Met, Usual, comparable, meet
from mmf.fuse.explain.subject import Subject
from mmf.store import Item

OTHERS = 8  # K
_MOST = 8  # modalities: 256 sets


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Of N items, for C classes and M modalities."""

    items: Sequence[Item]
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    values: Float[np.ndarray, "N C M"]  # φ, in logits
    alone: Float[np.ndarray, "N C M"]
    last: Float[np.ndarray, "N C M"]
    positive: Bool[np.ndarray, "N C"]

    def of(self, name: str) -> Float[np.ndarray, " M"] | None:
        """The shares over the items that are positive in a class; None where none is."""
        c = self.classes.index(name)
        sums = np.abs(self.values[self.positive[:, c], c]).sum(0)
        return sums / sums.sum() if sums.sum() > 0 else None

    def table(self) -> pa.Table:
        """A row per class and modality: share, and mean φ, alone and last of its positive items."""
        rows = []
        for c, name in enumerate(self.classes):
            its, share = self.positive[:, c], self.of(name)
            for m, modality in enumerate(self.modalities):
                rows.append(
                    {
                        "class": name,
                        "modality": modality,
                        "positives": int(its.sum()),
                        "share": None if share is None else float(share[m]),
                        "value": _mean(self.values[its, c, m]),
                        "alone": _mean(self.alone[its, c, m]),
                        "last": _mean(self.last[its, c, m]),
                    }
                )
        return pa.Table.from_pylist(rows, SCHEMA)


SCHEMA = pa.schema(
    [
        ("class", pa.string()),
        ("modality", pa.string()),
        ("positives", pa.int64()),  # items that the rest is about; without one it is null
        ("share", pa.float64()),  # of |φ|; sums to 1 over the modalities
        ("value", pa.float64()),  # φ, in logits
        ("alone", pa.float64()),  # what it adds where nothing else is the item's own
        ("last", pa.float64()),  # what it adds where everything else is
    ]
)


@torch.no_grad()
def shapley(subject: Subject, classes: Sequence[str], usual: Usual, others: int = OTHERS) -> Shares:
    """Of the subject's items; 2^M × `others` forward passes of each.

    The others are evenly spaced among the usual items. Raises MmfError for more than 8 modalities.
    """
    names = subject.network.features
    if len(names) > _MOST or others < 1:
        raise MmfError(
            f"{len(names)} modalities against {others} other items: expected at most {_MOST}, "
            "whose sets are all asked about, and at least 1."
        )
    asker = _Asker(subject, classes, usual, others)
    found = [(asker.values(met), met) for met in meet(subject)]
    if not found:
        raise MmfError(f"none of {len(subject.items)} items has a row of {', '.join(names)}.")
    v = {a: torch.cat([one[a] for one, _ in found]).double().cpu().numpy() for a in found[0][0]}
    everything, columns = frozenset(range(len(names))), asker.columns
    terms = [_of_modality(v, m, len(names)) for m in range(len(names))]
    alone = [v[frozenset({m})] - v[frozenset()] for m in everything]
    last = [v[everything] - v[everything - {m}] for m in everything]
    return Shares(
        items=[item for _, met in found for item in met.items],
        classes=tuple(classes),
        modalities=names,
        values=np.stack(terms, 2),
        alone=np.stack(alone, 2),
        last=np.stack(last, 2),
        positive=np.concatenate([met.positive[:, columns] for _, met in found]),
    )


def _of_modality(v: dict[frozenset[int], np.ndarray], m: int, modalities: int) -> np.ndarray:
    """φ_m (N, C)."""
    total = np.zeros_like(v[frozenset()])
    for a, value in v.items():
        if m not in a:
            weight = factorial(len(a)) * factorial(modalities - 1 - len(a)) / factorial(modalities)
            total += weight * (v[a | {m}] - value)
    return total


class _Asker:
    """v(A) of items, for every set A of modalities."""

    def __init__(self, subject: Subject, classes: Sequence[str], usual: Usual, others: int):
        self.network, self.loss = subject.network, subject.run.loss
        self.columns = [subject.run.classes.index(name) for name in classes]
        at = np.linspace(0, len(usual.items) - 1, min(others, len(usual.items))).astype(np.int64)
        self.others = [
            ([x[i : i + 1] for x in met.steps], [mask[i : i + 1] for mask in met.there])
            for met in meet(subject, usual.items.take(at)) for i in range(len(met))
        ]  # fmt: skip

    def values(self, met: Met) -> dict[frozenset[int], Tensor]:
        """Each v(A) (B, C)."""
        every = range(len(met.steps))
        sets = [frozenset(a) for n in every for a in combinations(every, n)]
        found = {a: self._mean(met, a) for a in sets}
        return found | {frozenset(every): met.logits[:, self.columns]}

    def _mean(self, met: Met, own: frozenset[int]) -> Tensor:
        total = torch.zeros_like(met.logits[:, self.columns])
        for theirs, have in self.others:
            steps = [x if m in own else theirs[m].expand(len(met), -1, -1)
                     for m, x in enumerate(met.steps)]  # fmt: skip
            there = [x if m in own else have[m].expand(len(met), -1)
                     for m, x in enumerate(met.there)]  # fmt: skip
            logits = self.network.of_steps(steps, there, met.videos)
            total += comparable(logits, self.loss)[:, self.columns]
        return total / len(self.others)


def _mean(values: Float[np.ndarray, " N"]) -> float | None:
    return float(values.mean()) if len(values) else None
