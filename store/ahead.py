"""Reading ahead: the system is asked for the bytes of the next items while these are used.

It brings them into the page cache in the order of the disk, many at once; so a window costs what
reading its files from end to end costs, and the process itself needs no memory for it.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mmf import MmfError
from mmf.store.order import Order

if TYPE_CHECKING:
    from mmf.store.stored import StoredFeature

_BATCHES = 8  # asked for at once where the order has no windows
_GAP_BYTES = 256 << 10  # read along rather than left out
_PIECE_BYTES = 8 << 20


class Ahead:
    """Asks for the items of an order one unit, a window or a few batches, before they are read."""

    def __init__(
        self,
        features: Mapping[str, "StoredFeature"],
        positions: Mapping[str, np.ndarray],
        order: Order,
        *,
        batch_size: int,
    ):
        self._features, self._positions, self._order = features, positions, order
        step = _BATCHES * batch_size
        few = np.arange(step, len(order.items) + step, step)
        self._ends = np.minimum(order.ends if len(order.ends) > 1 else few, len(order.items))
        self._reached = 0
        self._news = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="mmf-ahead")

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        with self._news:
            self._stopped = True
            self._news.notify()
        self._thread.join()

    def reached(self, item: int) -> None:
        """Say that the item of this number in the order is read now."""
        with self._news:
            self._reached = item
            self._news.notify()

    def _run(self) -> None:
        begin = 0
        for end in self._ends.tolist():
            for feature, slot, offset, size in self._ranges(self._order.items[begin:end]):
                if self._stopped:
                    return
                try:
                    feature.shards.advise(slot, offset, size)
                except (MmfError, OSError):
                    continue  # whoever reads it will say what is wrong
            with self._news:  # the next unit once this one is begun
                while not self._stopped and self._reached < begin:
                    self._news.wait()
            begin = end

    def _ranges(self, items: np.ndarray) -> Iterator[tuple["StoredFeature", int, int, int]]:
        for name, feature in self._features.items():
            position = self._positions[name][items]
            for slot, offset, size in feature.ranges(position[position >= 0], _GAP_BYTES):
                for part in range(offset, offset + size, _PIECE_BYTES):
                    yield feature, slot, part, min(_PIECE_BYTES, offset + size - part)
