"""The commit log: which rows exist.

A record is one small Parquet file with a row for each (feature, video) that a commit settled. A
video is visible once: among the rows of one (array, video) done stands before skipped before
failed, then more attempts before fewer, then the lowest key. So two jobs at once waste work and
harm nothing, and the order in which records arrive does not matter.
"""

import functools
import json
import os
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
from mmf.store import denied, index
from mmf.store.files import Files, digest

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
RANKED = ["done", "skipped", "failed"]  # what stands before what
_MOST_NAMED = 64  # records that one names; the others wait for the next one
UNCOVERED = 64  # records that are read in a moment
End = tuple[int, int, int, int]  # see `last_end`
_NO_END: End = (0, 0, 0, 0)
_FEW = 100_000  # rows that are sorted in a moment


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
        return pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise MmfError(f"the commit record {str(path)!r} cannot be read: {error}.") from error


def shards_of(record: pa.Table) -> list[Shard]:
    """The shards that a record names."""
    named = json.loads(record.schema.metadata[b"mmf.shards"])
    return [Shard(name=n, size_bytes=size, crc32c=crc) for n, (size, crc) in named.items()]


def seen_by(record: pa.Table) -> list[str]:
    """The records that a record names."""
    return json.loads(record.schema.metadata.get(b"mmf.seen", b"[]"))


class Log:
    """What is visible, as of the last `refresh`.

    What an index covers is taken from there; only younger records are read. They are resolved when
    somebody asks, so that a commit costs what it brings and not what there is. With `only`, these
    records are all there is.
    """

    def __init__(self, files: Files, *, only: Iterable[str] | None = None):
        self._files = files
        self._folder = files.root / "log"
        self._only = None if only is None else frozenset(only)
        self.denied = denied.read(files)
        self._begin()
        self.refresh()

    def _begin(self) -> None:
        self.records: list[Path] = []  # a row's column `record` counts in here
        self.seen: set[str] = set()  # records that another one names
        self.covered = 0  # how many of them an index holds, the first ones
        self._known: set[str] = set()
        self._settled: dict[str, pa.Table] = {}  # array → a row per video, by id
        self._fresh: dict[str, list[pa.Table]] = {}  # array → rows that are yet to be resolved
        self._ends: dict[str, End] = {}

    def refresh(self) -> None:
        """Take in the records that have come since."""
        stands = denied.read(self._files, self.denied)
        names = {e.name for e in os.scandir(self._folder) if e.name.endswith(".parquet")}
        if self._only is not None:
            if lost := self._only - names:
                raise MmfError(f"the store has lost {min(lost)!r}, which the snapshot names.")
            names &= self._only
        if stands is not self.denied or not names.issuperset(self._known):
            self.denied = stands
            self._begin()  # videos were deleted, or gc has been here
        if not self.records and (found := index.newest(self._files, names)):
            self.records = [self._folder / name for name in found.records]
            self.covered = len(self.records)
            self._known.update(found.records)
            self.seen.update(self._known.difference(found.newest))
            self._settled = dict(found.tables)
            if found.denied != self.denied.number:
                self._settled = {a: self.denied.without(t) for a, t in found.tables.items()}
            self._ends = dict(found.ends)
        for name in sorted(names - self._known):
            try:
                self._take(self._folder / name)
            except MmfError:
                if (self._folder / name).exists() or self._only is not None:
                    raise
                self.refresh()  # gc has just been here
                return

    def _take(self, path: Path) -> None:
        table = read_record(path)
        self.seen.update(seen_by(table))
        at = pa.array(np.arange(len(table), dtype=np.uint32))
        number = pa.array(np.full(len(table), len(self.records), dtype=np.uint32))
        light = table.drop_columns(["times"]).replace_schema_metadata(None)
        light = light.append_column("record", number).append_column("record_row", at)
        for array in pc.unique(light["array"]).to_pylist():
            rows = light.filter(pc.equal(light["array"], array))
            self._fresh.setdefault(array, []).append(self.denied.without(rows))
            self._ends[array] = max(self._ends.get(array, _NO_END), last_end(rows))
        self.records.append(path)
        self._known.add(path.name)

    @property
    def newest(self) -> set[str]:
        """The records that no other one names."""
        return self._known - self.seen

    @property
    def arrays(self) -> list[str]:
        """Every array of which the log has rows."""
        return sorted({*self._settled, *self._fresh})

    def visible(self, array: str) -> pa.Table:
        """The outcomes that stand for one array, a row per video, in the order of their ids.

        Columns as in SCHEMA without `times`, and `record`, `record_row`: where the row stands.
        """
        if parts := self._fresh.pop(array, None):
            names = [p.name for p in self.records]
            fresh = resolve(pa.concat_tables(parts), names)
            self._settled[array] = merge(self._settled.get(array), fresh, names)
        if array not in self._settled:
            return _light_schema().empty_table()
        return self._settled[array]

    def write_index(self) -> None:
        """Write what is visible as an index, so that the next one to open reads no records."""
        if not self.records or self._only is not None:
            return
        tables = {array: self.visible(array) for array in self.arrays}
        names = [p.name for p in self.records]
        whole = index.Index(
            records=names,
            tables=tables,
            ends=self._ends,
            newest=sorted(self.newest),
            denied=self.denied.number,
        )
        index.write(self._files, whole)
        self.covered = len(names)

    def write_index_if_due(self) -> None:
        """Write it where more records than are read in a moment, or 1 in 16, are not covered."""
        uncovered = len(self.records) - self.covered
        if uncovered > max(UNCOVERED, self.covered // 16):
            self.write_index()

    def length(self, array: str, slot_rows: int) -> int:
        """The length of an array that covers every row in the log, the invisible ones too."""
        slot, _, rows, more = self._ends.get(array, _NO_END)
        return max(0, slot * slot_rows + rows - more * slot_rows)

    def times(self, array: str, position: int) -> np.ndarray:
        """Seconds of the rows of the video at `position` in `visible(array)`, float64 (T,)."""
        row = self.visible(array).slice(position, 1)
        n, t0, dt = (row[c][0].as_py() for c in ("rows", "t0", "dt"))
        if t0 is not None:
            return t0 + np.arange(n) * dt
        record = read_record(self.records[row["record"][0].as_py()])
        return record["times"][row["record_row"][0].as_py()].values.to_numpy(zero_copy_only=False)


def last_end(rows: pa.Table) -> End:
    """Where the last row of an array's outcomes ends: slot, whether it begins there, rows, spills.

    `rows` count from the start of the slot in which the video begins, `spills` slots earlier.
    """
    rows = rows.filter(pc.greater(rows["rows"], 0))
    if not len(rows):
        return _NO_END
    slots = rows["slot"].to_numpy().astype(np.int64)
    ends = rows["start"].to_numpy().astype(np.int64) + rows["rows"].to_numpy()
    more = rows["more_slots"]
    whole = more.is_null().to_numpy(zero_copy_only=False)
    found = _NO_END
    if whole.any():
        last = int(slots[whole].max())
        found = (last, 1, int(ends[whole][slots[whole] == last].max()), 0)
    for i in np.flatnonzero(~whole):
        others = more[int(i)].as_py()
        found = max(found, (others[-1], 0, int(ends[i]), len(others)))
    return found


def ranks(outcomes: pa.Table) -> np.ndarray:
    """How good each outcome is, the lowest the best: its place in RANKED."""
    return pc.index_in(outcomes["status"], pa.array(RANKED)).to_numpy(zero_copy_only=False)


def resolve(table: pa.Table, records: Sequence[str]) -> pa.Table:
    """Of the rows of one array, the one that stands for each video, in the order of the ids."""
    key_rank = np.argsort(np.argsort(np.array(records or [""])))[table["record"].to_numpy()]
    table = table.append_column("_rank", pa.array(ranks(table)))
    table = table.append_column("_key", pa.array(key_rank))
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


def merge(old: pa.Table | None, fresh: pa.Table, records: Sequence[str]) -> pa.Table:
    """Both resolved: one table of what stands; a few rows among many copy none of the many."""
    if old is None or not len(old):
        return fresh
    if len(fresh) * 8 > len(old) or len(old) < _FEW:
        return resolve(pa.concat_tables([old, fresh]), records)
    places = pc.search_sorted(old["video_id"], fresh["video_id"]).to_numpy(zero_copy_only=False)
    there = pc.take(old["video_id"], np.minimum(places, len(old) - 1))
    found = pc.equal(there, fresh["video_id"]).to_numpy(zero_copy_only=False)
    parts, at = [], 0
    for i, (place, doubled) in enumerate(zip(places.tolist(), found.tolist(), strict=True)):
        parts.append(old.slice(at, place - at))
        both = [fresh.slice(i, 1), *([old.slice(place, 1)] if doubled else ())]
        parts.append(min(both, key=lambda row: _standing(row, records)))
        at = place + doubled
    parts = [p for p in [*parts, old.slice(at)] if len(p)]
    return pa.concat_tables(parts)


def _standing(row: pa.Table, records: Sequence[str]) -> tuple[int, int, str]:
    """The lowest stands."""
    status, attempts, record = (row[c][0].as_py() for c in ("status", "attempts", "record"))
    return RANKED.index(status), -attempts, records[record]


def _light_schema() -> pa.Schema:
    fields = [f for f in SCHEMA if f.name != "times"]
    return pa.schema([*fields, ("record", pa.uint32()), ("record_row", pa.uint32())])
