"""Which modality a policy uses when: in each segment of an item, with its seconds."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from mmf import MmfError, unknown
from mmf.fuse.data import choose_device
from mmf.fuse.explain.segment_times import SegmentTimes, segment_times
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.inference.prediction import items_of
from mmf.fuse.inference.scoring import Scored, score
from mmf.fuse.network import Network
from mmf.fuse.policy.contract import SegmentFusion
from mmf.fuse.policy.usage import Costs
from mmf.fuse.run import Run
from mmf.store import FeatureStore, Item
from mmf.store.items import Items

_NAMES = 10_000  # of items, most that are searched for one like an unknown name


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A run with a policy, and the items that it is to decide about."""

    run: Run
    network: Network
    store: FeatureStore
    items: Items

    @property
    def label_set(self) -> str | None:
        """The run's, where the store has it."""
        name = self.run.config.label_set
        return name if name in self.store.label_sets else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Selected:
    """What was decided about an item of S segments, and what came of it; M modalities."""

    item: Item
    modalities: tuple[str, ...]
    times: SegmentTimes
    there: Bool[np.ndarray, "S M"]  # the modality has a row in the segment; else it is not used
    used: Bool[np.ndarray, "S M"]
    predicted: str  # the best class …
    score: float  # … and its probability
    labels: tuple[str, ...]  # none: nobody has said
    right: bool | None  # the best class is a label; None where that is not known
    gflops: float | None  # that were needed, where costs are known …
    gflops_all: float | None  # … and if everything were used


def open_subject(
    run: str | Path,
    store: str | Path | None = None,
    *,
    split: str | None = None,
    items: Sequence[str] = (),
    device: str = "auto",
) -> Subject:
    """A trained run with a policy, on a split or on the items that are named.

    A name is that of an item, or of a video, whose items are then all meant. Without names and
    without a split they are those of the test split. Raises MmfError where the run has no policy.
    """
    opened = Run.open(run)
    if not _decides(opened):
        raise _without_policy(opened)
    place = _open_store(opened, store)
    opened.check_features(place)
    every = items_of(place, opened, split if items or split else "test")
    found = _named(every, items) if items else every
    network = opened.trained().to(choose_device(device))
    return Subject(run=opened, network=network, store=place, items=found)


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


def _open_store(run: Run, store: str | Path | None) -> FeatureStore:
    if store is not None:
        return FeatureStore(store)
    try:
        return FeatureStore(run.config.store)
    except MmfError as error:
        raise MmfError(
            f"run {str(run.path)!r} was trained on a store that cannot be opened now: {error} If "
            "it has moved, say with --store where it is."
        ) from error


def _named(items: Items, names: Sequence[str]) -> Items:
    """The items of these names, and all items of videos of these names; in their own order."""
    videos = [*names, *(name.rpartition("@")[0] for name in names)]
    at = np.flatnonzero(pc.is_in(items.video_ids, pa.array(videos, pa.string())))
    asked, kept = frozenset(names), list[int]()
    found: set[str] = set()
    for number, item in zip(at.tolist(), items.take(at), strict=True):
        meant = asked & {item.id, item.video_id}
        found |= meant
        kept += [number] if meant else []
    for name in names:
        if name not in found:
            raise _not_there(items, name)
    return items.take(np.array(kept, dtype=np.int64))


def _not_there(items: Items, name: str) -> MmfError:
    """An error that says what is like the name, and lists what there is where that is short."""
    if len(items) <= _NAMES:
        known = {item.id for item in items}
        error = unknown("item", name, known)
        if len(known) <= 20:
            return error
        return MmfError(f"{str(error).partition(' Known:')[0]} There are {len(known)} items.")
    return MmfError(f"unknown item {name!r}, of {len(items)}. A name is VIDEO or VIDEO@START-END.")
