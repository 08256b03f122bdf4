"""Put a record without some of its rows in the place of one, and clean shards in the place of its.

Committed files are never changed, so what stays is copied: the rows that are kept lie in a new
shard at the very places they had, with zeros where others lay. The new record is there before the
old one goes; between the two the same rows are named twice, and seen once. Shards go last, and
only those that no record names: after a kill two records may name the same.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmf.store import head, layout, log, records
from mmf.store import snapshot as snapshots
from mmf.store.files import Files
from mmf.store.slot import SlotWriter, place, read_into
from mmf.store.spec import FeatureSpec

Extent = tuple[int, int]  # first row in the slot, rows


def rewrite(
    files: Files,
    record: Path,
    keep: Callable[[Mapping[str, Any]], bool],
    *,
    damaged: Collection[str] = (),
) -> list[Path]:
    """Let the rows that `keep` chooses be all that is committed of a record.

    Shards with bytes of others are written anew without them, and shards named in `damaged` are
    too. Returns the shards in whose place others stand, for `sweep`.
    """
    table = records.read_record(record)
    rows = table.to_pylist()
    kept = [r for r in rows if keep(r)]
    dropped = [r for r in rows if not keep(r)]
    moved: dict[tuple[str, int], int] = {}  # (array, slot) → the slot in its place
    shards, old = [], []
    for shard in records.shards_of(table):
        array, _, name = shard.name.partition("/")
        slot = int(name.split(".")[1])
        spec, geometry = layout.describe(files, array)
        extents = _extents(kept, array, slot, geometry.slot_rows)
        others = _extents(dropped, array, slot, geometry.slot_rows)
        if extents and not others and shard.name not in damaged:
            shards.append(shard)
            continue
        old.append(files.root / layout.GROUP / shard.name)
        if extents:
            shards.append(_copy(files, old[-1], spec, geometry, extents))
            moved[array, slot] = int(shards[-1].name.partition("/")[2].split(".")[1])
    target, seen = None, records.seen_by(table)
    if kept:
        target = records.write_record(files, [_moved(r, moved) for r in kept], shards, seen)
    left = [target.name] if target else [n for n in seen if (files.root / "log" / n).exists()]
    head.note(files, newest=left, gone=[record.name])
    snapshots.rename_record(files, record.name, target.name if target else None)
    files.remove(record)
    return old


def sweep(files: Files, shards: Iterable[Path]) -> None:
    """Remove those of the shards that no record names; then let the metadata follow."""
    named = named_shards(files)
    for path in shards:
        if f"{path.parent.name}/{path.name}" not in named:
            files.remove(path)
    restate(files)


def named_shards(files: Files) -> set[str]:
    """Every shard that a record names, as array/file."""
    return {
        shard.name
        for record in (files.root / "log").glob("*.parquet")
        for shard in records.shards_of(records.read_record(record))
    }


def restate(files: Files) -> None:
    """Let the metadata of every array describe the rows that are committed now."""
    committed = log.Log(files)
    for folder in sorted(p.parent for p in (files.root / layout.GROUP).glob("*/zarr.json")):
        spec, geometry = layout.describe(files, folder.name)
        length = committed.length(folder.name, geometry.slot_rows)
        metadata = layout.array_json(spec, geometry, length)
        layout.grow(files, folder, metadata, or_shrink=True)


def _extents(
    rows: Iterable[Mapping[str, Any]], array: str, slot: int, slot_rows: int
) -> list[Extent]:
    """Where rows of these outcomes lie in one slot, in order."""
    found = []
    for row in rows:
        if row["array"] != array or not row["rows"]:
            continue
        at, left = row["start"], row["rows"]
        for each in (row["slot"], *(row["more_slots"] or ())):
            n = min(left, slot_rows - at)
            if each == slot and n:
                found.append((at, n))
            at, left = 0, left - n
    return sorted(found)


def _copy(
    files: Files,
    shard: Path,
    spec: FeatureSpec,
    geometry: layout.Geometry,
    extents: list[Extent],
) -> records.Shard:
    """A new shard with these rows of an old one, where they lay, and zeros between."""
    old, writer = files.open_shard(shard), SlotWriter(files.tmp, geometry, spec.row_bytes)
    for first, n in extents:
        for at in range(writer.rows, first, geometry.rows_per_chunk):
            empty = min(first - at, geometry.rows_per_chunk)
            writer.append(np.zeros((empty, spec.row_bytes), np.uint8))
        old.want(first * spec.row_bytes, n * spec.row_bytes)
        for at in range(first, first + n, geometry.rows_per_chunk):
            count = min(first + n - at, geometry.rows_per_chunk)
            rows = np.empty((count, spec.row_bytes), np.uint8)
            read_into(old, rows, at * spec.row_bytes)
            writer.append(rows)
    slot = place(files, writer, shard.parent, spec)
    name = f"{shard.parent.name}/{layout.shard_name(slot, spec)}"
    return records.Shard(name=name, size_bytes=writer.size_bytes, crc32c=writer.crc32c)


def _moved(row: dict[str, Any], moved: Mapping[tuple[str, int], int]) -> dict[str, Any]:
    def to(slot: int) -> int:
        return moved.get((row["array"], slot), slot)

    more = row["more_slots"]
    return {**row, "slot": to(row["slot"]), "more_slots": [to(s) for s in more] if more else None}
