"""What is measured: the network of a run, or runs averaged, on labelled items of a store."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from mmf import MmfError, unknown
from mmf.fuse import LOSSES
from mmf.fuse.data import choose_device
from mmf.fuse.evaluation.accumulator import Accumulator
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.inference.scoring import Scored
from mmf.fuse.losses import probabilities
from mmf.fuse.network import Network
from mmf.fuse.policy.usage import Usage, took
from mmf.fuse.run import Run
from mmf.fuse.splits import by_split, some_videos, split_name
from mmf.fuse.training.plan import videos_digest
from mmf.store import FeatureSpec, FeatureStore, Item
from mmf.store.items import Items
from mmf.store.places import places

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A network on items; the labels are those of a label set, whose classes the run knows."""

    run: Run  # of an ensemble, what its runs are together
    network: Network | Ensemble
    store: FeatureStore
    items: Sequence[Item]
    label_set: str

    def __post_init__(self) -> None:
        strange = sorted(set(self.store.classes(self.label_set)) - set(self.run.classes))
        if strange:
            raise MmfError(
                f"label set {self.label_set!r} has classes that run {str(self.run.path)!r} was not "
                f"trained on: {', '.join(map(repr, strange[:5]))}. Train anew, or give another "
                "label set."
            )

    @property
    def specs(self) -> dict[str, FeatureSpec]:
        """The run's features that the store has."""
        return {n: s for n, s in self.run.specs.items() if n in self.store.features}

    @property
    def columns(self) -> list[int | None]:
        """For each class of the run, where it stands in the label set; None where it does not."""
        places = {name: i for i, name in enumerate(self.store.classes(self.label_set))}
        return [places.get(name) for name in self.run.classes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Collected:
    """All scores of a subject."""

    accumulator: Accumulator
    loss: float
    number: int  # of what was scored
    said: Int[np.ndarray, " C"]  # scores at or above the threshold of their class, and rated …
    right: Int[np.ndarray, " C"]  # … and of those the positive ones
    without: int  # of items that have no row of any feature
    usage: Mapping[str, float] = field(default_factory=dict)  # of a policy: `fuse.policy.usage`


def open_subject(
    run: str | Path | Ensemble,
    store: str | Path | None,
    split: str,
    *,
    label_set: str | None = None,
    zero: Sequence[str] = (),
    without: Sequence[str] = (),
    device: str = "auto",
) -> Subject:
    """A trained run, or several, on a split; what is None is the (first) run's own. See `evaluate`.

    An ensemble is on its device already, and is measured with all of its features.
    """
    runs = run.runs if isinstance(run, Ensemble) else (Run.open(run),)
    place = FeatureStore(store if store is not None else runs[0].config.store)
    for one in runs:
        one.check_features(place)
    label_set = label_set or runs[0].config.label_set
    items = _items(runs, place, split, label_set)
    if isinstance(run, Ensemble):
        if zero or without:
            raise MmfError(
                f"{', '.join([*zero, *without])}: features are made zeros or left out of one run, "
                "and this is the mean of several. Measure each by itself."
            )
        together = _together(run)
        return Subject(run=together, network=run, store=place, items=items, label_set=label_set)
    network = runs[0].trained().to(choose_device(device))
    network.zero(zero)
    opened = replace(runs[0], specs=_others(runs[0].specs, without))
    return Subject(run=opened, network=network, store=place, items=items, label_set=label_set)


def _items(runs: Sequence[Run], store: FeatureStore, split: str, label_set: str) -> Items:
    """The labelled items of a split, as the first run was told it."""
    config = runs[0].config
    if label_set not in store.label_sets:
        raise MmfError(
            f"store {str(store.path)!r} has no label set {label_set!r}; it has "
            f"{', '.join(map(repr, store.label_sets)) or 'none'}. `mmf label` adds one."
        )
    items = store.items(label_set=label_set)
    if label_set == config.label_set or items.column("split").null_count == len(items):
        items = store.items(label_set=label_set, split_set=config.split_set or config.label_set)
        parts = by_split(items, runs[0].assigned)
    else:  # it has a split of its own
        parts = by_split(items)
    if split_name(split) not in parts:
        there = ", ".join(sorted(parts)) or "none"
        raise MmfError(f"split {split!r} has no labelled item; splits: {there}.")
    for run in runs:
        if label_set == run.config.label_set:
            _warn_if_seen(run, store, parts, split)
    return parts[split_name(split)]


def _together(ensemble: Ensemble) -> Run:
    """What several runs are as one; a class was learned as often as the first that knows it did."""
    first, *_ = runs = ensemble.runs
    if len(runs) == 1:
        return first
    learned = {
        name: number
        for run in reversed(runs)
        for name, number in zip(run.classes, run.positives, strict=False)  # an older one has none
    }
    known = all(name in learned for name in ensemble.classes)
    return replace(
        first,
        specs=ensemble.specs,
        classes=ensemble.classes,
        task=ensemble.task,
        loss=ensemble.loss,
        positives=tuple(learned[name] for name in ensemble.classes) if known else (),
    )


def collect(
    subject: Subject,
    parts: Iterable[Scored],
    names: Sequence[str],
    thresholds: Float[np.ndarray, " C"] | None = None,
) -> Collected:
    """The scores in `parts`, for the metrics `names`; MmfError where no label is positive."""
    run, columns = subject.run, subject.columns
    accumulator, loss, number, without = Accumulator(names), 0.0, 0, 0
    said = right = np.zeros(len(run.classes), np.int64)
    network, usage = subject.network, None
    policy = None if isinstance(network, Ensemble) else network.policy
    for part in parts:
        logits = torch.from_numpy(part.logits[part.there])
        labels = torch.from_numpy(pick(part.labels, columns, 0.0)[part.there]).double()
        rated = torch.from_numpy(pick(part.rated, columns, False)[part.there])
        loss += float(LOSSES.load(run.loss)(logits, labels, rated)) * len(logits)
        number += len(logits)
        if policy is not None and part.decisions is not None:
            usage = usage or Usage(policy, run.specs, took(subject.store, run.specs))
            usage.add(part.decisions)
        without += len(part.there) - len(logits)
        scores = probabilities(logits, run.loss).float()
        accumulator.add(scores, labels, rated)
        if thresholds is not None:
            above = (scores.numpy() >= thresholds) & rated.numpy()
            said = said + np.count_nonzero(above, axis=0)
            right = right + np.count_nonzero(above & (labels.numpy() > 0), axis=0)
    if not accumulator.positives.any():
        raise MmfError(
            f"of {len(subject.items)} items those with rows were scored, and none has a positive "
            "label: there is nothing to measure."
        )
    return Collected(
        accumulator=accumulator,
        loss=loss / number,
        number=number,
        said=said,
        right=right,
        without=without,
        usage=usage.result() if usage else {},
    )


def pick(values: np.ndarray, columns: Sequence[int | None], absent: bool | float) -> np.ndarray:
    """The columns in the run's order, with a constant for a class that the label set lacks."""
    picked = np.full((len(values), len(columns)), absent, values.dtype)
    for i, column in enumerate(columns):
        if column is not None:
            picked[:, i] = values[:, column]
    return picked


def _others(specs: Mapping[str, FeatureSpec], without: Sequence[str]) -> dict[str, FeatureSpec]:
    for name in without:
        if name not in specs:
            raise unknown("feature", name, specs)
    if len(set(without)) == len(specs):
        raise MmfError(f"without {', '.join(without)} there is nothing to predict from.")
    return {name: spec for name, spec in specs.items() if name not in without}


def _warn_if_seen(run: Run, store: FeatureStore, parts: Mapping[str, Items], split: str) -> None:
    """Say so where the train split is another than at the training: test may overlap with it."""
    features = tuple(name for name in run.specs if name in store.features)
    if split_name(split) == "train" or "train" not in parts:
        return
    training = parts["train"]
    having = places(training.video_ids, store.with_rows(features)) >= 0
    training = training.take(np.flatnonzero(having))
    if run.config.train_videos is not None:
        training = some_videos(training, run.config.train_videos, run.config.seed)
    if len(training) and videos_digest(training.video_ids) != run.trained_on:
        logger.warning(
            "the videos of split 'train' are not those that run %s was trained on; "
            "if one of them is in %r now, this measures what the run has seen",
            *(run.path, split),
        )
