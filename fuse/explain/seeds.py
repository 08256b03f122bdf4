"""The shares of a class's modalities over the seeds of a run: their mean and their deviation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmf.fuse.explain.met import choose_classes, usual
from mmf.fuse.explain.shares import shapley
from mmf.fuse.explain.subject import open_subject

SPREAD = pa.schema(
    [
        ("class", pa.string()),
        ("modality", pa.string()),
        ("runs", pa.int32()),  # that have a share of it
        ("share", pa.float64()),  # the mean over them; null without one
        ("deviation", pa.float64()),  # of one run from another (n - 1); null of fewer than two
    ]
)


def spread(
    runs: Sequence[str | Path],
    store: str | Path | None = None,
    *,
    classes: Sequence[str] = (),
    split: str | None = None,
    items: Sequence[str] = (),
    device: str = "auto",
) -> pa.Table:
    """The shares by Shapley's value (`fuse.explain.shares`) over several runs (`SPREAD`)."""
    shares: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        subject = open_subject(run, store, split=split, items=items, device=device)
        chosen = choose_classes(subject, classes)
        for row in shapley(subject, chosen, usual(subject)).table().to_pylist():
            found = shares.setdefault((row["class"], row["modality"]), [])
            found += [] if row["share"] is None else [row["share"]]
    rows = [
        {
            "class": name,
            "modality": modality,
            "runs": len(found),
            "share": float(np.mean(found)) if found else None,
            "deviation": float(np.std(found, ddof=1)) if len(found) > 1 else None,
        }
        for (name, modality), found in shares.items()
    ]
    return pa.Table.from_pylist(rows, SPREAD)
