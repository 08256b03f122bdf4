"""The log in one file: what is visible, ready to be mapped into memory.

``index/<n>.json`` names the records it covers and ``index/<digest>.arrow``, an Arrow IPC file of
what stands for every array, a row per video in the order of the ids. It is a cache: a store without
one, or with a damaged one, is read from its log and says the same.
"""

import hashlib
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.store.files import Files, current, naming

logger = logging.getLogger(__name__)

FOLDER = "index"
_BATCH_ROWS = 1 << 20  # so that no column of strings reaches 2 GiB
# Reading goes by these, so their bytes are checked at open; `verify` checks every byte.
_CHECKED = (
    *("video_id", "slot", "start", "rows", "more_slots"),
    *("crc32c", "t0", "dt", "record", "record_row"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """What the records named in it come to."""

    records: Sequence[str]  # names; a row's column `record` counts in here
    tables: Mapping[str, pa.Table]  # array → a row per video, by id
    ends: Mapping[str, tuple[int, int, int, int]]  # array → see `mmf.store.log.last_end`
    newest: Sequence[str] = ()  # of the records, those that no other one names
    denied: int = 0  # the version of the denylist whose videos are left out


def write(files: Files, index: Index) -> None:
    """Put an index in the place of the one there is, unless another writer is doing so."""
    folder = files.root / FOLDER
    folder.mkdir(exist_ok=True)
    number = max((int(p.stem) for p in folder.glob("*.json")), default=0)
    older = [p for p in folder.iterdir() if p.suffix in (".json", ".arrow")]
    part = files.tmp / f"{uuid.uuid4().hex}.part"
    with naming(part):
        arrays = _write_batches(part, index.tables)
        with open(part, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
            os.fsync(file.fileno())
    with pa.memory_map(str(part)) as mapped:
        sums = [_crc32c(batch) for batch in _batches(mapped)]
    target = folder / f"{digest}.arrow"
    if not files.place(part, target):
        part.unlink()
    value = {
        "file": target.name,
        "records": list(index.records),
        "newest": list(index.newest),
        "denied": index.denied,
        "ends": {array: list(end) for array, end in index.ends.items()},
        "batches": [list(pair) for pair in zip(arrays, sums, strict=True)],
    }
    if files.publish(folder, value, after=number):
        for path in older:  # who has one mapped keeps it
            if path != target:
                files.remove(path)


def newest(files: Files, records: set[str]) -> Index | None:
    """The index of a store, if there is one that is whole and its `records` are still there."""
    try:
        number, value = current(files.root / FOLDER)
        if number == 0 or not records.issuperset(value["records"]):
            return None
        tables = _tables(files.root / FOLDER / value["file"], value["batches"])
        ends = {array: (*end,) for array, end in value["ends"].items()}
        names, newest = value["records"], value["newest"]
        return Index(records=names, tables=tables, ends=ends, newest=newest, denied=value["denied"])
    except (MmfError, OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        logger.warning("the store's index is not used, its log is read instead: %s", error)
        return None


def _tables(path: Path, expected: Sequence[tuple[str, int]]) -> dict[str, pa.Table]:
    parts: dict[str, list[pa.RecordBatch]] = {}
    batches = _batches(pa.memory_map(str(path)))
    for (array, crc32c), batch in zip(expected, batches, strict=True):
        if _crc32c(batch) != crc32c:
            raise ValueError(f"bytes of {str(path)!r} have changed")
        parts.setdefault(array, []).append(batch)
    return {array: pa.Table.from_batches(found) for array, found in parts.items()}


def _write_batches(path: Path, tables: Mapping[str, pa.Table]) -> list[str]:
    """The array of each batch, in the order of the file."""
    arrays = []
    schema = next(iter(tables.values())).schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for array, table in tables.items():
            for start in range(0, len(table), _BATCH_ROWS):
                piece = table.slice(start, _BATCH_ROWS).combine_chunks()
                writer.write_table(piece, max_chunksize=_BATCH_ROWS)
                arrays.append(array)
    return arrays


def _batches(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_file(file)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _crc32c(batch: pa.RecordBatch) -> int:
    """Of the columns that reading goes by, and of how all columns are laid out."""
    layouts = [
        (str(f), len(c), c.null_count, [None if b is None else b.size for b in c.buffers()])
        for f, c in zip(batch.schema, batch.columns, strict=True)
    ]
    total = google_crc32c.value(repr(layouts).encode())
    for name in _CHECKED:
        for buffer in batch[name].buffers():
            if buffer is not None and buffer.size:
                total = google_crc32c.extend(total, np.frombuffer(buffer, dtype=np.uint8))
    return int(total)
