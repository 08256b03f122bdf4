"""The commit log: which rows exist.

Each commit is a record (`mmf.store.records`). A video is visible once, whatever was committed of it
(`mmf.store.standing`): so two jobs at once waste work and harm nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store import denied, index
from mmf.store.files import Files
from mmf.store.records import SCHEMA, completed, read_record, seen_by
from mmf.store.standing import merge, resolve

UNCOVERED = 64  # records that are read in a moment
End = tuple[int, int, int, int]  # see `last_end`
_NO_END: End = (0, 0, 0, 0)


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
            self._settled = {a: completed(t, _light_schema()) for a, t in found.tables.items()}
            if found.denied != self.denied.number:
                self._settled = {a: self.denied.without(t) for a, t in self._settled.items()}
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


def _light_schema() -> pa.Schema:
    fields = [f for f in SCHEMA if f.name != "times"]
    return pa.schema([*fields, ("record", pa.uint32()), ("record_row", pa.uint32())])
