"""How fast a training goes, and which part of the time it waits for data."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Meter:
    """Counts items, seconds and seconds of waiting since it was started."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self._begin, self._items, self._waited = time.perf_counter(), 0, 0.0

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, with the time taken until each is there."""
        coming = iter(batches)
        while True:
            begin = time.perf_counter()
            batch = next(coming, None)
            self._waited += time.perf_counter() - begin
            if batch is None:
                return
            yield batch
            del batch  # or its memory could not be lent again while the next one is read

    def count(self, items: int) -> None:
        """So many items more are learned."""
        self._items += items

    def read(self) -> dict[str, float]:
        """Items a second, and the share of the time that was waiting."""
        seconds = max(time.perf_counter() - self._begin, 1e-9)
        return {"items_per_second": self._items / seconds, "waiting": self._waited / seconds}
