"""The commit log: which rows exist.

A record is one small Parquet file with a row for each (feature, video) that a commit settled. A
video is visible once: among the rows of one (array, video) done stands before skipped before
failed, then more attempts before fewer, then the lowest key. So two jobs at once waste work and
harm nothing, and the order in which records arrive does not matter.
"""

import functools
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmf import MmfError
from mmf.store import layout

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
    ]
)
_RANK = {"done": 0, "skipped": 1, "failed": 2}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A sealed shard as its record names it."""

    name: str  # of the file, below the group: "rgb/c.0.0"
    size_bytes: int
    sha256: str


def write_record(root: Path, rows: Sequence[Mapping[str, Any]], shards: Iterable[Shard]) -> Path:
    """Commit `rows` (values of SCHEMA's columns): they exist once this returns."""
    named = {s.name: [s.size_bytes, s.sha256] for s in shards}
    schema = SCHEMA.with_metadata({"mmf.shards": json.dumps(named)})
    data = table_bytes(pa.Table.from_pylist(list(rows), schema=schema))
    part = layout.write_new(root / "tmp", data)
    target = root / "log" / f"{uuid.uuid4().hex}.{layout.digest(data)}.parquet"
    if not layout.place(part, target):
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
        return pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise MmfError(f"the commit record {str(path)!r} cannot be read: {error}.") from error


def shards_of(record: pa.Table) -> list[Shard]:
    """The shards that a record names."""
    named = json.loads(record.schema.metadata[b"mmf.shards"])
    return [Shard(name=n, size_bytes=size, sha256=sha) for n, (size, sha) in named.items()]


class Log:
    """What is visible, as of the last `refresh`."""

    def __init__(self, root: Path):
        self._folder = root / "log"
        self.records: list[Path] = []
        self._columns: list[pa.Table] = []
        self._visible: dict[str, pa.Table] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in the records that have come since."""
        known = {p.name for p in self.records}
        fresh = sorted(p for p in self._folder.glob("*.parquet") if p.name not in known)
        for path in fresh:
            table = read_record(path)
            at = pa.array(np.arange(len(table), dtype=np.uint32))
            number = pa.array(np.full(len(table), len(self.records), dtype=np.uint32))
            light = table.drop_columns(["times"]).replace_schema_metadata(None)
            light = light.append_column("record", number).append_column("record_row", at)
            self._columns.append(light)
            self.records.append(path)
        if fresh:
            self._visible.clear()

    def visible(self, array: str) -> pa.Table:
        """The outcomes that stand for one array, a row per video, in the order of their ids.

        Columns as in SCHEMA without `times`, and `record`, `record_row`: where the row stands.
        """
        if array not in self._visible:
            empty = _light_schema().empty_table()
            parts = [t.filter(pc.equal(t["array"], array)) for t in self._columns]
            self._visible[array] = self._resolve(pa.concat_tables([empty, *parts]))
        return self._visible[array]

    def length(self, array: str, slot_rows: int) -> int:
        """The length of an array that covers every row in the log, the invisible ones too."""
        length = 0
        for table in self._columns:
            rows = table.filter(
                pc.and_(pc.equal(table["array"], array), pc.greater(table["rows"], 0))
            )
            slots, starts, n = (
                rows[c].to_numpy().astype(np.int64) for c in ("slot", "start", "rows")
            )
            ends = slots * slot_rows + np.minimum(starts + n, slot_rows)
            length = max(length, int(ends.max(initial=0)))
            for i in np.flatnonzero(starts + n > slot_rows):
                more = rows["more_slots"][int(i)].as_py()
                last = int(starts[i] + n[i]) - len(more) * slot_rows
                ends_of_more = [(s + 1) * slot_rows for s in more[:-1]]
                length = max(length, *ends_of_more, more[-1] * slot_rows + last)
        return length

    def times(self, array: str, position: int) -> np.ndarray:
        """Seconds of the rows of the video at `position` in `visible(array)`, float64 (T,)."""
        row = self.visible(array).slice(position, 1)
        n, t0, dt = (row[c][0].as_py() for c in ("rows", "t0", "dt"))
        if t0 is not None:
            return t0 + np.arange(n) * dt
        record = read_record(self.records[row["record"][0].as_py()])
        return record["times"][row["record_row"][0].as_py()].values.to_numpy(zero_copy_only=False)

    def _resolve(self, table: pa.Table) -> pa.Table:
        keys = np.array([p.name for p in self.records] or [""])
        key_rank = np.argsort(np.argsort(keys))[table["record"].to_numpy()]
        rank = pa.array([_RANK[s] for s in table["status"].to_pylist()], pa.uint8())
        table = table.append_column("_rank", rank).append_column("_key", pa.array(key_rank))
        order = [
            ("video_id", "ascending"),
            ("_rank", "ascending"),
            ("attempts", "descending"),
            ("_key", "ascending"),
        ]
        table = table.sort_by(order).drop_columns(["_rank", "_key"]).combine_chunks()
        ids = table["video_id"]
        if len(table) > 1:
            first = np.ones(len(table), dtype=bool)
            same = pc.equal(ids.slice(1), ids.slice(0, len(table) - 1))
            first[1:] = ~same.to_numpy(zero_copy_only=False)
            table = table.filter(pa.array(first))
        return table.combine_chunks()


def regular(times: np.ndarray) -> tuple[float, float] | None:
    """(t0, dt) that give exactly these times as t0 + i dt; None where none does."""
    if len(times) == 0:
        return 0.0, 0.0
    t0 = float(times[0])
    dt = float(times[1] - times[0]) if len(times) > 1 else 0.0
    return (t0, dt) if np.array_equal(t0 + np.arange(len(times)) * dt, times) else None


def _light_schema() -> pa.Schema:
    fields = [f for f in SCHEMA if f.name != "times"]
    return pa.schema([*fields, ("record", pa.uint32()), ("record_row", pa.uint32())])
