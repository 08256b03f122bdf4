"""One append-only shard: rows in, footer last, exact byte ranges out.

The body of an uncompressed Zarr v3 shard whose inner chunks span whole rows *is* the array in C
order, so rows are appended as they come and read by arithmetic. The footer is the shard's index,
(offset, bytes) of each chunk as little-endian uint64 with 2^64 - 1 for a chunk that is not there,
and its crc32c. The file equals, byte for byte, what zarr-python writes for the same rows with
`write_empty_chunks=True`.
"""

import os
import uuid
from pathlib import Path

import google_crc32c
import numpy as np

from mmf.store import layout
from mmf.store.blocks import BlockFile
from mmf.store.crc import combine
from mmf.store.files import Files, OpenShard
from mmf.store.layout import Geometry
from mmf.store.spec import FeatureSpec

_ABSENT = np.uint64(2**64 - 1)


class SlotWriter:
    """A shard being written under a temporary name."""

    def __init__(self, tmp: Path, geometry: Geometry, row_bytes: int):
        self.path = tmp / f"{uuid.uuid4().hex}.part"
        self.rows = 0
        self.slot: int | None = None  # its number, once the shard is placed
        self.size_bytes = 0
        self._geometry = geometry
        self._row_bytes = row_bytes
        self.crc32c = 0  # of the whole file, once it is sealed
        self._parts: list[tuple[int, int]] = []  # crc32c and bytes of what was written
        self._file = BlockFile(self.path)

    @property
    def free_rows(self) -> int:
        """How many more rows fit."""
        return self._geometry.slot_rows - self.rows

    def append(self, rows: np.ndarray, crc32c: int = 0) -> int:
        """Add stored rows (n, *shape), n at most `free_rows`; returns `crc32c` grown by theirs."""
        self.rows += len(rows)
        room = self._file.room(rows.nbytes)
        if len(room) == rows.nbytes:
            room.view(rows.dtype).reshape(rows.shape)[...] = rows
            return self._took(room, crc32c)
        stored = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)  # beyond the block's edge
        room[:] = stored[: len(room)]
        self._file.write(stored[len(room) :])
        return self._took(stored, crc32c)

    def seal(self) -> None:
        """Fill the last chunk, write the footer, and bring the file to the disk."""
        chunk_rows = self._geometry.rows_per_chunk
        self._write(bytes(-self.rows % chunk_rows * self._row_bytes))
        self._write(footer(self._geometry, self._row_bytes, self.rows))
        self.crc32c = combine(*zip(*self._parts, strict=True))
        self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        self._file.discard()

    def _write(self, data: bytes) -> None:
        self._file.write(np.frombuffer(data, np.uint8))
        self._took(data)

    def _took(self, data: np.ndarray | bytes, crc32c: int = 0) -> int:
        self.size_bytes += len(data)
        own = int(google_crc32c.value(data))
        self._parts.append((own, len(data)))
        return combine([crc32c, own], [0, len(data)]) if crc32c else own


def place(files: Files, writer: SlotWriter, folder: Path, spec: FeatureSpec) -> int:
    """Seal a shard and give it a number in its array's folder that nobody else can have."""
    writer.seal()
    slot = files.next_slot(folder)
    while not files.place(writer.path, folder / layout.shard_name(slot, spec)):
        slot = max(slot + 1, files.next_slot(folder))
    writer.slot = slot
    return slot


def footer(geometry: Geometry, row_bytes: int, rows: int) -> bytes:
    """The shard index of a slot with its first `rows` rows written."""
    chunk_bytes = geometry.rows_per_chunk * row_bytes
    used = -(-rows // geometry.rows_per_chunk)
    index = np.full((geometry.chunks_per_slot, 2), _ABSENT, dtype="<u8")
    index[:used, 0] = np.arange(used, dtype=np.uint64) * np.uint64(chunk_bytes)
    index[:used, 1] = chunk_bytes
    data = index.tobytes()
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def file_bytes(geometry: Geometry, row_bytes: int, rows: int) -> int:
    """The size that a sealed slot with `rows` rows has."""
    used = -(-rows // geometry.rows_per_chunk)
    return used * geometry.rows_per_chunk * row_bytes + 16 * geometry.chunks_per_slot + 4


def read_into(shard: OpenShard, target: np.ndarray, offset: int) -> None:
    """Fill the C-contiguous `target` from byte `offset` of an open shard; EOFError if it ends."""
    view = memoryview(target.data).cast("B")
    shard.need(offset, len(view))
    while view:
        n = os.preadv(shard.fd, [view], offset)
        if n == 0:
            raise EOFError(f"the shard ends {len(view)} bytes early")
        view, offset = view[n:], offset + n
