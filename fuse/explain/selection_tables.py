"""What a policy selected, as tables: all of it, and its means by class and by modality."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmf.fuse.explain.selection import Selected
from mmf.store.exchange.output import finished

SCHEMA = pa.schema(
    [
        ("item", pa.string()),  # video_id, or video_id@start-end
        ("video_id", pa.string()),
        ("segment", pa.int32()),  # from 0
        ("start_s", pa.float64()),  # seconds: `fuse.explain.segment_times`
        ("end_s", pa.float64()),
        ("modality", pa.string()),
        ("there", pa.bool_()),  # it has a row in the segment
        ("used", pa.bool_()),
        # of the segment in what the modality says of the item; null where that is no weighted sum
        ("weight", pa.float32()),
        ("predicted", pa.string()),  # of the item
        ("score", pa.float32()),
        ("labels", pa.list_(pa.string())),
        ("right", pa.bool_()),  # null: not known
        ("gflops", pa.float64()),  # of the item; null: not known
    ]
)
_ITEMS = 1024  # of a write


def rows(selected: Selected) -> list[dict[str, Any]]:
    """A row for each segment and modality of an item (`SCHEMA`)."""
    of_item = {
        "item": selected.item.id,
        "video_id": selected.item.video_id,
        "predicted": selected.predicted,
        "score": selected.score,
        "labels": list(selected.labels),
        "right": selected.right,
        "gflops": selected.gflops,
    }
    return [
        of_item
        | {
            "segment": s,
            "start_s": float(selected.times.starts[s, m]),
            "end_s": float(selected.times.ends[s, m]),
            "modality": name,
            "there": bool(selected.there[s, m]),
            "used": bool(selected.used[s, m]),
            "weight": None if selected.weights is None else float(selected.weights[s, m]),
        }
        for s in range(len(selected.used))
        for m, name in enumerate(selected.modalities)
    ]


class Writer:
    """Takes in items; the file has them some thousand rows at a time."""

    def __init__(self, file: pq.ParquetWriter):
        self._file, self._rows, self._items = file, list[dict[str, Any]](), 0

    def add(self, selected: Selected) -> None:
        """One item more."""
        self._rows += rows(selected)
        self._items += 1
        if self._items % _ITEMS == 0:
            self.flush()

    def flush(self) -> None:
        """Write what has been taken in."""
        self._file.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self._rows.clear()


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A Parquet file (`SCHEMA`), which has its name once it is whole."""
    with finished(path) as part, pq.ParquetWriter(part, SCHEMA) as file:
        writer = Writer(file)
        yield writer
        writer.flush()


@dataclass(kw_only=True)
class _Sum:
    """Sums over items."""

    items: int = 0
    used: np.ndarray = field(default_factory=lambda: np.zeros(1))  # (M,) shares of segments
    there: np.ndarray = field(default_factory=lambda: np.zeros(1))
    any: np.ndarray = field(default_factory=lambda: np.zeros(1))  # (M,) items that use it at all
    nothing: int = 0  # items of which nothing is used
    known: int = 0  # items of which it is known whether they are right
    right: int = 0
    gflops: float = 0.0
    gflops_all: float = 0.0

    def add(self, selected: Selected) -> None:
        self.items += 1
        self.used = self.used + selected.used.mean(0)
        self.there = self.there + selected.there.mean(0)
        self.any = self.any + selected.used.any(0)
        self.nothing += not selected.used.any()
        self.known += selected.right is not None
        self.right += selected.right is True
        self.gflops += np.nan if selected.gflops is None else selected.gflops
        self.gflops_all += np.nan if selected.gflops_all is None else selected.gflops_all

    @property
    def accuracy(self) -> float | None:
        return self.right / self.known if self.known else None

    def gflops_of_item(self) -> float | None:
        return None if np.isnan(self.gflops) else self.gflops / self.items


@dataclass(kw_only=True)
class Summary:
    """Means over items as they come; an item of several classes counts in each of them."""

    modalities: tuple[str, ...] = ()
    _all: _Sum = field(default_factory=_Sum)
    _of: dict[str, _Sum] = field(default_factory=dict)

    def add(self, selected: Selected) -> None:
        """Take in one item."""
        self.modalities = selected.modalities
        self._all.add(selected)
        for name in selected.labels:
            self._of.setdefault(name, _Sum()).add(selected)

    @property
    def items(self) -> int:
        """How many."""
        return self._all.items

    @property
    def nothing(self) -> int:
        """How many of them use no modality in any segment."""
        return self._all.nothing

    @property
    def accuracy(self) -> float | None:
        """The share of items whose best class is a label, of those that have one."""
        return self._all.accuracy

    @property
    def gflops(self) -> tuple[float, float] | None:
        """Of an item, and of one that uses everything; None where costs are not known."""
        found = self._all.gflops_of_item()
        return None if found is None else (found, self._all.gflops_all / self.items)

    def by_class(self) -> pa.Table:
        """A row per class that some item has: items, share of segments by modality, accuracy."""
        order = sorted(self._of)
        sums = [self._of[name] for name in order]
        columns: dict[str, Any] = {"class": order, "items": [one.items for one in sums]}
        for m, name in enumerate(self.modalities):
            columns[f"used_{name}"] = [float(one.used[m] / one.items) for one in sums]
        columns["accuracy"] = pa.array([one.accuracy for one in sums], pa.float64())
        columns["gflops"] = pa.array([one.gflops_of_item() for one in sums], pa.float64())
        return pa.table(columns)

    def by_modality(self) -> pa.Table:
        """A row per modality: mean share of an item's segments where it is there, and is used.

        And `items_using`, the share of the items that use it in any segment.
        """
        whole = self._all
        shares = {"there": whole.there, "used": whole.used, "items_using": whole.any}
        columns = {name: x / whole.items for name, x in shares.items()}
        return pa.table({"modality": list(self.modalities), **columns})
