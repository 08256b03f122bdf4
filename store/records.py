"""A commit record: one small Parquet file, which makes what it names exist.

It has a row for each (feature, video) that the commit settled; its metadata name the shards that
came with it, and the records that its writer saw.
"""

import functools
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmf import MmfError
from mmf.store.files import Files, digest
from mmf.store.layout import checked_shard

SCHEMA = pa.schema(
    [
        ("feature", pa.string()),
        ("array", pa.string()),  # of the group; another recipe is another array
        ("video_id", pa.string()),
        ("status", pa.string()),  # done, skipped, failed
        ("slot", pa.uint32()),  # where the rows begin …
        ("start", pa.uint32()),  # … at this row of the slot
        ("rows", pa.uint32()),
        ("more_slots", pa.list_(pa.uint32())),  # where they do not fit one: each from its row 0 on
        ("crc32c", pa.uint32()),  # of the stored rows
        ("t0", pa.float64()),  # times are t0 + i dt where that gives them exactly …
        ("dt", pa.float64()),
        ("times", pa.list_(pa.float64())),  # … and stand here where it does not
        ("reason", pa.string()),
        ("stage", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.uint16()),
        ("path", pa.string()),
        ("size_bytes", pa.uint64()),
        ("duration", pa.float64()),
        ("frames", pa.uint32()),
        ("bad_packets", pa.uint32()),
        # measured, never compared: the same rows take other times
        ("decode_seconds", pa.float32()),  # of the file, CPU
        ("row_seconds", pa.float32()),  # of computing one row
    ]
)
_MOST_NAMED = 64  # records that one names; the others wait for the next one


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A sealed shard as its record names it."""

    name: str  # of the file, below the group: "rgb/c.0.0"
    size_bytes: int
    crc32c: int  # of the whole file


def write_record(
    files: Files,
    rows: Sequence[Mapping[str, Any]],
    shards: Iterable[Shard],
    seen: Iterable[str] = (),
) -> Path:
    """Commit `rows` (values of SCHEMA's columns): they exist once this returns.

    `seen` are records that are there and that, as far as one knows, no other names.
    """
    named = {s.name: [s.size_bytes, s.crc32c] for s in shards}
    schema = SCHEMA.with_metadata(
        {
            "mmf.shards": json.dumps(named),
            "mmf.seen": json.dumps(sorted(seen)[:_MOST_NAMED]),
        }
    )
    data = table_bytes(pa.Table.from_pylist(list(rows), schema=schema))
    part = files.write_new(data)
    target = files.root / "log" / f"{uuid.uuid4().hex}.{digest(data)}.parquet"
    if not files.place(part, target):
        raise MmfError(f"the commit {target.name!r} exists already.")  # a UUID twice
    return target


def table_bytes(table: pa.Table) -> bytes:
    """The table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


@functools.lru_cache(maxsize=1024)
def read_record(path: Path) -> pa.Table:
    """One record; MmfError where the file is damaged."""
    try:
        return completed(pq.read_table(path, page_checksum_verification=True), SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise MmfError(f"the commit record {str(path)!r} cannot be read: {error}.") from error


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with all columns of the schema, in its order; those it was written without: null.

    A store that is older than a column opens, and says nothing in it.
    """
    if table.column_names == schema.names:
        return table
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(schema.names)


def shards_of(record: pa.Table) -> list[Shard]:
    """The shards that a record names."""
    named = json.loads(record.schema.metadata[b"mmf.shards"])
    return [
        Shard(name=checked_shard(name), size_bytes=size, crc32c=crc)
        for name, (size, crc) in named.items()
    ]


def seen_by(record: pa.Table) -> list[str]:
    """The records that a record names."""
    return json.loads(record.schema.metadata.get(b"mmf.seen", b"[]"))
