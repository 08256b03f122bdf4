"""How well a run does on a split of a store."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.fuse import METRICS
from mmf.fuse.evaluation.levels import scored
from mmf.fuse.evaluation.subject import Collected, Subject, collect, open_subject
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.metrics import SINGLE_LABEL
from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.store import FeatureStore, Item

logger = logging.getLogger(__name__)


def evaluate(
    run: str | Path | Ensemble,
    store: str | Path | None = None,
    split: str = "test",
    *,
    label_set: str | None = None,
    level: str = "item",
    views: Sequence[int] = (),
    zero: Sequence[str] = (),
    without: Sequence[str] = (),
    sampled: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Metrics of a run, or of several averaged, on a split; the loss, and the counts they rest on.

    The store is the one it was trained on, unless another is given; its features must have been
    made by the same recipes. A feature that is not there is missing. Items without a row of any
    feature are not measured, and counted as `items_without_features`. The labels are those that it
    has learned, unless another `label_set` of the store is given, whose split is its own if it has
    one.

    `level` says what is measured (`mmf.fuse.evaluation.levels`): each ``item``; each stored
    ``row`` as an item of its own; each item by the mean score of its ``view``\\ s, all or those
    numbered in `views`; each ``video`` by the mean score of its items, against the union of their
    labels, where accuracy is left out if a video has several. `items` counts what was measured.

    Of a policy it also says which share of an item's segments uses each modality, ``used_rgb`` and
    so on, and what that costs, ``gflops`` and measured ``milliseconds``, where they are known
    (`mmf.fuse.policy.usage`). Its
    decisions are the likelier ones, or with `sampled` drawn, as AdaMML's authors evaluate.

    The rows of the features `zero` are made zeros: what is lost then is what the run owes to them;
    `without` takes features for missing, as where a store has none of their rows.

    Of an `Ensemble` it is the mean of its runs' scores that is measured, by item or by video, with
    all of their features on its own device; what is None is its first run's.
    """
    subject = open_subject(
        run, store, split, label_set=label_set, zero=zero, without=without, device=device
    )
    if sampled:
        _draw_decisions(subject)
    names = metric_names(subject.run)
    found = collect(subject, scored(subject, level, views), names)
    if found.usage and "gflops" not in found.usage:
        _warn_of_costs(subject.run)
    if level == "video" and not found.accumulator.has_one_label_each:
        found.accumulator.names = tuple(n for n in names if n not in SINGLE_LABEL)
    return result(found)


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
    return result(collect(subject, scored(subject), metric_names(run) if names is None else names))


def _draw_decisions(subject: Subject) -> None:
    network = subject.network
    if isinstance(network, Ensemble) or network.policy is None:
        raise MmfError(
            f"run {str(subject.run.path)!r} is of fusion {subject.run.config.fusion!r}, which "
            "decides nothing that could be drawn; expected one run of a policy."
        )
    network.policy.sampled = True


def _warn_of_costs(run: Run) -> None:
    logger.warning(
        "no GFLOPs: not every feature of run %s says what its rows cost. Extract them anew, or "
        "train with --fusion-option 'gflops={\"%s\": …}', of a segment of each",
        *(run.path, next(iter(run.specs))),
    )


def metric_names(run: Run) -> list[str]:
    """The metrics that its task has."""
    return [n for n in METRICS if run.task == "single" or n not in SINGLE_LABEL]


def result(found: Collected) -> dict[str, Any]:
    """The metrics of what was collected, its loss, and the counts that they rest on."""
    positives = found.accumulator.positives
    return {
        **found.accumulator.result(),
        **found.usage,
        "loss": found.loss,
        "items": found.number,
        "items_without_features": found.without,
        "classes": len(positives),
        "classes_used": int((positives > 0).sum()),
    }
