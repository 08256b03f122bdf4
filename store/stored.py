"""One feature as it lies in the store: what became of each video, and its rows by arithmetic."""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.store import layout
from mmf.store.catalog import Item
from mmf.store.feature import FeatureSpec, Track
from mmf.store.log import Log
from mmf.store.slot import read_into

_OPEN_SHARDS = 256  # file descriptors kept


class StoredFeature:
    """A feature's spec, its array in the Zarr group, and its visible rows.

    A video is known by its position: its row in `outcomes`.
    """

    def __init__(self, root: Path, log: Log, value: Mapping[str, Any]):
        self._root = root
        self.spec = FeatureSpec.from_json(value["spec"])
        self.array: str = value["array"]
        self.geometry = layout.Geometry(**value["geometry"])
        self.folder = root / layout.GROUP / self.array
        self.dtype = np.dtype(self.spec.dtype).newbyteorder("<")
        self._log = log
        self._fds: OrderedDict[int, int] = OrderedDict()  # slot → open file
        self._outcomes: pa.Table | None = None

    def __del__(self) -> None:
        for fd in getattr(self, "_fds", {}).values():
            os.close(fd)

    @property
    def outcomes(self) -> pa.Table:
        """What became of each video, ordered by id; columns of `mmf.store.log.SCHEMA`."""
        self._index()
        return self._outcomes

    @property
    def rows(self) -> np.ndarray:
        """Rows of each video, (videos,)."""
        self._index()
        return self._rows

    def position(self, video_id: str) -> int | None:
        """Where the video stands in `outcomes`."""
        self._index()
        return self._positions.get(video_id)

    def metadata(self) -> bytes:
        """The Zarr metadata that describes the rows in the log."""
        length = self._log.length(self.array, self.geometry.slot_rows)
        return layout.array_json(self.spec, self.geometry, length)

    def grow(self) -> None:
        """Bring the array's Zarr metadata up to the log, for the other tools that read it."""
        layout.grow(self.folder, self._root / "tmp", self.metadata())

    def times(self, position: int) -> np.ndarray:
        """Seconds of a video's rows, float64 (T,)."""
        return self._log.times(self.array, position)

    def read(self, video_id: str) -> Track:
        """The rows of one video as numbers; MmfError where it has none, with the reason."""
        position = self.position(video_id)
        outcome = self.outcomes.slice(position or 0, 1).to_pylist() if position is not None else []
        if position is None or outcome[0]["status"] != "done":
            why = f" ({outcome[0]['status']}: {outcome[0]['reason']})" if outcome else ""
            raise MmfError(f"video {video_id!r} has no rows of feature {self.spec.name!r}{why}.")
        values = np.empty((self.rows[position], *self.spec.shape), dtype=self.dtype)
        self.read_rows(position, 0, values)
        times = self.times(position)
        return Track(video_id=video_id, values=self.spec.decode(values), times=times)

    def read_rows(self, position: int, first: int, target: np.ndarray) -> None:
        """Fill `target` (n, *shape) with a video's stored rows from its row `first` on."""
        slots = [int(self._slots[position]), *self._more_slots.get(position, ())]
        at, capacity = int(self._starts[position]) + first, self.geometry.slot_rows
        while len(target):
            n = min(len(target), capacity - at % capacity)
            fd = self._open(slots[at // capacity])
            try:
                read_into(fd, target[:n], at % capacity * self.spec.row_bytes)
            except EOFError as error:
                raise MmfError(f"feature {self.spec.name!r} is damaged: {error}.") from None
            at, target = at + n, target[n:]

    def spans(self, items: Sequence[Item]) -> np.ndarray:
        """Int64 (B, 3): position of each item's video, its first row, its number of rows.

        An interval has the rows whose times lie in [start, end); where none does, the row that
        was current at its start.
        """
        spans = np.zeros((len(items), 3), dtype=np.int64)
        for i, item in enumerate(items):
            position = self.position(item.video_id)
            if position is None:
                continue
            spans[i] = position, 0, self.rows[position]
            if item.start is not None and item.end is not None and self.rows[position]:
                spans[i, 1:] = self._interval(position, item.start, item.end)
        return spans

    def _interval(self, position: int, start: float, end: float) -> tuple[int, int]:
        times = self.times(position)
        first, last = (int(n) for n in np.searchsorted(times, [start, end]))
        rate = self.spec.rate
        if first == last and first > 0 and rate and start < times[first - 1] + 1 / rate:
            first -= 1
        return first, last - first

    def _index(self) -> None:
        """Bring the columns that reading needs up to what is visible now."""
        table = self._log.visible(self.array)
        if table is self._outcomes:
            return
        self._outcomes = table
        self._rows = table["rows"].to_numpy()
        self._slots = table["slot"].to_numpy()
        self._starts = table["start"].to_numpy()
        self._positions = {v: i for i, v in enumerate(table["video_id"].to_pylist())}
        more = table["more_slots"]
        split = np.flatnonzero(more.is_valid().to_numpy(zero_copy_only=False))
        self._more_slots = {int(i): more[int(i)].as_py() for i in split}

    def _open(self, slot: int) -> int:
        if slot not in self._fds:
            path = self.folder / layout.shard_name(slot, self.spec)
            try:
                self._fds[slot] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise MmfError(
                    f"the store has lost {str(path)!r}. Restore it from a copy."
                ) from None
            if len(self._fds) > _OPEN_SHARDS:
                os.close(self._fds.popitem(last=False)[1])
        self._fds.move_to_end(slot)
        return self._fds[slot]
