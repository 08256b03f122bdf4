"""How well a run does on a split of a store."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from mmf import MmfError, unknown
from mmf.fuse import LOSSES, METRICS
from mmf.fuse.data import choose_device
from mmf.fuse.inference.scoring import score
from mmf.fuse.losses import probabilities
from mmf.fuse.metrics import SINGLE_LABEL, Accumulator
from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.fuse.splits import by_split, some_videos, split_name
from mmf.fuse.training.plan import videos_digest
from mmf.store import FeatureSpec, FeatureStore, Item
from mmf.store.items import Items

logger = logging.getLogger(__name__)


def evaluate(
    run: str | Path,
    store: str | Path | None = None,
    split: str = "test",
    *,
    label_set: str | None = None,
    device: str = "auto",
    zero: Sequence[str] = (),
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """Metrics of a run on a split, with the loss and the counts they rest on.

    The store is the one it was trained on, unless another is given; its features must have been
    made by the same recipes. A feature that is not there is missing. Items without a row of any
    feature are not measured, and counted as `items_without_features`. The rows of the
    features `zero` are made zeros: what is lost then is what the run owes to them; `without` takes
    features for missing, as where a store has none of their rows.
    """
    opened = Run.open(run)
    place = FeatureStore(store if store is not None else opened.config.store)
    opened.check_features(place)
    if label_set in (None, opened.config.label_set):
        split_set = opened.config.split_set or None
        items = place.items(label_set=opened.config.label_set, split_set=split_set)
        parts = by_split(items, opened.assigned)
        _warn_if_seen(opened, place, parts, split)
    else:
        parts = by_split(place.items(label_set=label_set), {})
    if split_name(split) not in parts:
        there = ", ".join(sorted(parts)) or "none"
        raise MmfError(f"split {split!r} has no labelled item; splits: {there}.")
    network = opened.trained().to(choose_device(device))
    network.zero(zero)
    opened = replace(opened, specs=_others(opened.specs, without))
    return measure(network, place, parts[split_name(split)], opened, label_set=label_set)


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
    training, there = parts["train"], store.all_items(features).video_ids
    having = pc.is_in(training.video_ids, pc.unique(there))
    training = training.take(np.flatnonzero(having))
    if run.config.train_videos is not None:
        training = some_videos(training, run.config.train_videos, run.config.seed)
    if len(training) and videos_digest(training.video_ids) != run.trained_on:
        logger.warning(
            "the videos of split 'train' are not those that run %s was trained on; "
            "if one of them is in %r now, this measures what the run has seen",
            *(run.path, split),
        )


def measure(
    network: Network,
    store: FeatureStore,
    items: Sequence[Item],
    run: Run,
    *,
    label_set: str | None = None,
) -> dict[str, Any]:
    """The metrics of a network on these items."""
    label_set = label_set or run.config.label_set
    columns = _columns(store.classes(label_set), run, label_set)
    specs = {n: s for n, s in run.specs.items() if n in store.features}
    accumulator, loss, number, positives = Accumulator(), 0.0, 0, np.zeros(len(run.classes))
    for part in score(network, store, items, specs, run.config, label_set=label_set):
        logits = torch.from_numpy(part.logits[part.there])
        labels = torch.from_numpy(_pick(part.labels, columns, 0.0)[part.there]).double()
        rated = torch.from_numpy(_pick(part.rated, columns, False)[part.there])
        loss += float(LOSSES.load(run.loss)(logits, labels, rated)) * len(logits)
        number += len(logits)
        positives += (labels * rated).sum(0).numpy()
        accumulator.add(probabilities(logits, run.loss).float(), labels, rated)
    if not positives.any():
        raise MmfError(
            f"{number} of {len(items)} items have rows and none has a positive label: "
            "there is nothing to measure."
        )
    names = [n for n in METRICS if run.task == "single" or n not in SINGLE_LABEL]
    return accumulator.result(names) | {
        "loss": loss / number,
        "items": number,
        "items_without_features": len(items) - number,
        "classes": len(run.classes),
        "classes_used": int((positives > 0).sum()),
    }


def _columns(classes: Sequence[str], run: Run, label_set: str) -> list[int | None]:
    """For each class of the run, where it stands in the label set; None where it does not."""
    strange = sorted(set(classes) - set(run.classes))
    if strange:
        raise MmfError(
            f"label set {label_set!r} has classes that run {str(run.path)!r} was not trained on: "
            f"{', '.join(map(repr, strange[:5]))}. Train anew, or give another label set."
        )
    places = {name: i for i, name in enumerate(classes)}
    return [places.get(name) for name in run.classes]


def _pick(values: np.ndarray, columns: Sequence[int | None], absent: bool | float) -> np.ndarray:
    """The columns in the run's order, with a constant for a class that the label set lacks."""
    picked = np.full((len(values), len(columns)), absent, values.dtype)
    for i, column in enumerate(columns):
        if column is not None:
            picked[:, i] = values[:, column]
    return picked
