"""What stencils say of items: how well their scores rank them, and what each modality contributes.

The **share** of a modality is that of its steps in ``sum_t |<S_t, X_t - X̄>|``, over the items that
are positive in the class. (Number by number it would grow with how many numbers a row has, whatever
they say.) The cluster that speaks for a class is the one whose scores rank the usual items best
(`met.usual`: of validation); its **fidelity** is then told of the items that are asked about:
Spearman's correlation of ``<S, X - X̄>`` with the logit.

Of a linear network these shares are those of its weights. Of others they are not what a prediction
owes to a modality: where more of one changes little, as behind the LayerNorms of a Mixer, a stencil
of fixed length spends it on what hardly counts. `fuse.explain.shares` says what is owed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mmf import MmfError
from mmf.fuse.explain.association import rank_correlation
from mmf.fuse.explain.met import meet
from mmf.fuse.explain.stencils.search import Stencils
from mmf.fuse.explain.subject import Subject
from mmf.store.items import Items


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What the K stencils of one class say of N items."""

    stencils: Stencils
    best: int  # the cluster that speaks for the class
    spearman: Sequence[float | None]  # K; None of fewer than 3 items, or where nothing varies
    positives: int  # of the items
    shares: Float[np.ndarray, " M"] | None  # of the positive items, by the best; None without one

    @property
    def fidelity(self) -> float | None:
        """Spearman's correlation of the best."""
        return self.spearman[self.best]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scores:
    """Of one class."""

    scores: Float[np.ndarray, "N K"]
    sums: Float[np.ndarray, "N K M"]  # over the steps of |<S_t, X_t - X̄>|
    logits: Float[np.ndarray, " N"]
    positive: Bool[np.ndarray, " N"]


def what_they_say(subject: Subject, stencils: Sequence[Stencils]) -> list[Said]:
    """Of the subject's items, class by class."""
    if not stencils:
        return []
    before = _scores(subject, stencils, stencils[0].usual.items)
    found = []
    for one, early, late in zip(stencils, before, _scores(subject, stencils), strict=True):
        ranks = [rank_correlation(x, early.logits) for x in early.scores.T]
        best = int(np.argmax([-2.0 if rank is None else rank for rank in ranks]))
        sums = late.sums[late.positive, best].sum(0)
        found.append(
            Said(
                stencils=one,
                best=best,
                spearman=[rank_correlation(x, late.logits) for x in late.scores.T],
                positives=int(late.positive.sum()),
                shares=sums / sums.sum() if sums.sum() > 0 else None,
            )
        )
    return found


def fidelity(said: Sequence[Said]) -> float | None:
    """The mean over the classes that have one."""
    found = [one.fidelity for one in said if one.fidelity is not None]
    return float(np.mean(found)) if found else None


def _scores(
    subject: Subject, stencils: Sequence[Stencils], items: Items | None = None
) -> list[_Scores]:
    numbers = [subject.run.classes.index(one.name) for one in stencils]
    signed, sizes, logits, positive = [], [], [], []
    for met in meet(subject, items):
        logits.append(met.logits[:, numbers].cpu().numpy())
        positive.append(met.positive[:, numbers])
        for i in range(len(met)):
            item, of_item, of_sizes = met.item(i), [], []
            for one in stencils:
                parts = [x.cpu().numpy() for x in one.contributions(item)]  # M × (K, T)
                of_item.append(np.sum([x.sum(1) for x in parts], axis=0))
                of_sizes.append(np.stack([np.abs(x).sum(1) for x in parts], 1))
            signed.append(of_item)
            sizes.append(of_sizes)
    if not logits:
        raise MmfError(
            f"none of {len(subject.items)} items has a row of {', '.join(subject.run.specs)}, so "
            "there is nothing to explain."
        )
    z, y = np.concatenate(logits), np.concatenate(positive)
    return [
        _Scores(
            scores=np.stack([of[c] for of in signed]),
            sums=np.stack([of[c] for of in sizes]),
            logits=z[:, c],
            positive=y[:, c],
        )
        for c in range(len(stencils))
    ]
