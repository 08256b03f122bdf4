"""How well a run does on a split of a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmf.fuse import METRICS
from mmf.fuse.evaluation.subject import Subject, collect, open_subject
from mmf.fuse.metrics import SINGLE_LABEL
from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.store import FeatureStore, Item


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
    subject = open_subject(run, store, split, label_set=label_set, device=device)
    subject = subject.without(without)
    subject.network.zero(zero)
    return _measured(subject)


def measure(
    network: Network,
    store: FeatureStore,
    items: Sequence[Item],
    run: Run,
    *,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The metrics of a network on these items: those named, or all that the run's task has."""
    label_set = run.config.label_set
    subject = Subject(run=run, network=network, store=store, items=items, label_set=label_set)
    return _measured(subject, names)


def _measured(subject: Subject, names: Sequence[str] | None = None) -> dict[str, Any]:
    run = subject.run
    if names is None:
        names = [n for n in METRICS if run.task == "single" or n not in SINGLE_LABEL]
    found = collect(subject, subject.scored(), names)
    return found.accumulator.result() | {
        "loss": found.loss,
        "items": found.number,
        "items_without_features": found.without,
        "classes": len(run.classes),
        "classes_used": int((found.accumulator.positives > 0).sum()),
    }
