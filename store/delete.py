"""Delete videos: hide them, or leave nothing of them.

The denylist comes first, so that no job brings back what is being deleted. With `purge`, every
record that names the videos is written anew without them, in old arrays and for snapshots too,
and their bytes leave the shards; so do their labels, splits and manifest columns. A kill in
between is no harm: the same command goes on. Files of a commit that is on its way stay until it
ends, and its writer then does the same.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmf.store import denied, index, layout, records
from mmf.store import snapshot as snapshots
from mmf.store.catalog import put_table
from mmf.store.feature_store import FeatureStore
from mmf.store.files import LOST, Files, read_sealed, sealed
from mmf.store.rewrite import rewrite, sweep

STALE_SECONDS = 3600.0  # what is older and unnamed was left by a kill


def delete(path: str | Path, video_ids: Sequence[str], *, purge: bool = False) -> list[str]:
    """Delete videos from a store; returns those of which it had something to show."""
    store = FeatureStore(path)
    known = set(store.videos()["video_id"].to_pylist())
    denied.deny(store.files, video_ids, purge=purge)
    store.catalog.leave_out_denied()
    if purge:
        _purge(store.files)
    return sorted(known.intersection(video_ids))


def _purge(files: Files) -> None:
    gone = denied.read(files).purged
    arrays = (files.root / layout.GROUP).glob("*/")
    shards = [s.path for a in arrays for s in files.shards(a) if _is_stale(s.since)]
    for path in sorted((files.root / "log").glob("*.parquet")):
        if any(gone(v) for v in records.read_record(path)["video_id"].to_pylist()):
            shards += rewrite(files, path, lambda row: not gone(row["video_id"]))
    for file in sorted((files.root / index.FOLDER).glob("*")):  # a cache, and it names everything
        files.remove(file)
    _purge_tables(files, gone)
    for old in sorted((files.root / denied.FOLDER).glob("*.json"))[:-1]:
        files.remove(old)
    for part in files.tmp.iterdir():
        if _is_stale(files.weigh(part)[1]):
            files.remove(part)
    files.remove_folder(files.root / LOST)  # what repair has set aside
    sweep(files, shards)
    FeatureStore(files).index(only_if_due=True)


def _is_stale(since: float) -> bool:
    """Whether no commit on its way can be waiting for a file of this time."""
    return time.time() - since > STALE_SECONDS


def _purge_tables(files: Files, gone: Callable[[str], bool]) -> None:
    """Every table, also of older versions, without the videos; what names it names the new one."""
    for folder in sorted(p for p in (files.root / "catalog").glob("*/*") if p.is_dir()):
        moved: dict[str, str] = {}
        for path in sorted(folder.glob("*.parquet")):
            table = pq.read_table(path)
            kept = [not gone(v) for v in table["video_id"].to_pylist()]
            if not all(kept):
                moved[path.name] = put_table(files, folder, table.filter(pa.array(kept)))
        if moved:
            _rename_tables(files, folder, moved)
            for name in moved:
                files.remove(folder / name)


def _rename_tables(files: Files, folder: Path, moved: dict[str, str]) -> None:
    key = folder.relative_to(files.root / "catalog").as_posix()
    for path in sorted(folder.glob("*.json")):
        value = read_sealed(path)
        if value["file"] in moved:
            value["file"] = moved[value["file"]]
            files.put(path, sealed(value))
    for name in snapshots.listed(files):
        value = snapshots.read(files, name)
        if value["catalog"].get(key, {}).get("file") in moved:
            value["catalog"][key]["file"] = moved[value["catalog"][key]["file"]]
            path = files.root / snapshots.FOLDER / f"{name}.json"
            files.put(path, sealed(value))
