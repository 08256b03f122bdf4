"""How well a run does on each class, and on classes that are seldom or frequent in training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.fuse.evaluation.levels import scored
from mmf.fuse.evaluation.subject import Collected, collect, open_subject
from mmf.fuse.evaluation.thresholds import FILE, thresholds
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.run import Run

CLASSES = pa.schema(
    [
        ("class", pa.string()),
        ("training_positives", pa.int64()),  # items it was learned from; null in a run of before
        ("positives", pa.int64()),  # in the split that is measured
        ("ap", pa.float64()),  # every item ranked; null without a positive, or of too many scores
        ("ap@20", pa.float64()),  # only the items that have it in their 20 best
        ("threshold", pa.float64()),  # null where none is chosen
        ("precision", pa.float64()),  # of the items where it is said; null where it never is
        ("recall", pa.float64()),  # of its positives
        ("f1", pa.float64()),
    ]
)
FREQUENCIES = pa.schema(
    [
        ("training_positives", pa.string()),  # from and to
        ("classes", pa.int64()),
        ("classes_used", pa.int64()),  # that have a positive in the split: the means are of those
        ("positives", pa.int64()),
        ("map", pa.float64()),
        ("map@20", pa.float64()),
        ("f1", pa.float64()),  # null where no threshold is chosen
    ]
)


def evaluate_classes(
    run: str | Path | Ensemble,
    store: str | Path | None = None,
    split: str = "test",
    *,
    level: str = "item",
    views: Sequence[int] = (),
    **options: Any,
) -> pa.Table:
    """A row for each class of the run (`CLASSES`): what `evaluate` measures as a mean over them.

    The options are those of `evaluate`. With thresholds chosen for the run (`choose_thresholds`),
    also how often a class is right where it is said; an ensemble has none.
    """
    subject = open_subject(run, store, split, **options)
    chosen = {} if isinstance(run, Ensemble) else chosen_thresholds(subject.run)
    found = collect(subject, scored(subject, level, views), ["map"], least(subject.run, chosen))
    return by_class(subject.run, found, chosen)


def chosen_thresholds(run: Run) -> dict[str, float | None]:
    """The thresholds kept with a run; none where none were chosen."""
    return thresholds(run.path) if (run.path / FILE).exists() else {}


def least(run: Run, chosen: Mapping[str, float | None]) -> np.ndarray:
    """Float64 (C,): where each class is said; inf: nowhere."""
    found = (chosen.get(name) for name in run.classes)
    return np.array([np.inf if one is None else one for one in found])


def by_class(run: Run, found: Collected, chosen: Mapping[str, float | None]) -> pa.Table:
    """A row for each class (`CLASSES`) of scores that were collected `least`."""
    positives = found.accumulator.positives
    columns: dict[str, Any] = {
        "class": run.classes,
        "training_positives": run.positives or [None] * len(positives),
        "positives": positives,
        "ap": _or_null(found.accumulator.average_precisions(None)),
        "ap@20": _or_null(found.accumulator.average_precisions(20)),
        "threshold": pa.array([chosen.get(name) for name in run.classes], pa.float64()),
        **(_counted(found) if chosen else dict.fromkeys(("precision", "recall", "f1"))),
    }
    nothing = pa.nulls(len(positives), pa.float64())
    arrays = [nothing if columns[name] is None else columns[name] for name in CLASSES.names]
    return pa.table(arrays, schema=CLASSES)


def by_frequency(classes: pa.Table) -> pa.Table:
    """The classes of `evaluate_classes` in decades of training positives (`FREQUENCIES`).

    Means are over the classes that have a positive in the split that was measured.
    """
    if classes["training_positives"].null_count:
        raise MmfError(
            "the run was trained by an mmf that did not keep how many items each class was learned "
            "from. Train it again, or measure by class."
        )
    learned = classes["training_positives"].to_numpy()
    decade = np.where(learned > 0, np.char.str_len(learned.astype(str)), 0)
    rows = []
    for digits in np.unique(decade).tolist():
        part = classes.filter(pa.array(decade == digits))
        used = part.filter(pa.array(part["positives"].to_numpy() > 0))
        rows.append(
            {
                "training_positives": f"{10 ** (digits - 1)}-{10**digits - 1}" if digits else "0",
                "classes": len(part),
                "classes_used": len(used),
                "positives": sum(part["positives"].to_pylist()),
                "map": _mean(used["ap"]),
                "map@20": _mean(used["ap@20"]),
                "f1": _mean(used["f1"]),
            }
        )
    return pa.Table.from_pylist(rows, schema=FREQUENCIES)


def _counted(found: Collected) -> dict[str, pa.Array]:
    positives = found.accumulator.positives
    with np.errstate(invalid="ignore"):  # 0 / 0 is null
        return {
            "precision": _or_null(found.right / found.said),
            "recall": _or_null(found.right / positives),
            "f1": _or_null(2 * found.right / (found.said + positives)),
        }


def _or_null(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def _mean(values: pa.ChunkedArray) -> float | None:
    there = [value for value in values.to_pylist() if value is not None]
    return float(np.mean(there)) if there else None
