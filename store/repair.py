"""Bring a damaged store back to where it is whole, at the price of what cannot be read.

Videos whose rows are lost leave their records, so that `mmf extract` makes them again; what can be
read stays, in new shards. Metadata is written again from the log. Nothing readable is destroyed:
a damaged file that another cannot replace goes to ``lost/``.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.store import head, index, layout, log, records
from mmf.store import snapshot as snapshots
from mmf.store.catalog import EMPTY, put_table
from mmf.store.feature_store import FeatureStore
from mmf.store.files import Files, digest, json_bytes, open_files, read_sealed, sealed
from mmf.store.rewrite import rewrite, sweep
from mmf.store.rows import Rows
from mmf.store.verify import Problem, verify

ROUNDS = 4  # what one damage hid, the next round finds


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What was done about one problem."""

    path: str  # of the file, below the store
    what: str
    lost: tuple[tuple[str, str], ...] = ()  # (feature, video) to be extracted again


def repair(path: str | Path | Files) -> list[Repaired]:
    """Repair what `verify` finds; what is left for people to do, it finds again afterwards."""
    files, done = open_files(path), list[Repaired]()
    for _ in range(ROUNDS):
        problems = verify(files)
        fixed = [one for problem in problems if (one := _repair(files, problem)) is not None]
        done += fixed
        if not fixed:
            break
    return done


def _repair(files: Files, problem: Problem) -> Repaired | None:
    path, parts = files.root / problem.path, Path(problem.path).parts
    if parts == ("mmf.json",):
        files.put(path, json_bytes(layout.FORMAT))
        return Repaired(path=problem.path, what="written again")
    if parts == (layout.GROUP, "zarr.json"):
        files.put(path, layout.group_json())
        return Repaired(path=problem.path, what="written again")
    if parts == (head.FILE,):
        return _head(files)
    match parts[0]:
        case "log":
            return _record(files, path)
        case "features":
            return _feature(files, path)
        case "catalog":
            return _catalog(files, path)
        case "index":
            return _index(files, problem.path)
        case "snapshots":
            return _snapshot(files, path)
        case layout.GROUP if parts[-1] == "zarr.json":
            return _metadata(files, path)
        case layout.GROUP if parts[-1].startswith("c."):
            return _shard(files, path)
    return None


def _record(files: Files, path: Path) -> Repaired:
    """A record that is gone, or damaged: what it says of rows that are whole is kept."""
    name = str(path.relative_to(files.root))
    if not path.exists():
        _forget_record(files, path.name)
        return Repaired(path=name, what="is lost, and with it the names of its videos")
    files.set_aside(path, keep=True)
    try:
        lost = _lost(files, path, only_done=True)
        _keep_all_but(files, path, lost)
    except (MmfError, OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        _forget_record(files, path.name)
        files.remove(path)
        return Repaired(path=name, what="cannot be read, and with it the names of its videos")
    return Repaired(path=name, what="written again", lost=tuple(sorted(lost)))


def _shard(files: Files, path: Path) -> Repaired | None:
    """A shard that is gone, or damaged: videos whose crc32c is right are kept."""
    shard = f"{path.parent.name}/{path.name}"
    if files.has(path):
        files.set_aside(path, keep=True)
    for record in sorted((files.root / "log").glob("*.parquet")):
        if shard in {s.name for s in records.shards_of(records.read_record(record))}:
            lost = _lost(files, record, only_done=False)
            _keep_all_but(files, record, lost, damaged={shard})
            what = "what could be read was written again"
            return Repaired(
                path=str(path.relative_to(files.root)), what=what, lost=tuple(sorted(lost))
            )
    return None


def _keep_all_but(
    files: Files, record: Path, lost: set[tuple[str, str]], damaged: Collection[str] = ()
) -> None:
    def whole(row: Mapping[str, Any]) -> bool:
        return (row["feature"], row["video_id"]) not in lost

    sweep(files, rewrite(files, record, whole, damaged=damaged))


def _lost(files: Files, record: Path, *, only_done: bool) -> set[tuple[str, str]]:
    """(feature, video) of the rows of a record that cannot be read as they were committed."""
    return {
        (row["feature"], row["video_id"])
        for row in records.read_record(record).to_pylist()
        if not (_whole(files, row) if row["status"] == "done" else not only_done)
    }


def _whole(files: Files, row: Mapping[str, Any]) -> bool:
    spec, geometry = layout.describe(files, row["array"])
    values = np.empty((row["rows"], *spec.shape), np.dtype(spec.dtype).newbyteorder("<"))
    rows = Rows(files, row["array"], spec, geometry)
    try:
        rows.read([row["slot"], *(row["more_slots"] or ())], row["start"], values)
    except (MmfError, OSError):
        return False
    return int(google_crc32c.value(values)) == row["crc32c"]


def _forget_record(files: Files, name: str) -> None:
    head.note(files, gone=[name])
    snapshots.rename_record(files, name, None)


def _head(files: Files) -> Repaired:
    if (files.root / head.FILE).exists():
        files.set_aside(files.root / head.FILE, keep=False)
    committed = log.Log(files)
    head.note(files, newest=committed.newest, seen=committed.seen)
    return Repaired(path=head.FILE, what="written again from what is there")


def _feature(files: Files, path: Path) -> Repaired | None:
    """A version of a feature: the newest one also stands in the head; older ones are history."""
    value = head.read(files).features.get(path.parent.name)
    if value is None:
        return None
    if path.exists():
        files.set_aside(path, keep=False)
    files.put(path, sealed(value))
    return Repaired(path=str(path.relative_to(files.root)), what="written again from the head")


def _metadata(files: Files, path: Path) -> Repaired | None:
    array = path.parent.name
    try:
        spec, geometry = layout.describe(files, array)
    except (MmfError, OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    length = log.Log(files).length(array, geometry.slot_rows)
    files.put(path, layout.array_json(spec, geometry, length))
    return Repaired(path=str(path.relative_to(files.root)), what="written again from the log")


def _index(files: Files, name: str) -> Repaired:
    for path in (files.root / index.FOLDER).iterdir():
        files.remove(path)
    FeatureStore(files).index()
    return Repaired(path=name, what="made again from the log")


def _snapshot(files: Files, path: Path) -> Repaired:
    if path.exists():
        files.set_aside(path, keep=False)
    head.note(files, forgotten=[path.stem])
    return Repaired(
        path=str(path.relative_to(files.root)), what="is lost; no run can be opened at it"
    )


def _catalog(files: Files, path: Path) -> Repaired:
    """A table or a version of one: the newest version that is whole stands in its place."""
    kind = path.parent.relative_to(files.root / "catalog").as_posix()
    if path.exists():
        files.set_aside(path, keep=False)
    for name in snapshots.listed(files):
        if snapshots.read(files, name)["catalog"].get(kind, {}).get("file") == path.name:
            _snapshot(files, files.root / snapshots.FOLDER / f"{name}.json")
    whole = [p for p in sorted(path.parent.glob("*.json")) if _table_is_whole(p)]
    value = read_sealed(whole[-1]) if whole else _empty(files, path.parent)
    newest = head.read(files).versions.get(f"catalog/{kind}", 0)
    for number in range(1, newest + 1):
        version = path.with_name(f"{number:06d}.json")
        if not version.exists() or (number == newest and not _table_is_whole(version)):
            files.put(version, sealed(value))
    stands = f"version {whole[-1].stem}" if whole else "an empty table"
    what = f"is lost; {stands} stands in its place. Give labels, splits or manifest again"
    return Repaired(path=str(path.relative_to(files.root)), what=what)


def _empty(files: Files, folder: Path) -> dict[str, Any]:
    """A version of a table that names nobody, with the classes if a version still says them."""
    about = {}
    for path in sorted(folder.glob("*.json")):
        with suppress(MmfError):
            about = read_sealed(path)["about"]
    table = EMPTY[folder.parent.name].empty_table()
    return {"file": put_table(files, folder, table), "about": about, "rows": 0}


def _table_is_whole(version: Path) -> bool:
    try:
        table = version.with_name(read_sealed(version)["file"])
        return digest(table.read_bytes()) == table.stem
    except (MmfError, OSError):
        return False
