"""What is said of videos beside their features: columns of a manifest, labels of items, splits.

Labels belong to items: a whole video, or an interval of one. A label set has its own list of
classes; a split maps videos to train, val and test. There may be several of each, by name.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmf import MmfError, unknown
from mmf.store import denied, head
from mmf.store.files import Files, current, digest
from mmf.store.items import LABELS, ItemKey
from mmf.store.places import at_places, places
from mmf.store.records import table_bytes

KINDS = ("labels", "splits", "videos")
SPLITS = pa.schema([("video_id", pa.string()), ("split", pa.string())])
EMPTY = {"labels": LABELS, "splits": SPLITS, "videos": pa.schema([("video_id", pa.string())])}
# what stands, and what is said about it → what is to stand
Merge = Callable[[pa.Table, dict[str, Any]], tuple[pa.Table, dict[str, Any]]]


class Catalog:
    """The tables of one store, read as they are asked for and replaced as a whole."""

    def __init__(self, files: Files, *, pinned: Mapping[str, Any] | None = None):
        self._files = files
        self._pinned = pinned  # by a snapshot: what stands, by kind and name

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Names of the label sets."""
        return self._names("labels")

    @property
    def split_sets(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self._names("splits")

    def classes(self, name: str) -> tuple[str, ...]:
        """The classes of a label set, in the order of their numbers."""
        value = self._value("labels", name)
        return () if value is None else tuple(value["about"].get("classes", ()))

    def labels(self, name: str) -> tuple[pa.Table, tuple[str, ...]]:
        """A label set: its table and its classes."""
        table, about = self._read("labels", name)
        return table, tuple(about.get("classes", ()))

    def splits(self, name: str) -> dict[str, str]:
        """Split by video; empty where there is none of this name."""
        if name not in self.split_sets:
            return {}
        table, _ = self._read("splits", name)
        return dict(zip(table["video_id"].to_pylist(), table["split"].to_pylist(), strict=True))

    def split_of(self, name: str, video_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """The split of each of these videos; null where it is in none."""
        if name not in self.split_sets:
            return pa.chunked_array([pa.nulls(len(video_ids), pa.string())])
        table, _ = self._read("splits", name)
        return at_places(table["split"], places(video_ids, table["video_id"]))

    def videos(self) -> pa.Table:
        """The manifests' columns, a row per video; all but video_id are strings."""
        if "default" not in self._names("videos"):
            return EMPTY["videos"].empty_table()
        return self._read("videos", "default")[0]

    def add_labels(
        self,
        name: str,
        labels: Mapping[ItemKey, Sequence[str]],
        *,
        unrated: Mapping[ItemKey, Sequence[str]] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Set the labels of items; other items of the set keep theirs.

        New classes are appended in the order of their names, or as `classes` lists them; with
        `classes`, a label that it does not list is an error.
        """
        unrated, keys = unrated or {}, list(labels)
        lists = [
            [[v] if isinstance(v, str) else list(v) for v in (of.get(k, ()) for k in keys)]
            for of in (labels, unrated)
        ]
        named = {n for rows in lists for row in rows for n in row}
        known = sorted(named) if classes is None else [*classes]
        if classes is not None and (strange := sorted(named - {*self._known(name), *classes})):
            raise unknown("class", strange[0], classes)
        at = {c: i for i, c in enumerate([*known, *sorted(named - {*known})])}
        columns: dict[str, Any] = {"video_id": [], "start": [], "end": []}
        for key in keys:
            whole = isinstance(key, str)
            for column, value in zip(
                columns.values(), (key, None, None) if whole else key, strict=True
            ):
                column.append(value)
        for column, rows in zip(("labels", "unrated"), lists, strict=True):
            columns[column] = [sorted({at[n] for n in row}) for row in rows]
        columns["rated"] = [None] * len(keys)
        self.add_label_rows(name, pa.table(columns, schema=LABELS), [*at])

    def add_label_rows(self, name: str, rows: pa.Table, classes: Sequence[str]) -> None:
        """Set the labels of items, as columns of LABELS whose numbers count in `classes`.

        Classes that the set does not have are appended in their order. Where an item stands twice
        in `rows`, its first row counts.
        """
        ends_early = pc.less_equal(rows["end"], rows["start"])
        if pc.any(ends_early).as_py():
            bad = rows.filter(ends_early).slice(0, 1).to_pylist()[0]
            item = (bad["video_id"], bad["start"], bad["end"])
            raise MmfError(f"item {item!r}: its end must lie after its start.")

        def merged(table: pa.Table, about: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
            old = about.get("classes", [])
            known = [*old, *(c for c in classes if c not in set(old))]
            at = {c: i for i, c in enumerate(known)}
            numbers = np.array([at[c] for c in classes], dtype=np.int32)
            fresh = rows.combine_chunks()
            for column in ("labels", "unrated", "rated"):
                of = _renumbered(fresh[column], numbers)
                fresh = fresh.set_column(fresh.schema.get_field_index(column), column, of)
            return _first(pa.concat_tables([fresh, table]), LABELS), {"classes": known}

        self._replace("labels", name, merged)

    def add_splits(self, name: str, splits: Mapping[str, str]) -> None:
        """Set the split of videos; other videos keep theirs."""
        self.add_split_rows(name, pa.table([[*splits], [*splits.values()]], schema=SPLITS))

    def add_split_rows(self, name: str, rows: pa.Table) -> None:
        """Set the split of videos, as columns of SPLITS."""

        def merged(table: pa.Table, about: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
            return _first(pa.concat_tables([rows, table]), SPLITS), about

        self._replace("splits", name, merged)

    def add_videos(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Set the columns that a manifest has of its videos; `video_id` is one of them."""
        names = dict.fromkeys(k for row in rows for k in row)
        columns = {
            n: pa.array([None if r.get(n) is None else str(r[n]) for r in rows], pa.string())
            for n in names
        }
        self.add_video_rows(pa.table(columns))

    def add_video_rows(self, rows: pa.Table) -> None:
        """Set columns of strings of videos, by `video_id`; a null leaves what stands."""

        def merged(table: pa.Table, about: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
            names = ["video_id", *sorted({*rows.column_names, *table.column_names} - {"video_id"})]
            schema = pa.schema([(n, pa.string()) for n in names])
            fresh = _first(rows, rows.schema)
            at = pc.index_in(fresh["video_id"], table["video_id"])
            for name in table.column_names:
                old = pc.take(table[name], at)
                if name not in fresh.column_names:
                    fresh = fresh.append_column(name, old)
                elif name != "video_id":
                    i = fresh.schema.get_field_index(name)
                    fresh = fresh.set_column(i, name, pc.coalesce(fresh[name], old))
            both = pa.concat_tables([fresh, table], promote_options="default")
            return _first(both.select(names), schema), about

        self._replace("videos", "default", merged)

    def leave_out_denied(self) -> None:
        """Publish every table again, without the videos that were deleted."""
        for kind in KINDS:
            for name in self._names(kind):
                self._replace(kind, name, lambda table, about: (table, about))

    def state(self) -> dict[str, Any]:
        """What stands, by kind and name: the table's file, and what is said about it."""
        kinds = [(kind, name) for kind in KINDS for name in self._names(kind)]
        found = {f"{kind}/{name}": self._current(kind, name)[1] for kind, name in kinds}
        return {name: value for name, value in found.items() if value is not None}

    def _current(self, kind: str, name: str) -> tuple[int, Any]:
        if self._pinned is not None:
            return 0, self._pinned.get(f"{kind}/{name}")
        return current(self._files.root / "catalog" / kind / name)

    def _names(self, kind: str) -> tuple[str, ...]:
        if self._pinned is not None:
            named = (key.partition("/") for key in self._pinned)
            return tuple(sorted(name for of, _, name in named if of == kind))
        folder = self._files.root / "catalog" / kind
        return tuple(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else ()

    def _read(self, kind: str, name: str) -> tuple[pa.Table, dict[str, Any]]:
        value = self._value(kind, name)
        if value is None:
            return EMPTY[kind].empty_table(), {}
        path = self._files.root / "catalog" / kind / name / value["file"]
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if kind == "labels" and "rated" not in table.column_names:
            table = table.append_column("rated", pa.nulls(len(table), pa.list_(pa.int32())))
        deleted = denied.read(self._files)
        if value.get("denied", 0) != deleted.number:
            table = deleted.without(table)
        return table, value["about"]

    def _value(self, kind: str, name: str) -> dict[str, Any] | None:
        """What is said of a table: its file, and about it; None where it was never written."""
        if name not in self._names(kind):
            what = {"labels": "label set", "splits": "split", "videos": "table"}[kind]
            raise unknown(what, name, self._names(kind))
        value: dict[str, Any] | None = self._current(kind, name)[1]
        return value

    def _known(self, name: str) -> tuple[str, ...]:
        return self.classes(name) if name in self.label_sets else ()

    def _replace(self, kind: str, name: str, merge: Merge) -> None:
        """Merge into what stands and publish the result; again where another writer was first."""
        if "/" in name or name.startswith(".") or not name:
            raise MmfError(f"{kind} cannot be called {name!r}: expected a name without '/'.")
        if self._pinned is not None:
            raise MmfError("a store that is open at a snapshot takes no labels or splits.")
        folder = self._files.root / "catalog" / kind / name
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            number, _ = current(folder)
            table, about = self._read(kind, name)
            table, about = merge(table, about)
            deleted = denied.read(self._files)
            table = deleted.without(table)
            value = {
                "file": put_table(self._files, folder, table),
                "about": about,
                "rows": len(table),
                "denied": deleted.number,
            }
            if self._files.publish(folder, value, after=number):
                head.note(self._files)
                return


def put_table(files: Files, folder: Path, table: pa.Table) -> str:
    """Write a table into its folder, under the name that its digest gives."""
    data = table_bytes(table)
    target = folder / f"{digest(data)}.parquet"
    part = files.write_new(data)
    if not files.place(part, target):
        part.unlink()
    return target.name


def _first(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows in the order of their items; of rows for one item the first."""
    keys = {n: table[n] for n in ("video_id", "start", "end") if n in table.column_names}
    for name in ("start", "end"):
        if name in keys:
            keys[name] = pc.fill_null(keys[name], -1.0)  # the whole video stands first
    order = pc.sort_indices(pa.table(keys), sort_keys=[(n, "ascending") for n in keys])  # stable
    fresh = np.zeros(max(len(table) - 1, 0), dtype=bool)
    for column in keys.values():
        ordered = pc.take(column, order)
        fresh |= pc.not_equal(ordered[1:], ordered[:-1]).to_numpy()
    kept = order.filter(pa.array(np.concatenate([np.ones(min(len(table), 1), dtype=bool), fresh])))
    return table.take(kept).cast(schema).combine_chunks()


def _renumbered(lists: pa.ChunkedArray, numbers: np.ndarray) -> pa.Array:
    """Lists of class numbers after each number i became `numbers`[i]; null lists stay null."""
    array = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    flat = pa.array(numbers[array.flatten().to_numpy()] if len(numbers) else [], pa.int32())
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    missing = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(offsets, flat, mask=missing)
