"""Which modality a policy uses when: in each segment of an item, with its seconds."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mmf import MmfError
from mmf.fuse.explain.segment_times import SegmentTimes, segment_times
from mmf.fuse.explain.subject import Subject, open_subject
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.inference.scoring import Scored, score
from mmf.fuse.policy.contract import SegmentFusion
from mmf.fuse.policy.usage import Costs
from mmf.fuse.run import Run
from mmf.store import FeatureStore, Item
from mmf.store.items import Items


@dataclass(frozen=True, kw_only=True, eq=False)
class Selected:
    """What was decided about an item of S segments, and what came of it; M modalities."""

    item: Item
    modalities: tuple[str, ...]
    times: SegmentTimes
    there: Bool[np.ndarray, "S M"]  # the modality has a row in the segment; else it is not used
    used: Bool[np.ndarray, "S M"]
    # of each segment in what its modality says of the item (`fuse.policy.consensus`), if a sum
    weights: Float[np.ndarray, "S M"] | None
    predicted: str  # the best class …
    score: float  # … and its probability
    labels: tuple[str, ...]  # none: nobody has said
    right: bool | None  # the best class is a label; None where that is not known
    gflops: float | None  # that were needed, where costs are known …
    gflops_all: float | None  # … and if everything were used


def open_deciding(run: str | Path, *where: Any, **which: Any) -> Subject:
    """As `open_subject`; raises MmfError where the run has no policy."""
    opened = Run.open(run)
    if not _decides(opened):
        raise _without_policy(opened)
    return open_subject(opened, *where, **which)


def selections(subject: Subject) -> Iterator[Selected]:
    """What is decided about each item, in order; those without a row of any feature are left out.

    The decisions are those that `mmf evaluate` and `mmf predict` make.
    """
    run, store = subject.run, subject.store
    specs = {name: spec for name, spec in run.specs.items() if name in store.features}
    policy = subject.network.policy
    costs = Costs.of(policy, run.specs) if policy else None
    label_set = subject.label_set
    classes = store.classes(label_set) if label_set else ()
    parts = score(subject.network, store, subject.items, specs, run.config, label_set=label_set)
    for part in parts:
        yield from _of_part(part, store, run, costs, classes)


def _of_part(
    part: Scored, store: FeatureStore, run: Run, costs: Costs | None, classes: Sequence[str]
) -> Iterator[Selected]:
    decisions, items = part.decisions, Items.of(part.items)
    if decisions is None:
        return
    weights = decisions.segment_weights
    spent: Sequence[float | None] = [None] * len(items)
    everything = spent
    if costs is not None:
        spent = costs.of_items(decisions).tolist()
        everything = costs.of_items(replace(decisions, used=decisions.there)).tolist()
    scores, best = part.scores(run.loss), part.logits.argmax(1)
    times = segment_times(store, items, decisions)
    for i, (item, its) in enumerate(zip(items, times, strict=True)):
        if not part.there[i]:
            continue
        n = int(decisions.valid[i].sum())
        predicted = run.classes[best[i]]
        labels = tuple(classes[c] for c in np.flatnonzero(part.labels[i]).tolist())
        at = classes.index(predicted) if predicted in classes else None
        known = bool(labels) and at is not None and bool(part.rated[i, at])
        yield Selected(
            item=item,
            modalities=decisions.modalities,
            times=its,
            there=decisions.there[i, :n],
            used=decisions.used[i, :n],
            weights=None if weights is None else weights[i, :n],
            predicted=predicted,
            score=float(scores[i, best[i]]),
            labels=labels,
            right=predicted in labels if known else None,
            gflops=spent[i],
            gflops_all=everything[i],
        )


def _decides(run: Run) -> bool:
    return issubclass(FUSIONS.load(run.config.fusion), SegmentFusion)


def _without_policy(run: Run) -> MmfError:
    """Which runs beside it have a policy, and how one is trained."""
    beside = []
    for config in sorted(run.path.absolute().parent.glob("*/config.json")):
        with suppress(MmfError):  # of another version, say
            if _decides(Run.open(config.parent)):
                beside.append(str(run.path.parent / config.parent.name))
    there = (
        f"Runs beside it that have one: {', '.join(beside)}" if beside else "None beside it has one"
    )
    return MmfError(
        f"run {str(run.path)!r} has no policy: its fusion {run.config.fusion!r} uses every feature "
        f"everywhere. {there}; `mmf train --store {run.config.store} --fusion policy` trains one."
    )
