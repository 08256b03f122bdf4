"""Batches of items: rows read straight into one array per feature."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from mmf import MmfError
from mmf.store.buffers import Buffers
from mmf.store.items import Item, Items

if TYPE_CHECKING:
    from mmf.store.feature_store import FeatureStore
    from mmf.store.stored_feature import StoredFeature

MOST_THREADS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Features and labels of some items; a feature that an item lacks has length 0 there."""

    items: Sequence[Item]
    values: dict[str, np.ndarray]  # feature → (B, T, *shape) in the stored dtype, padded with 0
    lengths: dict[str, np.ndarray]  # feature → int32 (B,), rows of each item
    labels: np.ndarray  # float32 (B, C), 1 where the class is positive
    rated: np.ndarray  # bool (B, C), False where nothing is known

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        shapes = {n: list(v.shape) for n, v in self.values.items()}
        return f"Batch({len(self)} items, {shapes}, {self.labels.shape[1]} classes)"

    def mask(self, feature: str) -> np.ndarray:
        """Bool (B, T): True where the feature has a row."""
        steps = np.arange(self.values[feature].shape[1])
        return steps[None, :] < self.lengths[feature][:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """How rows become batches."""

    features: Sequence[str]
    classes: int = 0
    max_steps: int | None = None  # at most so many evenly spaced rows of an item
    threads: int = 1  # that read at once
    check: bool = False  # compare each video's rows with their crc32c
    buffers: Buffers | None = None  # None: memory of its own for every batch

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= MOST_THREADS:
            raise MmfError(f"threads is {self.threads}; expected 1 to {MOST_THREADS}.")


def fill(
    store: "FeatureStore",
    items: Sequence[Item],
    reading: Reading,
    *,
    positions: Mapping[str, np.ndarray] | None = None,
    readers: Executor | None = None,
    in_memory: bool = False,
) -> Batch:
    """One batch of these very items; `positions` of their videos by feature, where known.

    `in_memory` says that memory can hold what is read in random order.
    """
    columns = Items.of(items)
    values, lengths, reads = {}, {}, []
    for name in reading.features:
        feature = store.stored(name)
        at = positions[name] if positions else feature.positions(columns.video_ids)
        one = _Target.of(feature, feature.spans(columns, at), reading, in_memory)
        values[name], lengths[name] = one.values, one.lengths
        parts = np.array_split(np.arange(len(columns)), reading.threads if readers else 1)
        reads += [(one, part) for part in parts]
    for _ in readers.map(_read, reads) if readers else map(_read, reads):
        pass
    labels, rated = columns.multi_hot(reading.classes)
    return Batch(items=columns, values=values, lengths=lengths, labels=labels, rated=rated)


def evenly(rows: int, n: int) -> np.ndarray:
    """The numbers of `n` of so many rows, each the middle of its share; int64 (n,)."""
    return ((np.arange(n) + 0.5) * rows / n).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Target:
    """Where the rows of one feature go."""

    feature: "StoredFeature"
    spans: np.ndarray  # int64 (B, 3), see StoredFeature.spans
    lengths: np.ndarray  # int32 (B,), rows to be kept of each
    values: np.ndarray  # (B, T, *shape), undefined as yet
    check: bool
    in_memory: bool

    @classmethod
    def of(
        cls, feature: "StoredFeature", spans: np.ndarray, reading: Reading, in_memory: bool
    ) -> "_Target":
        lengths = spans[:, 2].astype(np.int32)
        if reading.max_steps is not None:
            lengths = np.minimum(lengths, reading.max_steps)
        shape = (len(spans), max(1, int(lengths.max(initial=0))), *feature.spec.shape)
        lend = reading.buffers.lend if reading.buffers else np.empty
        values = lend(shape, feature.dtype)
        return cls(
            feature=feature,
            spans=spans,
            lengths=lengths,
            values=values,
            check=reading.check,
            in_memory=in_memory,
        )


def _read(task: tuple[_Target, np.ndarray]) -> None:
    """Fill the items numbered in `part`, and zero what they leave of their steps."""
    one, part = task
    whole = one.lengths[part] == one.spans[part, 2]
    spans = one.spans[part[whole]]
    one.feature.read_spans(spans, part[whole], one.values, in_memory=one.in_memory)
    for i in part[~whole]:
        position, first, rows = (int(n) for n in one.spans[i])
        every = np.empty((rows, *one.feature.spec.shape), dtype=one.feature.dtype)
        one.feature.read_rows(position, first, every)
        n = int(one.lengths[i])
        one.values[i, :n] = every[evenly(rows, n)]
        one.values[i, n:] = 0
    for i in part if one.check else ():
        _check(one.feature, one.spans[i], one.values[i, : one.lengths[i]])


def _check(feature: "StoredFeature", span: np.ndarray, values: np.ndarray) -> None:
    position, rows = int(span[0]), int(feature.rows[span[0]]) if span[2] else 0
    if not rows:
        return
    if len(values) != rows:
        values = np.empty((rows, *feature.spec.shape), dtype=feature.dtype)
        feature.read_rows(position, 0, values)
    row = feature.outcomes.slice(position, 1)
    if google_crc32c.value(values) != row["crc32c"][0].as_py():
        raise MmfError(
            f"the rows of video {row['video_id'][0].as_py()!r} of feature {feature.spec.name!r} "
            "are not those that were committed: their crc32c differs. `mmf verify` says what else."
        )
