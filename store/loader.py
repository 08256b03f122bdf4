"""Items in batches, epoch after epoch, for any model."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mmf import MmfError
from mmf.store import mapped
from mmf.store.ahead import Ahead
from mmf.store.batch import Batch, Reading, fill
from mmf.store.buffers import Buffers
from mmf.store.items import Item, Items
from mmf.store.order import WINDOW_BYTES, Order, Shuffle, balanced_order, by_group, order

if TYPE_CHECKING:
    from mmf.store.feature_store import FeatureStore


@dataclass(frozen=True, kw_only=True, eq=False)
class Loader(Reading):
    """A reading in an order, epoch after epoch; what it needs to know is found out once.

    The order is a pure function of (seed, epoch, rank, world_size) and the items: see
    `mmf.store.order`. ``shuffle=True`` is ``"window"``, which is ``"full"`` where the items' rows
    are not more than `window_bytes`. With `balance` every class comes as often as the others: see
    `balanced_order`. Each of `world_size` ranks has its own part of the epoch.
    The items are those that it was made with, whatever the store takes in later; with threads, no
    other thread may commit to or refresh this very store while an epoch runs.
    """

    store: "FeatureStore"
    items: Sequence[Item]
    batch_size: int = 128
    shuffle: Shuffle = True
    balance: bool = False  # every class as often as the others, whatever `shuffle` says
    seed: int = 0
    window_bytes: int = WINDOW_BYTES
    by_video: bool = False
    rank: int = 0
    world_size: int = 1
    buffers: Buffers = field(default_factory=Buffers)  # may be shared with others

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise MmfError(f"batch_size is {self.batch_size}; expected 1 or more.")
        if self.balance and self.by_video:
            raise MmfError(
                "balance takes items one by one, and by_video keeps those of a video together. "
                "Leave one of them."
            )
        self._order(0).of_rank(self.rank, self.world_size)  # now rather than in the first epoch

    def epoch(self, epoch: int = 0, *, start_batch: int = 0) -> Generator[Batch, None, None]:
        """One epoch from its batch `start_batch` on, at no cost; its last one may be smaller.

        While one batch is used, the system is asked for what comes next; with more than one
        thread, the next batch is read already. The memory of a batch that nobody keeps is used
        again for a later one.
        """
        left, ends = self._from(epoch, start_batch)
        features = {name: self.store.stored(name) for name in self.features}
        with ExitStack() as stack:
            ahead = Ahead(features, self._positions, left, in_memory=self._in_memory)
            stack.enter_context(ahead)
            if self.threads == 1:
                yield from self._batches(left, ends, ahead)
                return
            readers = stack.enter_context(ThreadPoolExecutor(self.threads))
            one = stack.enter_context(ThreadPoolExecutor(1))
            batches = self._batches(left, ends, ahead, readers)
            coming = one.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = one.submit(next, batches, None)
                yield batch
                del batch

    def _batches(
        self,
        left: Order,
        ends: np.ndarray,
        ahead: Ahead,
        readers: ThreadPoolExecutor | None = None,
    ) -> Iterator[Batch]:
        for start, end in pairwise([0, *ends.tolist()]):
            ahead.reached(start)
            numbers = left.items[start:end]
            at = {name: found[numbers] for name, found in self._positions.items()}
            part = self._columns.take(numbers)
            yield fill(
                self.store,
                part,
                self,
                positions=at,
                readers=readers,
                in_memory=self._in_memory,
            )

    @cached_property
    def _columns(self) -> Items:
        return Items.of(self.items)

    @property
    def _positions(self) -> dict[str, np.ndarray]:
        """Where each item's video stands, by feature; anew where the store has taken in more."""
        features = {name: self.store.stored(name) for name in self.features}
        tables = [feature.outcomes for feature in features.values()]
        known = self.__dict__.get("_known")
        if known is None or any(a is not b for a, b in zip(known[0], tables, strict=True)):
            ids = self._columns.video_ids
            known = tables, {name: feature.positions(ids) for name, feature in features.items()}
            self.__dict__["_known"] = known
        return known[1]

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """The slot of each item in the first feature that it has (-1: none), and its bytes."""
        slots = np.full(len(self.items), -1, dtype=np.int64)
        sizes = np.zeros(len(self.items), dtype=np.int64)
        for name, at in self._positions.items():
            feature = self.store.stored(name)
            there = np.flatnonzero(at >= 0)
            rows = feature.rows[at[there]].astype(np.int64)
            there, at, rows = there[rows > 0], at[there[rows > 0]], rows[rows > 0]
            sizes[there] += rows * feature.spec.row_bytes
            free = slots[there] < 0
            slots[there[free]] = feature.slots[at[free]]
        return slots, sizes

    @cached_property
    def _in_memory(self) -> bool:
        """Whether memory holds what is read in random order: a window, or everything."""
        total = int(self._places[1].sum())
        in_windows = self.shuffle in (True, "window") and not self.balance
        return (min(total, self.window_bytes) if in_windows else total) <= mapped.most_bytes()

    def _from(self, epoch: int, start_batch: int) -> tuple[Order, np.ndarray]:
        """What this rank reads from a batch on, and where its batches end in it."""
        size, whole = self.batch_size, self._order(epoch)
        if not self.by_video:
            left = whole.of_rank(self.rank, self.world_size).after(start_batch * size)
            n = len(left.items)
            return left, np.minimum(np.arange(size, n + size, size), n)
        items, video = by_group(whole, *self._videos)
        mine = (video % self.world_size == self.rank) & (
            video // self.world_size >= start_batch * size
        )
        items, batch = items[mine], video[mine] // self.world_size // size
        ends = np.flatnonzero(np.diff(batch, append=-1)) + 1
        return Order(items=items, ends=np.array([len(items)])), ends

    @cached_property
    def _videos(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of each item's video, and where it starts there; both (n,)."""
        codes = self._columns.video_ids.combine_chunks().dictionary_encode().indices
        return codes.to_numpy().astype(np.int64), self._columns.table["start"].to_numpy()

    @cached_property
    def _label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return self._columns.label_pairs()

    def _order(self, epoch: int) -> Order:
        if self.balance:
            n = len(self.items)
            return balanced_order(*self._label_pairs, n, seed=self.seed, epoch=epoch)
        slots, sizes = self._places
        return order(
            slots,
            sizes,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            window_bytes=self.window_bytes,
        )
