"""The rows of one array: exact byte ranges by arithmetic.

That rests on a contract: uncompressed shards of whole rows, written by `SlotWriter`. It is checked
once, when the array is opened, by its Zarr metadata. An array for which it does not hold, such as
one that another tool has written anew with a codec, is read through zarr-python: the same rows,
slower by far.
"""

import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from mmf import MmfError
from mmf.store import layout
from mmf.store.feature import FeatureSpec
from mmf.store.files import Files, OpenShard
from mmf.store.slot import read_into

logger = logging.getLogger(__name__)

_MOST_VIEWS = 1000  # of one call; Linux takes 1,024
_CONTRACT = ("data_type", "chunk_grid", "chunk_key_encoding", "codecs")


class Rows:
    """Reads the rows of an array into the caller's memory; several threads may do so at once."""

    def __init__(self, files: Files, array: str, spec: FeatureSpec, geometry: layout.Geometry):
        self._files, self._spec, self._geometry = files, spec, geometry
        self._folder = files.root / layout.GROUP / array
        self.far = files.far  # whether each read of what was not asked for is a request
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()
        self._zarr: Any = None
        self.fast = self._as_written()  # whether rows are where arithmetic says

    def read(self, slots: Sequence[int], at: int, target: np.ndarray) -> None:
        """Fill `target` (n, *shape) from row `at` of the first of these slots on."""
        capacity = self._geometry.slot_rows
        while len(target):
            n = min(len(target), capacity - at % capacity)
            slot, start = slots[at // capacity], at % capacity
            if not self.fast:
                self._read_zarr(slot * capacity + start, target[:n])
            else:
                self._read_all(self._shard(slot), target[:n], start * self._spec.row_bytes)
            at, target = at + n, target[n:]

    def read_many(self, pieces: np.ndarray, target: np.ndarray) -> None:
        """Fill `target[place, :count]` from row `start` of `slot` on.

        `pieces` is int64 (n, 4): slot, start, count, place; none reaches beyond its slot. Those
        that follow each other in a file are one read.
        """
        if not len(pieces):
            return
        slots, starts, counts, places = pieces[np.lexsort((pieces[:, 1], pieces[:, 0]))].T
        joined = (slots[1:] == slots[:-1]) & (starts[1:] == starts[:-1] + counts[:-1])
        joined[_MOST_VIEWS - 1 :: _MOST_VIEWS] = False
        edges = [0, *(np.flatnonzero(~joined) + 1).tolist(), len(slots)]
        row = self._spec.row_bytes
        files, offsets = slots.tolist(), (starts * row).tolist()
        begins = places * (target.shape[1] * row)
        ends = (begins + counts * row).tolist()
        begins = begins.tolist()
        flat = memoryview(target.data).cast("B")
        shard, last = self._shard(files[0]), files[0]
        for i in range(len(files)) if self.far else ():
            self.advise(files[i], offsets[i], ends[i] - begins[i])  # all before one is waited for
        for a, b in pairwise(edges):
            if files[a] != last:
                shard, last = self._shard(files[a]), files[a]
            views = [flat[begins[i] : ends[i]] for i in range(a, b)]
            size = offsets[b - 1] + ends[b - 1] - begins[b - 1] - offsets[a]
            shard.need(offsets[a], size)
            if os.preadv(shard.fd, views, offsets[a]) != size:
                for i in range(a, b):  # a read may be short
                    part = np.frombuffer(flat[begins[i] : ends[i]], dtype=np.uint8)
                    self._read_all(shard, part, offsets[i])

    def advise(self, slot: int, offset: int, size: int) -> None:
        """Ask the system to bring bytes of a slot into the page cache."""
        self._shard(slot).want(offset, size)

    def cached(self, slot: int, offset: int) -> bool:
        """Whether a byte of a slot is in the page cache; reads nothing from the disk."""
        return self._shard(slot).has(offset)

    def _read_all(self, shard: OpenShard, target: np.ndarray, offset: int) -> None:
        try:
            read_into(shard, target, offset)
        except EOFError as error:
            raise MmfError(f"feature {self._spec.name!r} is damaged: {error}.") from None

    def _shard(self, slot: int) -> OpenShard:
        with self._lock:
            shard = self._open.pop(slot, None) or self._files.open_shard(
                self._folder / layout.shard_name(slot, self._spec)
            )
            self._open[slot] = shard  # the last one used is the last one
            if len(self._open) > self._files.most_open:
                self._open.popitem(last=False)
            return shard

    def _as_written(self) -> bool:
        try:
            found = json.loads((self._folder / "zarr.json").read_bytes())
            found = [found[key] for key in _CONTRACT]
        except (OSError, ValueError, KeyError, TypeError):
            return True  # lost or damaged, as `verify` says; the log and the spec say what it was
        ours = json.loads(layout.array_json(self._spec, self._geometry, 0))
        return found == [ours[key] for key in _CONTRACT]

    def _read_zarr(self, start: int, target: np.ndarray) -> None:
        with self._lock:
            if self._zarr is None:
                self._zarr = self._through_zarr()
        try:
            target[...] = self._zarr[start : start + len(target)]
        except (OSError, ValueError, RuntimeError) as error:
            raise self._foreign(error) from error

    def _through_zarr(self) -> Any:
        import zarr  # half a second that only such arrays need

        if self.far:
            raise MmfError(
                f"feature {self._spec.name!r} is not stored as mmf writes it, and in a bucket "
                f"only that can be read. Copy {self._files.name!r} to a disk and open it there."
            )

        try:
            array = zarr.open_array(str(self._folder), mode="r", zarr_format=3)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._foreign(error) from error
        logger.warning(
            "feature %r is not stored as mmf writes it (%s), so it is read through zarr-python, "
            "which is slower by far; export it and add it anew to read it fast",
            *(self._spec.name, self._folder / "zarr.json"),
        )
        return array

    def _foreign(self, error: Exception) -> MmfError:
        return MmfError(
            f"feature {self._spec.name!r} is not stored as mmf writes it, and zarr-python cannot "
            f"read it: {error}. If {str(self._folder / 'zarr.json')!r} is damaged, `mmf repair` "
            "writes it anew."
        )
