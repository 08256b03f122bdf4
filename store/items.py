"""What is labelled and predicted: one item, or millions as columns without an object each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LABELS = pa.schema(
    [
        ("video_id", pa.string()),
        ("start", pa.float64()),  # seconds; null: the whole video
        ("end", pa.float64()),
        ("labels", pa.list_(pa.int32())),  # positive classes
        ("unrated", pa.list_(pa.int32())),  # classes of which nothing is known …
        ("rated", pa.list_(pa.int32())),  # … or, where few are known, those; null: not so
    ]
)
_LISTS = ("labels", "unrated", "rated")

ItemKey = str | tuple[str, float, float]


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is labelled and predicted: a whole video, or an interval of one in seconds."""

    video_id: str
    start: float | None = None
    end: float | None = None
    split: str | None = None
    labels: tuple[int, ...] = ()
    unrated: tuple[int, ...] = ()
    rated: tuple[int, ...] | None = None  # if given, nothing is known of any other class

    @property
    def id(self) -> str:
        """``video_id``, or ``video_id@start-end``."""
        if self.start is None or self.end is None:
            return self.video_id
        return f"{self.video_id}@{self.start:.12g}-{self.end:.12g}"


class _Lists:
    """The columns of lists of a table as NumPy has them: a batch's are found without Arrow."""

    def __init__(self, table: pa.Table):
        self._table = table
        self._found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def pairs(self, column: str, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place in `at`, number in the list there) of every number in the lists of rows `at`."""
        first, count, numbers = self._column(column)
        counts = count[at]
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        places = np.repeat(np.arange(len(at)), counts)
        return places, numbers[np.repeat(first[at], counts) + within]

    def valid(self, column: str, at: np.ndarray) -> np.ndarray:
        """Whether rows `at` have a list, which may be empty."""
        return self._column(f"{column}?")[1][at]

    def _column(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if name not in self._found:
            lists = self._table[name.rstrip("?")]
            if name.endswith("?"):
                none = np.empty(0, dtype=np.int64)
                self._found[name] = none, lists.is_valid().to_numpy(), none
            else:
                count = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
                numbers = pc.list_flatten(lists).to_numpy()
                self._found[name] = np.cumsum(count) - count, count, numbers
        return self._found[name]


class Items(Sequence[Item]):
    """A sequence of `Item`, made as they are asked for; a slice is again Items.

    `table` has the columns of LABELS and `split`; `at` says which of its rows
    are meant, None all.
    """

    def __init__(self, table: pa.Table, at: np.ndarray | None = None, lists: _Lists | None = None):
        self._whole, self._at = table, at
        self._lists = lists or _Lists(table)

    @cached_property
    def table(self) -> pa.Table:
        """The rows that are meant."""
        return self._whole if self._at is None else self._whole.take(pa.array(self._at))

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Items":
        """The same items as columns."""
        if isinstance(items, Items):
            return items
        names = [*LABELS.names, "split"]
        columns = {n: [getattr(i, n) for i in items] for n in names}
        return cls(pa.table(columns, schema=LABELS.append(pa.field("split", pa.string()))))

    @classmethod
    def of_videos(cls, video_ids: pa.Array) -> "Items":
        """Whole videos of which nothing is said."""
        none = {n: pa.nulls(len(video_ids), LABELS.field(n).type) for n in LABELS.names[1:]}
        lists = pa.array([[]], LABELS.field("labels").type).take(
            pa.array(np.zeros(len(video_ids), np.int64))
        )
        split = pa.nulls(len(video_ids), pa.string())
        columns = {"video_id": video_ids, **none, "labels": lists, "unrated": lists, "split": split}
        return cls(pa.table(columns))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of `table`, which is not made for it."""
        whole = self._whole[name]
        return whole if self._at is None else whole.take(pa.array(self._at))

    @property
    def video_ids(self) -> pa.ChunkedArray:
        """The video of each item."""
        return self.column("video_id")

    def lengths(self, name: str) -> np.ndarray:
        """How many numbers each item has in a column of lists; 0 where it has no list."""
        return pc.fill_null(pc.list_value_length(self.column(name)), 0).to_numpy()

    def label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(place, class) of every positive label; an item without one has the class -1."""
        places, classes = self._lists.pairs("labels", self._rows(np.arange(len(self))))
        none = np.flatnonzero(self.lengths("labels") == 0)
        return np.concatenate([places, none]), np.concatenate([classes, np.full(len(none), -1)])

    def with_splits(self, splits: pa.ChunkedArray) -> "Items":
        """The same items, in these splits."""
        at = self.table.schema.get_field_index("split")
        return Items(self.table.set_column(at, "split", splits))

    @property
    def have_intervals(self) -> bool:
        """Whether any item, or any of which these are a part, is not a whole video."""
        return self._whole["start"].null_count < len(self._whole)

    def take(self, numbers: np.ndarray) -> "Items":
        """These items, in this order."""
        return Items(self._whole, self._rows(numbers), self._lists)

    def _rows(self, numbers: np.ndarray) -> np.ndarray:
        return numbers if self._at is None else self._at[numbers]

    def multi_hot(self, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Float32 (B, C), 1 where a class is positive; bool (B, C), False where it is unrated."""
        labels = np.zeros((len(self), classes), dtype=np.float32)
        rated = np.ones((len(self), classes), dtype=bool)
        if classes:
            rows, lists = self._rows(np.arange(len(self))), self._lists
            labels[lists.pairs("labels", rows)] = 1
            rated[lists.valid("rated", rows)] = False
            rated[lists.pairs("rated", rows)] = True
            rated[lists.pairs("unrated", rows)] = False
        return labels, rated

    def __len__(self) -> int:
        return len(self._whole) if self._at is None else len(self._at)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> "Items": ...
    def __getitem__(self, at: int | slice) -> "Item | Items":
        if isinstance(at, slice):
            return self.take(np.arange(*at.indices(len(self))))
        if not -len(self) <= at < len(self):
            raise IndexError(f"item {at} of {len(self)}")
        return _items(self.take(np.array([at % len(self)])).table)[0]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), 4096):
            yield from _items(self[start : start + 4096].table)

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
