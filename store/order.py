"""The order of an epoch: a pure function of (seed, epoch, rank, world size) and what is stored.

``full`` is a permutation of all items. ``window`` serves sets that are larger than memory: the
slots (files) are permuted and taken together until a window is full of bytes, and the items of a
window are permuted; so the page cache is the shuffle buffer. A set that fits one window has the
same order either way.

With several ranks each takes every `world_size`-th item of the one order: all items once in an
epoch, none left out and none twice; the first ``n % world_size`` ranks have one item more.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmf import MmfError, unknown

WINDOW_BYTES = 1 << 30
Shuffle = Literal["window", "full"] | bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Numbers of the items in the order in which they are read, and where windows end in it."""

    items: np.ndarray  # int64 (n,)
    ends: np.ndarray  # int64 (windows,)

    @classmethod
    def as_given(cls, n: int) -> "Order":
        """One after the other."""
        return cls(items=np.arange(n), ends=np.array([n]))

    def of_rank(self, rank: int, world_size: int) -> "Order":
        """The part of one of several readers."""
        if not 0 <= rank < world_size:
            raise MmfError(f"rank {rank} of {world_size}: expected 0 to world_size - 1.")
        return Order(
            items=self.items[rank::world_size],
            ends=(self.ends - rank + world_size - 1) // world_size,
        )

    def after(self, n: int) -> "Order":
        """What is left after the first `n` items."""
        return Order(items=self.items[n:], ends=np.maximum(self.ends - n, 0))


def epoch_order(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """A permutation of 0…n-1 that depends on (seed, epoch) and on nothing else."""
    return _random(seed, epoch, stream=0).permutation(n)


def order(
    slots: np.ndarray,
    sizes: np.ndarray,
    *,
    shuffle: Shuffle = True,
    seed: int = 0,
    epoch: int = 0,
    window_bytes: int = WINDOW_BYTES,
) -> Order:
    """The order of items that lie in `slots` (-1: in none) and have `sizes` bytes, both (n,)."""
    n = len(slots)
    if shuffle not in (True, False, "window", "full"):
        raise unknown("shuffle", str(shuffle), ("window", "full"))
    if shuffle is False:
        return Order.as_given(n)
    permuted = epoch_order(n, seed=seed, epoch=epoch)
    if shuffle == "full" or sizes.sum() <= window_bytes:
        return Order(items=permuted, ends=np.array([n]))
    windows = _windows(slots, sizes, _random(seed, epoch, stream=1), window_bytes)
    by_window = np.argsort(windows[permuted], kind="stable")
    return Order(items=permuted[by_window], ends=np.cumsum(np.bincount(windows)))


def _windows(
    slots: np.ndarray, sizes: np.ndarray, random: np.random.Generator, window_bytes: int
) -> np.ndarray:
    """The window of each item: slots in random order, cut where a window is full."""
    size_of_slot = np.bincount(slots + 1, weights=sizes)
    shuffled = random.permutation(len(size_of_slot))
    before = np.cumsum(size_of_slot[shuffled]) - size_of_slot[shuffled]
    window = (before // window_bytes).astype(np.int64)
    _, window = np.unique(window, return_inverse=True)  # a slot larger than a window leaves a gap
    kind = np.uint16 if window[-1] < 1 << 16 else np.int64  # NumPy sorts uint16 by radix
    of_slot = np.empty(len(window), dtype=kind)
    of_slot[shuffled] = window
    return of_slot[slots + 1]


def _random(seed: int, epoch: int, *, stream: int) -> np.random.Generator:
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, 0, 0, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def balanced_order(
    items: np.ndarray, classes: np.ndarray, n: int, *, seed: int, epoch: int
) -> Order:
    """`n` items in random order, every class as often as the others.

    `items` and `classes` are the pairs (item, a class of it). Each class gives equally many, its
    own items in turn; an item of several classes stands for each of them.
    """
    random = _random(seed, epoch, stream=2)
    shuffled = random.permutation(len(items))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    _, counts = np.unique(classes, return_counts=True)
    if not len(counts):
        return Order.as_given(0)
    place = random.permutation(n)
    which, turn = place % len(counts), place // len(counts)
    first = np.cumsum(counts) - counts
    chosen = items[by_class[first[which] + turn % counts[which]]]
    return Order(items=chosen, ends=np.array([n]))


def by_group(order: Order, groups: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The items of each group side by side, and the number of each one's group, both (n,).

    Groups come as their first items do in `order`, and the items of one by `within`; `groups` and
    `within` say it of every item by number.
    """
    place = np.empty(len(groups), dtype=np.int64)
    place[order.items] = np.arange(len(groups))
    first = np.full(groups.max(initial=-1) + 1, len(groups))
    np.minimum.at(first, groups, place)
    items = np.lexsort((within, first[groups]))
    return items, np.unique(first[groups[items]], return_inverse=True)[1]
