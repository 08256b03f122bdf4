"""Items as columns: millions of them without a Python object each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf.store.catalog import LABELS, Item

_LISTS = ("labels", "unrated", "rated")


@dataclass(frozen=True, kw_only=True, eq=False)
class Items(Sequence[Item]):
    """A sequence of `Item`, made as they are asked for; a slice is again Items.

    `table` has the columns of `mmf.store.catalog.LABELS` and `split`.
    """

    table: pa.Table

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Items":
        """The same items as columns."""
        if isinstance(items, Items):
            return items
        names = [*LABELS.names, "split"]
        columns = {n: [getattr(i, n) for i in items] for n in names}
        return cls(table=pa.table(columns, schema=LABELS.append(pa.field("split", pa.string()))))

    @classmethod
    def of_videos(cls, video_ids: pa.Array) -> "Items":
        """Whole videos of which nothing is said."""
        none = {n: pa.nulls(len(video_ids), LABELS.field(n).type) for n in LABELS.names[1:]}
        lists = pa.array([[]], LABELS.field("labels").type).take(
            pa.array(np.zeros(len(video_ids), np.int64))
        )
        split = pa.nulls(len(video_ids), pa.string())
        columns = {"video_id": video_ids, **none, "labels": lists, "unrated": lists, "split": split}
        return cls(table=pa.table(columns))

    @property
    def video_ids(self) -> pa.ChunkedArray:
        """The video of each item."""
        return self.table["video_id"]

    @property
    def have_intervals(self) -> bool:
        """Whether any item is not a whole video."""
        return self.table["start"].null_count < len(self)

    def take(self, numbers: np.ndarray) -> "Items":
        """These items, in this order."""
        return Items(table=self.table.take(pa.array(numbers)))

    def multi_hot(self, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Float32 (B, C), 1 where a class is positive; bool (B, C), False where it is unrated."""
        labels = np.zeros((len(self), classes), dtype=np.float32)
        rated = np.ones((len(self), classes), dtype=bool)
        if classes:
            labels[self._pairs("labels")] = 1
            rated[self.table["rated"].is_valid().to_numpy()] = False
            rated[self._pairs("rated")] = True
            rated[self._pairs("unrated")] = False
        return labels, rated

    def _pairs(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """(item, class) of every class in a column of lists."""
        lists = self.table[column]
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        return np.repeat(np.arange(len(self)), counts), pc.list_flatten(lists).to_numpy()

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> "Items": ...
    def __getitem__(self, at: int | slice) -> "Item | Items":
        if isinstance(at, slice):
            return self.take(np.arange(*at.indices(len(self))))
        if not -len(self) <= at < len(self):
            raise IndexError(f"item {at} of {len(self)}")
        return _items(self.table.slice(at % len(self), 1))[0]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), 4096):
            yield from _items(self.table.slice(start, 4096))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self.video_ids.to_pylist()))

    def __repr__(self) -> str:
        return f"Items({len(self)} of {pc.count_distinct(self.video_ids).as_py()} videos)"


def _items(table: pa.Table) -> list[Item]:
    columns = {name: table[name].to_pylist() for name in table.column_names}
    for name in _LISTS:
        columns[name] = [None if v is None else tuple(v) for v in columns[name]]
    rows = zip(*columns.values(), strict=True)
    return [Item(**dict(zip(columns, row, strict=True))) for row in rows]
