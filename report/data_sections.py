"""What a page says of the data: features, how long videos are, labels and splits, what failed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from mmf.fuse.splits import by_split
from mmf.report.page import Cell, Part, Plot, Table, Text
from mmf.report.plots import bars, binned, histogram, stacked, tall
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.items import Items

_BARS = 30  # classes that are drawn


def in_bytes(number: int) -> str:
    """A number of bytes with its unit."""
    if number < 1024:
        return f"{number} B"
    power = min((number.bit_length() - 1) // 10, 4)
    return f"{number / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def backbone(spec: FeatureSpec) -> str:
    """What made a feature, and of what."""
    made = str(spec.recipe.get("backbone", "added by hand"))
    rate = f", {spec.rate:g} rows/s" if spec.rate else ""
    return f"{made}{rate}"


def lengths(store: FeatureStore, names: Iterable[str]) -> list[Part]:
    """How long videos are: in seconds where that is known, and in rows of each feature."""
    parts: list[Part] = []
    rows: list[Sequence[Any]] = []
    seconds: dict[str, float] = {}
    for name in names:
        stored = store.stored(name)
        known = stored.outcomes.filter(pc.is_valid(stored.outcomes["duration"]))
        ids, of = known["video_id"].to_pylist(), known["duration"].to_pylist()
        seconds |= dict(zip(ids, of, strict=True))
        there = stored.rows[stored.rows > 0]
        if len(there):
            middle = [round(float(np.quantile(there, q))) for q in (0.5, 0.95)]
            rows.append([name, len(there), int(there.min()), *middle, int(there.max())])
    columns = ["feature", "videos", "fewest rows", "median", "95 %", "most rows"]
    if seconds:
        found = np.array([*seconds.values()])
        said = (
            f"{len(found):,} videos, median {np.median(found):.3g} s, longest {found.max():.4g} s."
        )
        parts.append(
            Plot(
                figure=histogram(found, "videos", "seconds", "videos"),
                alt=f"Histogram of the videos' lengths. {said}",
                caption=f"Lengths of the videos. {said}",
                height=260,
                numbers=_binned(found),
            )
        )
    if rows:
        parts.append(Table(columns=columns, rows=rows, caption="Rows of a video, by feature"))
    return parts or [Text(text="No feature has rows yet.", kind="missing")]


def _binned(seconds: np.ndarray) -> Table:
    """The histogram's numbers."""
    counts, edges = binned(seconds)
    rows: list[Sequence[Cell]] = [
        [f"{low:.4g} to {high:.4g}", int(number)]
        for low, high, number in zip(edges, edges[1:], counts, strict=False)
        if number
    ]
    return Table(columns=["seconds", "videos"], rows=rows)


def splits_of(items: Items, assigned: Any, classes: Sequence[str]) -> list[Part]:
    """Items by split, and the most frequent classes in each."""
    unsplit = int(items.column("split").null_count)
    found = by_split(items, assigned) if assigned is not None else by_split(items)
    if not found:
        found = {"no split": items}
    known = ("train", "val", "test")
    order = sorted(found, key=lambda s: (known.index(s) if s in known else len(known), s))
    counts = {split: _of_classes(found[split], len(classes)) for split in order}
    rows: list[Sequence[Cell]] = [
        [
            split,
            len(found[split]),
            len(pc.unique(found[split].video_ids)),
            int((counts[split] > 0).sum()),
            float(counts[split].sum() / max(len(found[split]), 1)),
        ]
        for split in order
    ]
    columns = ["split", "items", "videos", "classes", "labels of an item"]
    parts: list[Part] = [Table(columns=columns, rows=rows, caption="Items by split")]
    if unsplit and "no split" not in found and assigned is not None and not len(assigned):
        parts.append(Text(text=f"{unsplit:,} items are in no split.", kind="note"))
    total: np.ndarray = np.sum([*counts.values()], axis=0)
    if empty := [classes[c] for c in np.flatnonzero(total == 0).tolist()]:
        names = ", ".join(empty[:10]) + (", …" if len(empty) > 10 else "")
        parts.append(
            Text(text=f"Without a single item: {len(empty):,} classes ({names}).", kind="missing")
        )
    shown = np.argsort(-total, kind="stable")[:_BARS].tolist()
    pieces = {s: {classes[c]: int(counts[s][c]) for c in shown} for s in order}
    which = "" if len(classes) <= _BARS else f" The {_BARS} most frequent of {len(classes):,}."
    parts.append(
        Plot(
            figure=stacked(pieces, "items"),
            alt=f"Items of each class, by split.{which}",
            caption=f"Items of each class.{which}",
            height=tall(len(shown)),
            numbers=Table(
                columns=["class", *order],
                rows=[[classes[c], *(int(counts[s][c]) for s in order)] for c in shown],
            ),
        )
    )
    return parts


def _of_classes(items: Items, classes: int) -> np.ndarray:
    """How many items each class is a label of."""
    numbers = pc.list_flatten(items.column("labels")).to_numpy()
    return np.bincount(numbers, minlength=classes)


def failures(store: FeatureStore, names: Iterable[str]) -> list[Part]:
    """Why videos could not be used, or have no rows of a feature."""
    reasons: Counter[tuple[str, str, str]] = Counter()
    rows: list[Sequence[str]] = []
    for name in names:
        outcomes = store.stored(name).outcomes
        odd = outcomes.filter(pc.not_equal(outcomes["status"], "done"))
        columns = ["video_id", "status", "reason", "stage", "message"]
        for one in odd.select(columns).to_pylist():
            reasons[name, one["status"], one["reason"] or ""] += 1
            rows.append([one["video_id"], name, *(str(one[c] or "") for c in columns[1:])])
    if not rows:
        return [Text(text="Nothing: every video that was tried gave rows of every feature.")]
    by_reason: Mapping[str, int] = Counter()
    for (_, status, reason), number in reasons.items():
        by_reason[f"{reason or 'no reason given'} ({status})"] += number  # type: ignore[index]
    table = Table(
        columns=["video", "feature", "status", "reason", "stage", "message"],
        rows=rows,
        caption="Each video without rows of a feature",
    )
    plot = Plot(
        figure=bars([*by_reason], [*by_reason.values()], "videos × features", series=1),
        alt="Videos without rows, by reason.",
        caption="Why there are no rows.",
        height=tall(len(by_reason), least=140),
    )
    return [plot, table]
