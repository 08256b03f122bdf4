"""What a run says of items, best classes first, as a table and as files."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmf import MmfError
from mmf.fuse.data import choose_device
from mmf.fuse.inference.scoring import Scored, score
from mmf.fuse.losses import probabilities
from mmf.fuse.run import Run
from mmf.fuse.splits import by_split, split_name
from mmf.store import FeatureStore, Item

SCHEMA = pa.schema(
    [
        ("item", pa.string()),  # video_id, or video_id@start-end
        ("video_id", pa.string()),
        ("start", pa.float64()),  # seconds; null: the whole video
        ("end", pa.float64()),
        ("classes", pa.list_(pa.string())),  # best first; null where there is no prediction
        ("scores", pa.list_(pa.float32())),  # their probabilities
        ("reason", pa.string()),  # why there is no prediction; null where there is one
    ]
)


def predict(
    run: str | Path,
    store: str | Path,
    split: str | None = None,
    *,
    top: int | None = 20,
    device: str = "auto",
) -> pa.Table:
    """The run's predictions, a row per item (`SCHEMA`), with the `top` classes of each (None: all).

    The items are those of a split; without one, every labelled item and every video that has no
    label. An item without a row of any of the run's features has a reason and no scores.
    """
    if top is not None and top < 1:
        raise MmfError(f"top = {top}: expected at least 1 class.")
    opened, place = Run.open(run), FeatureStore(store)
    opened.check_features(place)
    items = [replace(i, labels=(), unrated=(), rated=None) for i in _items(place, opened, split)]
    specs = {n: s for n, s in opened.specs.items() if n in place.features}
    network = opened.trained().to(choose_device(device))
    rows: list[dict[str, Any]] = []
    for part in score(network, place, items, specs, opened.config, label_set=None):
        rows.extend(_rows(part, opened, top))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_predictions(table: pa.Table, path: str | Path, *, kaggle: bool = False) -> None:
    """Write predictions as .parquet, or as .csv: a line per item and class, best first.

    With `kaggle`, the CSV of the YouTube-8M challenge, ``VideoId,LabelConfidencePairs``. Items
    without a prediction have a line with the reason; the challenge's format leaves them out.
    """
    path = Path(path)
    if path.suffix == ".parquet" and not kaggle:
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        header, lines = _kaggle(table) if kaggle else _long(table)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(lines)
    else:
        expected = ".csv" if kaggle else ".csv or .parquet"
        raise MmfError(f"cannot write predictions to {str(path)!r}: expected a name in {expected}.")


def _items(store: FeatureStore, run: Run, split: str | None) -> list[Item]:
    labelled: Sequence[Item] = ()
    if run.config.label_set in store.label_sets:
        labelled = store.items(
            label_set=run.config.label_set, split_set=run.config.split_set or None
        )
    if split is not None:
        parts = by_split(labelled, run.assigned)
        if split_name(split) not in parts:
            there = ", ".join(sorted(parts)) or "none"
            raise MmfError(f"split {split!r} has no item; splits: {there}.")
        return list(parts[split_name(split)])
    named = {item.video_id for item in labelled}
    others = (v for v in store.videos()["video_id"].to_pylist() if v not in named)
    items = [*labelled, *(Item(video_id=v) for v in others)]
    if not items:
        raise MmfError(f"store {str(store.path)!r} has no videos.")
    return items


def _rows(part: Scored, run: Run, top: int | None) -> Iterator[dict[str, Any]]:
    found = probabilities(torch.from_numpy(part.logits), run.loss).float().numpy()
    best = np.argsort(-found, axis=1, kind="stable")[:, :top]
    for i, item in enumerate(part.items):
        row: dict[str, Any] = {
            "item": item.id,
            "video_id": item.video_id,
            "start": item.start,
            "end": item.end,
        }
        if part.there[i]:
            yield row | {
                "classes": [run.classes[c] for c in best[i]],
                "scores": found[i, best[i]].tolist(),
            }
        else:
            yield row | {"reason": f"no rows of {', '.join(run.specs)}"}


def _long(table: pa.Table) -> tuple[list[str], Iterator[list[object]]]:
    def lines() -> Iterator[list[object]]:
        for row in table.to_pylist():
            item = [row[name] for name in ("item", "video_id", "start", "end")]
            if row["reason"] is not None:
                yield [*item, None, None, None, row["reason"]]
                continue
            pairs = zip(row["classes"], row["scores"], strict=True)
            for rank, (name, value) in enumerate(pairs, 1):
                yield [*item, rank, name, _shortest(value), None]

    return ["item", "video_id", "start", "end", "rank", "class", "score", "reason"], lines()


def _kaggle(table: pa.Table) -> tuple[list[str], Iterator[list[object]]]:
    numbers: dict[str, str] = {}
    for names in table["classes"].to_pylist():
        for name in names or ():
            if not name.isdecimal():
                raise MmfError(
                    f"class {name!r} is no number, and the challenge's format names classes by "
                    "number. Write .csv without --kaggle, or .parquet."
                )
            numbers[name] = str(int(name))

    def lines() -> Iterator[list[object]]:
        for row in table.to_pylist():
            if row["reason"] is None:
                pairs = zip(row["classes"], row["scores"], strict=True)
                yield [row["item"], " ".join(f"{numbers[c]} {s:g}" for c, s in pairs)]

    return ["VideoId", "LabelConfidencePairs"], lines()


def _shortest(value: float) -> str:
    """The shortest text that reads back as this float32."""
    return str(np.float32(value)) if math.isfinite(value) else ""
