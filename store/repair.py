"""Bring a damaged store back to where it is whole, at the price of what cannot be read.

Videos whose rows are lost leave their records, so that `mmf extract` makes them again; what can be
read stays, in new shards. Metadata is written again from the log. Nothing readable is destroyed:
a damaged file that another cannot replace goes to ``lost/``.
"""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.store import head, index, layout, log
from mmf.store import snapshot as snapshots
from mmf.store.catalog import EMPTY, put_table
from mmf.store.layout import LOST
from mmf.store.reader import FeatureStore
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


def repair(path: str | Path) -> list[Repaired]:
    """Repair what `verify` finds; what is left for people to do, it finds again afterwards."""
    root, done = Path(path), list[Repaired]()
    for _ in range(ROUNDS):
        problems = verify(root)
        fixed = [one for problem in problems if (one := _repair(root, problem)) is not None]
        done += fixed
        if not fixed:
            break
    return done


def _repair(root: Path, problem: Problem) -> Repaired | None:
    path, parts = root / problem.path, Path(problem.path).parts
    if parts == ("mmf.json",):
        layout.put(root / "tmp", path, layout.json_bytes(layout.FORMAT))
        return Repaired(path=problem.path, what="written again")
    if parts == (layout.GROUP, "zarr.json"):
        layout.put(root / "tmp", path, layout.group_json())
        return Repaired(path=problem.path, what="written again")
    if parts == (head.FILE,):
        return _head(root)
    match parts[0]:
        case "log":
            return _record(root, path)
        case "features":
            return _feature(root, path)
        case "catalog":
            return _catalog(root, path)
        case "index":
            return _index(root, problem.path)
        case "snapshots":
            return _snapshot(root, path)
        case layout.GROUP if parts[-1] == "zarr.json":
            return _metadata(root, path)
        case layout.GROUP if parts[-1].startswith("c."):
            return _shard(root, path)
    return None


def _record(root: Path, path: Path) -> Repaired:
    """A record that is gone, or damaged: what it says of rows that are whole is kept."""
    name = str(path.relative_to(root))
    if not path.exists():
        _forget_record(root, path.name)
        return Repaired(path=name, what="is lost, and with it the names of its videos")
    _set_aside(root, path, keep=True)
    try:
        lost = _lost(root, path, only_done=True)
        _keep_all_but(root, path, lost)
    except (MmfError, OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        _forget_record(root, path.name)
        path.unlink()
        return Repaired(path=name, what="cannot be read, and with it the names of its videos")
    return Repaired(path=name, what="written again", lost=tuple(sorted(lost)))


def _shard(root: Path, path: Path) -> Repaired | None:
    """A shard that is gone, or damaged: videos whose crc32c is right are kept."""
    shard = f"{path.parent.name}/{path.name}"
    if path.exists():
        _set_aside(root, path, keep=True)
    for record in sorted((root / "log").glob("*.parquet")):
        if shard in {s.name for s in log.shards_of(log.read_record(record))}:
            lost = _lost(root, record, only_done=False)
            _keep_all_but(root, record, lost, damaged={shard})
            what = "what could be read was written again"
            return Repaired(path=str(path.relative_to(root)), what=what, lost=tuple(sorted(lost)))
    return None


def _keep_all_but(
    root: Path, record: Path, lost: set[tuple[str, str]], damaged: Collection[str] = ()
) -> None:
    def whole(row: Mapping[str, Any]) -> bool:
        return (row["feature"], row["video_id"]) not in lost

    sweep(root, rewrite(root, record, whole, damaged=damaged))


def _lost(root: Path, record: Path, *, only_done: bool) -> set[tuple[str, str]]:
    """(feature, video) of the rows of a record that cannot be read as they were committed."""
    return {
        (row["feature"], row["video_id"])
        for row in log.read_record(record).to_pylist()
        if not (_whole(root, row) if row["status"] == "done" else not only_done)
    }


def _whole(root: Path, row: Mapping[str, Any]) -> bool:
    spec, geometry = layout.describe(root, row["array"])
    values = np.empty((row["rows"], *spec.shape), np.dtype(spec.dtype).newbyteorder("<"))
    rows = Rows(root / layout.GROUP / row["array"], spec, geometry)
    try:
        rows.read([row["slot"], *(row["more_slots"] or ())], row["start"], values)
    except (MmfError, OSError):
        return False
    return int(google_crc32c.value(values)) == row["crc32c"]


def _forget_record(root: Path, name: str) -> None:
    head.note(root, gone=[name])
    snapshots.rename_record(root, name, None)


def _head(root: Path) -> Repaired:
    if (root / head.FILE).exists():
        _set_aside(root, root / head.FILE)
    committed = log.Log(root)
    head.note(root, newest=committed.newest, seen=committed.seen)
    return Repaired(path=head.FILE, what="written again from what is there")


def _feature(root: Path, path: Path) -> Repaired | None:
    """A version of a feature: the newest one also stands in the head; older ones are history."""
    value = head.read(root).features.get(path.parent.name)
    if value is None:
        return None
    if path.exists():
        _set_aside(root, path)
    layout.put(root / "tmp", path, layout.sealed(value))
    return Repaired(path=str(path.relative_to(root)), what="written again from the head")


def _metadata(root: Path, path: Path) -> Repaired | None:
    array = path.parent.name
    try:
        spec, geometry = layout.describe(root, array)
    except (MmfError, OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    length = log.Log(root).length(array, geometry.slot_rows)
    layout.put(root / "tmp", path, layout.array_json(spec, geometry, length))
    return Repaired(path=str(path.relative_to(root)), what="written again from the log")


def _index(root: Path, name: str) -> Repaired:
    for path in (root / index.FOLDER).iterdir():
        path.unlink()
    FeatureStore(root).index()
    return Repaired(path=name, what="made again from the log")


def _snapshot(root: Path, path: Path) -> Repaired:
    if path.exists():
        _set_aside(root, path)
    head.note(root, forgotten=[path.stem])
    return Repaired(path=str(path.relative_to(root)), what="is lost; no run can be opened at it")


def _catalog(root: Path, path: Path) -> Repaired:
    """A table or a version of one: the newest version that is whole stands in its place."""
    kind = path.parent.relative_to(root / "catalog").as_posix()
    if path.exists():
        _set_aside(root, path)
    for name in snapshots.listed(root):
        if snapshots.read(root, name)["catalog"].get(kind, {}).get("file") == path.name:
            _snapshot(root, root / snapshots.FOLDER / f"{name}.json")
    whole = [p for p in sorted(path.parent.glob("*.json")) if _table_is_whole(p)]
    value = layout.read_sealed(whole[-1]) if whole else _empty(root, path.parent)
    newest = head.read(root).versions.get(f"catalog/{kind}", 0)
    for number in range(1, newest + 1):
        version = path.with_name(f"{number:06d}.json")
        if not version.exists() or (number == newest and not _table_is_whole(version)):
            layout.put(root / "tmp", version, layout.sealed(value))
    stands = f"version {whole[-1].stem}" if whole else "an empty table"
    what = f"is lost; {stands} stands in its place. Give labels, splits or manifest again"
    return Repaired(path=str(path.relative_to(root)), what=what)


def _empty(root: Path, folder: Path) -> dict[str, Any]:
    """A version of a table that names nobody, with the classes if a version still says them."""
    about = {}
    for path in sorted(folder.glob("*.json")):
        with suppress(MmfError):
            about = layout.read_sealed(path)["about"]
    table = EMPTY[folder.parent.name].empty_table()
    return {"file": put_table(root, folder, table), "about": about, "rows": 0}


def _table_is_whole(version: Path) -> bool:
    try:
        table = version.with_name(layout.read_sealed(version)["file"])
        return layout.digest(table.read_bytes()) == table.stem
    except (MmfError, OSError):
        return False


def _set_aside(root: Path, path: Path, *, keep: bool = False) -> None:
    """Put a damaged file into ``lost/``; with `keep` it stays where it is too."""
    (root / LOST).mkdir(exist_ok=True)
    target = root / LOST / ".".join(path.relative_to(root).parts)
    target.unlink(missing_ok=True)
    if keep:
        os.link(path, target)
    else:
        os.replace(path, target)
