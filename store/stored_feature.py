"""One feature as it lies in the store: what became of each video, and its rows by arithmetic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store import layout
from mmf.store.files import Files
from mmf.store.items import Items
from mmf.store.log import Log
from mmf.store.places import places
from mmf.store.rows import Rows
from mmf.store.spec import FeatureSpec
from mmf.store.track import Track


@dataclass(frozen=True, kw_only=True)
class Milliseconds:
    """What a row of a feature took where it was made, as measured; None: nobody has."""

    compute: float | None = None  # by the backbone: CPU, or a device's time
    decode: float | None = None  # its share of its file's CPU time, whatever else came of that pass


class StoredFeature:
    """A feature's spec, its array in the Zarr group, and its visible rows.

    A video is known by its position: its row in `outcomes`.
    """

    def __init__(self, files: Files, log: Log, value: Mapping[str, Any]):
        self._files = files
        self.spec = FeatureSpec.from_json(value["spec"])
        self.array: str = layout.checked_array(value["array"])
        self.geometry = layout.Geometry(**value["geometry"])
        self.geometry.check(self.spec)
        self.folder = files.root / layout.GROUP / self.array
        self.dtype = np.dtype(self.spec.dtype).newbyteorder("<")
        self._log = log
        self.shards = Rows(files, self.array, self.spec, self.geometry)
        self._outcomes: pa.Table | None = None

    @property
    def outcomes(self) -> pa.Table:
        """What became of each video, ordered by id; columns of `mmf.store.records.SCHEMA`."""
        self._index()
        return self._outcomes

    @property
    def rows(self) -> np.ndarray:
        """Rows of each video, (videos,)."""
        self._index()
        return self._rows

    @property
    def slots(self) -> np.ndarray:
        """The slot in which each video begins, (videos,)."""
        self._index()
        return self._slots

    @property
    def milliseconds_per_row(self) -> Milliseconds:
        """The mean over the rows that are there and were measured."""
        table, rows = self.outcomes, self.rows.astype(np.float64)
        per_row, per_file = (
            table[c].to_numpy().astype(np.float64) for c in ("row_seconds", "decode_seconds")
        )
        return Milliseconds(compute=_mean(per_row * rows, rows), decode=_mean(per_file, rows))

    def positions(self, video_ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Where videos stand in `outcomes`, int64; -1 where they do not."""
        return places(video_ids, self.outcomes["video_id"])

    def have_rows(self, video_ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Whether each of these videos has rows, bool."""
        at = self.positions(video_ids)
        some = at >= 0
        some[some] = self.rows[at[some]] > 0
        return some

    def with_rows(self) -> pa.ChunkedArray:
        """The videos that have rows, in order."""
        ids, some = self.outcomes["video_id"], self.rows > 0
        return ids if some.all() else ids.filter(pa.array(some))

    def position(self, video_id: str) -> int | None:
        """Where the video stands in `outcomes`."""
        found = int(self.positions(pa.array([video_id]))[0])
        return None if found < 0 else found

    def metadata(self) -> bytes:
        """The Zarr metadata that describes the rows in the log."""
        length = self._log.length(self.array, self.geometry.slot_rows)
        return layout.array_json(self.spec, self.geometry, length)

    def grow(self) -> None:
        """Bring the array's Zarr metadata up to the log, for the other tools that read it."""
        layout.grow(self._files, self.folder, self.metadata())

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
        self.shards.read(slots, int(self._starts[position]) + first, target)

    def read_spans(
        self, spans: np.ndarray, places: np.ndarray, target: np.ndarray, *, in_memory: bool = False
    ) -> None:
        """Fill `target[place, :rows]` for each of `spans`, as `spans` gives them, then with 0.

        `in_memory` says that memory can hold what is read in random order.
        """
        there = spans[:, 2] > 0
        for place in places[~there]:
            target[place] = 0
        (position, first, rows), places = spans[there].T, places[there]
        start = self._starts[position] + first
        straight = (start + rows <= self.geometry.slot_rows) & self.shards.fast
        pieces = np.stack([self._slots[position], start, rows, places], axis=1)
        self.shards.read_many(pieces[straight], target, in_memory=in_memory)
        for i in np.flatnonzero(~straight):
            self.read_rows(int(position[i]), int(first[i]), target[places[i], : rows[i]])
            target[places[i], rows[i] :] = 0

    def spans(self, items: Items, positions: np.ndarray) -> np.ndarray:
        """Int64 (B, 3): position of each item's video, its first row, its number of rows.

        An interval has the rows whose times lie in [start, end); where none does, the row that
        was current at its start. Position 0 and no rows where the video is not there.
        """
        spans = np.zeros((len(items), 3), dtype=np.int64)
        there = np.flatnonzero(positions >= 0)
        if not len(there):
            return spans
        spans[there, 0] = positions[there]
        spans[there, 2] = self.rows[positions[there]]
        if items.have_intervals:
            starts, ends = (items.column(name).to_numpy() for name in ("start", "end"))
            whole = np.isnan(starts) | np.isnan(ends)
            for i in there[~whole[there] & (spans[there, 2] > 0)]:
                start, end = float(starts[i]), float(ends[i])
                spans[i, 1:] = self._interval(int(spans[i, 0]), start, end)
        return spans

    def ranges(self, positions: np.ndarray, gap: int) -> Iterator[tuple[int, int, int]]:
        """(slot, byte offset, bytes) of videos in their first slots, in the order of the disk.

        Ranges closer than `gap` bytes are one.
        """
        if not self.shards.fast:
            return
        positions = positions[self.rows[positions] > 0]
        slots, row = self._slots[positions], self.spec.row_bytes
        offsets = self._starts[positions].astype(np.int64) * row
        ends = np.minimum(
            offsets + self._rows[positions].astype(np.int64) * row, self.geometry.slot_rows * row
        )
        by_place = np.lexsort((offsets, slots))
        slots, offsets, ends = slots[by_place], offsets[by_place], ends[by_place]
        apart = (slots[1:] != slots[:-1]) | (offsets[1:] > ends[:-1] + gap)
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(slots)]
        for a, b in pairwise(edges):
            if a < b:
                yield int(slots[a]), int(offsets[a]), int(ends[b - 1] - offsets[a])

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
        self._rows, self._slots, self._starts = (
            pc.fill_null(table[c], 0).to_numpy() for c in ("rows", "slot", "start")
        )
        more = table["more_slots"]
        split = np.flatnonzero(more.is_valid().to_numpy(zero_copy_only=False))
        self._more_slots = {int(i): more[int(i)].as_py() for i in split}
        self._check_rows_fit()

    def _check_rows_fit(self) -> None:
        """Rows that no slot holds are refused before memory is taken for them."""
        room, ends = self.geometry.slot_rows, self._starts.astype(np.int64) + self._rows
        for i in np.flatnonzero(ends > room):
            if ends[i] > room * (1 + len(self._more_slots.get(int(i), ()))):
                raise MmfError(
                    f"feature {self.spec.name!r} is damaged: its log gives video "
                    f"{self.outcomes['video_id'][int(i)].as_py()!r} {self._rows[i]} rows, which do "
                    "not fit into its slots. Restore the store from a copy."
                )


def _mean(seconds: np.ndarray, rows: np.ndarray) -> float | None:
    """Milliseconds of a row, of the videos that have rows and seconds."""
    known = np.isfinite(seconds) & (rows > 0)
    return 1e3 * float(seconds[known].sum() / rows[known].sum()) if known.any() else None
