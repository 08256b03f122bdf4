"""Reading ahead: the system is asked for the bytes of the next items while these are used.

It brings them into the page cache in the order of the disk, many at once; so a window costs what
reading its files from end to end costs, and the process itself needs no memory for it.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from mmf import MmfError
from mmf.store.order import Order
from mmf.store.rows import Rows

if TYPE_CHECKING:
    from mmf.store.stored_feature import StoredFeature

_FEW = 1024  # items asked for at once where the order has no windows
_GAP_BYTES = 256 << 10  # read along rather than left out
_PIECE_BYTES = 8 << 20
_SAMPLE = 32  # ranges that tell whether a unit is in the page cache


class Ahead:
    """Asks for the items of an order one unit, a window or a few batches, before they are read."""

    def __init__(
        self,
        features: Mapping[str, "StoredFeature"],
        positions: Mapping[str, np.ndarray],
        order: Order,
        *,
        in_memory: bool = False,
    ):
        self._features, self._positions, self._order = features, positions, order
        self._in_memory = in_memory
        n = len(order.items)
        # what memory holds is wanted whole: in the order of the disk, as a window is
        few = np.array([n]) if in_memory else np.arange(_FEW, n + _FEW, _FEW)
        self._ends = np.minimum(order.ends if len(order.ends) > 1 else few, n)
        self._reached = self._asked = 0
        self._far = any(feature.shards.far for feature in features.values())
        self._news = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="mmf-ahead")

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        with self._news:
            self._stopped = True
            self._news.notify_all()
        self._thread.join()
        for feature in self._features.values():
            feature.shards.let_go()

    def reached(self, item: int) -> None:
        """Say that the item of this number in the order is read now."""
        with self._news:
            self._reached = item
            self._news.notify_all()
            # bytes that are asked for item by item cost a request each
            while self._far and self._asked <= item and self._thread.is_alive():
                self._news.wait(1.0)

    def _run(self) -> None:
        begin = 0
        for end in self._ends.tolist():
            unit = self._order.items[begin:end]
            # asking for what is there takes a third of the time of reading it
            if not self._has(unit[:: max(1, len(unit) // _SAMPLE)]):
                for shards, *where in self._ranges(unit):
                    if self._stopped:
                        return
                    with suppress(MmfError, OSError):  # whoever reads it will say what is wrong
                        shards.bring(*where, in_memory=self._in_memory)
            with self._news:  # the next unit once this one is begun
                self._asked = end
                self._news.notify_all()
                while not self._stopped and self._reached < begin:
                    self._news.wait()
            begin = end

    def _has(self, items: np.ndarray) -> bool:
        try:
            return all(
                shards.has(slot, offset, in_memory=self._in_memory)
                for shards, slot, offset, _ in self._ranges(items)
            )
        except (MmfError, OSError):
            return True

    def _ranges(self, items: np.ndarray) -> Iterator[tuple[Rows, int, int, int]]:
        for name, feature in self._features.items():
            position = self._positions[name][items]
            for slot, offset, size in feature.ranges(position[position >= 0], _GAP_BYTES):
                for part in range(offset, offset + size, _PIECE_BYTES):
                    yield feature.shards, slot, part, min(_PIECE_BYTES, offset + size - part)
