"""Batches of items: the order of an epoch, and rows read straight into one array per feature."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmf import MmfError
from mmf.store.catalog import Item

if TYPE_CHECKING:
    from mmf.store.reader import FeatureStore


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Features and labels of some items; a feature that an item lacks has length 0 there."""

    items: tuple[Item, ...]
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


def epoch_order(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """A permutation of 0…n-1 that depends on (seed, epoch) and on nothing else."""
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)


def batches(
    store: "FeatureStore",
    items: Sequence[Item],
    features: Sequence[str],
    *,
    size: int,
    classes: int,
    max_steps: int | None = None,
) -> Iterator[Batch]:
    """The items in batches of `size`, in order; the last one may be smaller."""
    if size < 1:
        raise MmfError(f"batch_size is {size}; expected 1 or more.")
    for i in range(0, len(items), size):
        yield fill(store, items[i : i + size], features, classes=classes, max_steps=max_steps)


def fill(
    store: "FeatureStore",
    items: Sequence[Item],
    features: Sequence[str],
    *,
    classes: int,
    max_steps: int | None = None,
) -> Batch:
    """One batch of these very items."""
    values, lengths = {}, {}
    for feature in features:
        values[feature], lengths[feature] = _read(store, items, feature, max_steps)
    labels = np.zeros((len(items), classes), dtype=np.float32)
    rated = np.ones((len(items), classes), dtype=bool)
    for i, item in enumerate(items if classes else ()):
        labels[i, list(item.labels)] = 1
        if item.rated is not None:
            rated[i] = False
            rated[i, list(item.rated)] = True
        rated[i, list(item.unrated)] = False
    return Batch(items=tuple(items), values=values, lengths=lengths, labels=labels, rated=rated)


def _read(
    store: "FeatureStore", items: Sequence[Item], feature: str, max_steps: int | None
) -> tuple[np.ndarray, np.ndarray]:
    stored = store.stored(feature)
    spans = stored.spans(items)  # (B, 3): position of the video, first row, rows
    lengths = spans[:, 2].astype(np.int32)
    if max_steps is not None:
        lengths = np.minimum(lengths, max_steps)
    steps = max(1, int(lengths.max(initial=0)))
    values = np.zeros((len(items), steps, *stored.spec.shape), dtype=stored.dtype)
    for i in np.lexsort((spans[:, 1], spans[:, 0])):  # in the order of the disk
        position, first, rows = (int(n) for n in spans[i])
        if rows > lengths[i]:  # evenly spaced, each the middle of its share
            every = np.empty((rows, *stored.spec.shape), dtype=stored.dtype)
            stored.read_rows(position, first, every)
            keep = ((np.arange(lengths[i]) + 0.5) * rows / lengths[i]).astype(np.int64)
            values[i, : lengths[i]] = every[keep]
        elif rows:
            stored.read_rows(position, first, values[i, :rows])
    return values, lengths
