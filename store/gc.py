"""Remove what nobody can see: never what a snapshot or a visible record names.

Readers that have the store open, and writers whose commit is on its way, are not known; the grace
period is for them.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc

from mmf.store import head, index, layout, log, records
from mmf.store import snapshot as snapshots
from mmf.store.feature_store import FeatureStore
from mmf.store.files import Files, current
from mmf.store.rewrite import named_shards, rewrite, sweep

GRACE_SECONDS = 7 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """One file or folder that nobody can see."""

    path: Path
    why: str
    size_bytes: int
    since: float  # when it became garbage at the latest, as files say the time


def collect(
    path: str | Path, *, grace_seconds: float = GRACE_SECONDS, dry_run: bool = False
) -> list[Garbage]:
    """Remove garbage that is older than the grace period; returns what there was of it.

    A grace of 0 is for a store that nothing writes to and nobody has open.
    """
    store = FeatureStore(path)
    if not dry_run:
        for feature in store.features:  # what a late writer left in an old array
            store.writer().absorb(feature)
    limit = time.time() - grace_seconds
    found = [one for one in _found(store.files) if one.since <= limit]
    if not dry_run:
        _remove(store.files, [one.path for one in found])
    return found


def _found(files: Files) -> Iterator[Garbage]:
    pinned = [snapshots.read(files, name) for name in snapshots.listed(files)]
    standing = [current(p)[1] for p in sorted((files.root / "features").iterdir())]
    arrays = {value["array"] for value in standing if value is not None}
    arrays.update(f["array"] for value in pinned for f in value["features"].values())
    for part in sorted(files.tmp.iterdir()):
        yield _garbage(files, part, "was left by a commit that never ended")
    for folder in sorted(p for p in (files.root / layout.GROUP).iterdir() if p.is_dir()):
        if folder.name not in arrays:
            versions = files.root / "features" / folder.name.partition(".")[0]
            newest = max(versions.glob("*.json"), default=folder)
            one = _garbage(files, folder, "is of no feature, and of no snapshot")
            yield replace(one, since=max(one.since, newest.stat().st_mtime))
    yield from _orphans(files, arrays)
    yield from _beaten(files, {name for value in pinned for name in value["records"]})
    tables = {f"{n}/{t['file']}" for value in pinned for n, t in value["catalog"].items()}
    yield from _tables(files, tables)
    _, value = current(files.root / index.FOLDER)
    for path in sorted((files.root / index.FOLDER).glob("*.arrow")):
        if value is None or path.name != value["file"]:
            yield _garbage(files, path, "is no index that stands")


def _orphans(files: Files, arrays: set[str]) -> Iterator[Garbage]:
    named = named_shards(files)
    for array in sorted(arrays):
        for shard in files.shards(files.root / layout.GROUP / array):
            if f"{array}/{shard.path.name}" not in named:
                why = "is named by no record"
                size, since = shard.size_bytes, shard.since
                yield Garbage(path=shard.path, why=why, size_bytes=size, since=since)


def _beaten(files: Files, pinned: set[str]) -> Iterator[Garbage]:
    """Records all of whose outcomes are superseded by those of other records."""
    committed = log.Log(files)
    standing = {
        int(n)
        for array in committed.arrays
        for n in pc.unique(committed.visible(array)["record"]).to_pylist()
    }
    for number, path in enumerate(committed.records):
        if number in standing or path.name in pinned:
            continue
        ids = records.read_record(path)["video_id"].to_pylist()
        if not any(video in committed.denied for video in ids):  # hidden is not superseded
            yield _garbage(files, path, "holds nothing that stands")


def _tables(files: Files, pinned: set[str]) -> Iterator[Garbage]:
    for folder in sorted(p for p in (files.root / "catalog").glob("*/*") if p.is_dir()):
        kind = folder.relative_to(files.root / "catalog").as_posix()
        _, value = current(folder)
        for path in sorted(folder.glob("*.parquet")):
            standing = value is not None and path.name == value["file"]
            if not standing and f"{kind}/{path.name}" not in pinned:
                yield _garbage(files, path, "is a table of an older version")


def _garbage(files: Files, path: Path, why: str) -> Garbage:
    size, since = files.weigh(path)
    return Garbage(path=path, why=why, size_bytes=size, since=since)


def _remove(files: Files, paths: list[Path]) -> None:
    arrays = {p.name for p in paths if p.is_dir()}
    unwanted = {p for p in paths if p.parent.name == "log"}
    shards: list[Path] = []
    for record in sorted((files.root / "log").glob("*.parquet")):
        if record in unwanted:
            shards += rewrite(files, record, lambda _: False)
        elif arrays.intersection(records.read_record(record)["array"].to_pylist()):
            shards += rewrite(files, record, lambda row: row["array"] not in arrays)
    for path in paths:
        if path.is_dir():
            files.remove_folder(path)
        else:
            files.remove(path)
    if unwanted or arrays:
        sweep(files, shards)
        head.prune(files, {n for p in (files.root / "log").glob("*.parquet") for n in _seen(p)})
        FeatureStore(files).index(only_if_due=True)


def _seen(record: Path) -> list[str]:
    return records.seen_by(records.read_record(record))
