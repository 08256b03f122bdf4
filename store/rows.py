"""The rows of one array: exact byte ranges by arithmetic.

That rests on a contract: uncompressed shards of whole rows, written by `SlotWriter`. It is checked
once, when the array is opened, by its Zarr metadata; an array for which it does not hold is read
by `mmf.store.foreign`.

Rows that memory can hold are copied from the file's pages (`mmf.store.mapped`); others, and all
where that cannot be, by `preadv` straight into the caller's memory.
"""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mmf import MmfError
from mmf.store import layout, mapped
from mmf.store.files import Files, OpenShard
from mmf.store.foreign import Foreign
from mmf.store.slot import read_into
from mmf.store.spec import FeatureSpec

_MOST_VIEWS = 1000  # of one call; Linux takes 1,024
_MOST_MAPS = 16_384  # Linux gives a process 65,530
_CONTRACT = ("data_type", "chunk_grid", "chunk_key_encoding", "codecs")


class Rows:
    """Reads the rows of an array into the caller's memory; several threads may do so at once.

    With `in_memory`, methods map shards where that may be.
    """

    def __init__(self, files: Files, array: str, spec: FeatureSpec, geometry: layout.Geometry):
        self._files, self._spec, self._geometry = files, spec, geometry
        self._folder = files.root / layout.GROUP / array
        self.far = files.far  # whether each read of what was not asked for is a request
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._maps: dict[int, mapped.Mapped] = {}  # they need no open file
        self._lock = threading.Lock()
        self._foreign = Foreign(self._folder, spec.name, files)
        self.fast = self._as_written()  # whether rows are where arithmetic says

    def read(self, slots: Sequence[int], at: int, target: np.ndarray) -> None:
        """Fill `target` (n, *shape) from row `at` of the first of these slots on."""
        capacity = self._geometry.slot_rows
        while len(target):
            n = min(len(target), capacity - at % capacity)
            slot, start = slots[at // capacity], at % capacity
            if not self.fast:
                self._foreign.read(slot * capacity + start, target[:n])
            else:
                self._read_all(self._shard(slot), target[:n], start * self._spec.row_bytes)
            at, target = at + n, target[n:]

    def read_many(self, pieces: np.ndarray, target: np.ndarray, *, in_memory: bool = False) -> None:
        """Fill `target[place, :count]` from row `start` of `slot` on, and the place's rest with 0.

        `pieces` is int64 (n, 4): slot, start, count, place; none reaches beyond its slot.
        """
        if not len(pieces):
            return
        slots, starts, counts, places = pieces[np.lexsort((pieces[:, 1], pieces[:, 0]))].T
        row = self._spec.row_bytes
        width = target.shape[1] * row
        begins = places * width
        parts = np.stack([slots, starts * row, begins, begins + counts * row])
        flat = target.reshape(-1).view(np.uint8)
        if self._maps_them(in_memory):
            self._copy(parts, flat, width)
        else:
            self._preadv(parts, flat)
            for begin, end in parts[2:].T.tolist():
                flat[end : begin + width] = 0

    def _copy(self, parts: np.ndarray, flat: np.ndarray, width: int) -> None:
        """`parts` is (4, n): slot, offset there in bytes, and from where to where in `flat`."""
        last, there = -1, flat
        for slot, offset, begin, end in zip(*parts.tolist(), strict=True):
            if slot != last:
                last, shard = slot, self._mapped(slot)
                there = shard.bytes
            if not shard.whole:
                shard.bring(offset, end - begin)
            flat[begin:end] = there[offset : offset + end - begin]
            flat[end : begin + width] = 0

    def _preadv(self, parts: np.ndarray, flat: np.ndarray) -> None:
        """Likewise; those that follow each other in a file are one read."""
        slots, offsets, begins, ends = parts
        sizes = ends - begins
        follows = (slots[1:] == slots[:-1]) & (offsets[1:] == offsets[:-1] + sizes[:-1])
        follows[_MOST_VIEWS - 1 :: _MOST_VIEWS] = False
        edges = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(slots)]
        slots, offsets, begins, ends = parts.tolist()
        for i, size in enumerate(sizes.tolist() if self.far else ()):
            self._shard(slots[i]).want(offsets[i], size)  # all before one is waited for
        memory = memoryview(flat.data)
        for a, b in pairwise(edges):
            shard = self._shard(slots[a])
            views = [memory[begins[i] : ends[i]] for i in range(a, b)]
            size = offsets[b - 1] + ends[b - 1] - begins[b - 1] - offsets[a]
            shard.need(offsets[a], size)
            if os.preadv(shard.fd, views, offsets[a]) != size:
                for i in range(a, b):  # a read may be short
                    self._read_all(shard, flat[begins[i] : ends[i]], offsets[i])

    def let_go(self) -> None:
        """Bring no more of what is on its way."""
        self._files.let_go()

    def bring(self, slot: int, offset: int, size: int, *, in_memory: bool = False) -> None:
        """Have bytes of a slot in memory, now or soon."""
        if self._maps_them(in_memory):
            self._mapped(slot).bring(offset, size)
        else:
            self._shard(slot).want(offset, size)

    def has(self, slot: int, offset: int, *, in_memory: bool = False) -> bool:
        """Whether a byte of a slot is in memory; reads nothing from the disk."""
        if self._maps_them(in_memory):
            return self._mapped(slot).has(offset, 1)
        return self._shard(slot).has(offset)

    def _maps_them(self, in_memory: bool) -> bool:
        return in_memory and not self.far and mapped.possible(self._folder)

    def _read_all(self, shard: OpenShard, target: np.ndarray, offset: int) -> None:
        try:
            read_into(shard, target, offset)
        except EOFError as error:
            raise MmfError(f"feature {self._spec.name!r} is damaged: {error}.") from None

    def _opened(self, slot: int) -> OpenShard:
        return self._files.open_shard(self._folder / layout.shard_name(slot, self._spec))

    def _shard(self, slot: int) -> OpenShard:
        with self._lock:
            shard = self._open.pop(slot, None) or self._opened(slot)
            self._open[slot] = shard  # the last one used is the last one
            if len(self._open) > self._files.most_open:
                self._open.popitem(last=False)
            return shard

    def _mapped(self, slot: int) -> mapped.Mapped:
        found = self._maps.get(slot)
        if found is None:
            shard = self._opened(slot)
            found = mapped.Mapped(shard.fd, str(self._folder / layout.shard_name(slot, self._spec)))
            with self._lock:
                if len(self._maps) >= _MOST_MAPS:
                    self._maps.popitem()
                self._maps[slot] = found
        return found

    def _as_written(self) -> bool:
        try:
            found = json.loads((self._folder / "zarr.json").read_bytes())
            found = [found[key] for key in _CONTRACT]
        except (OSError, ValueError, KeyError, TypeError):
            return True  # lost or damaged, as `verify` says; the log and the spec say what it was
        ours = json.loads(layout.array_json(self._spec, self._geometry, 0))
        return found == [ours[key] for key in _CONTRACT]
