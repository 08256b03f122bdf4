"""Delete videos: hide them, or leave nothing of them.

The denylist comes first, so that no job brings back what is being deleted. With `purge`, every
record that names the videos is written anew without them, in old arrays and for snapshots too,
and their bytes leave the shards; so do their labels, splits and manifest columns. A kill in
between is no harm: the same command goes on. Files of a commit that is on its way stay until it
ends, and its writer then does the same.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmf.store import denied, index, layout, log
from mmf.store import snapshot as snapshots
from mmf.store.catalog import put_table
from mmf.store.layout import LOST
from mmf.store.reader import FeatureStore
from mmf.store.rewrite import rewrite, sweep

STALE_SECONDS = 3600.0  # what is older and unnamed was left by a kill


def delete(path: str | Path, video_ids: Sequence[str], *, purge: bool = False) -> list[str]:
    """Delete videos from a store; returns those of which it had something to show."""
    store = FeatureStore(path)
    known = set(store.videos()["video_id"].to_pylist())
    denied.deny(store.path, video_ids, purge=purge)
    store.catalog.leave_out_denied()
    if purge:
        _purge(store.path)
    return sorted(known.intersection(video_ids))


def _purge(root: Path) -> None:
    gone = denied.read(root).purged
    shards = list(_stale(root.glob(f"{layout.GROUP}/*/c.*")))  # a killed purge leaves some
    for path in sorted((root / "log").glob("*.parquet")):
        if any(gone(v) for v in log.read_record(path)["video_id"].to_pylist()):
            shards += rewrite(root, path, lambda row: not gone(row["video_id"]))
    for file in sorted((root / index.FOLDER).glob("*")):  # a cache, and it names everything
        file.unlink()
    _purge_tables(root, gone)
    for old in sorted((root / denied.FOLDER).glob("*.json"))[:-1]:
        old.unlink()
    for part in _stale((root / "tmp").iterdir()):
        part.unlink(missing_ok=True)
    if (root / LOST).is_dir():  # what repair has set aside
        shutil.rmtree(root / LOST)
    sweep(root, shards)
    FeatureStore(root).index(only_if_due=True)


def _stale(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that no commit on its way can be waiting for."""
    now = time.time()
    yield from (p for p in paths if now - p.stat().st_mtime > STALE_SECONDS)


def _purge_tables(root: Path, gone: Callable[[str], bool]) -> None:
    """Every table, also of older versions, without the videos; what names it names the new one."""
    for folder in sorted(p for p in (root / "catalog").glob("*/*") if p.is_dir()):
        moved: dict[str, str] = {}
        for path in sorted(folder.glob("*.parquet")):
            table = pq.read_table(path)
            kept = [not gone(v) for v in table["video_id"].to_pylist()]
            if not all(kept):
                moved[path.name] = put_table(root, folder, table.filter(pa.array(kept)))
        if moved:
            _rename_tables(root, folder, moved)
            for name in moved:
                (folder / name).unlink(missing_ok=True)


def _rename_tables(root: Path, folder: Path, moved: dict[str, str]) -> None:
    key = folder.relative_to(root / "catalog").as_posix()
    for path in sorted(folder.glob("*.json")):
        value = layout.read_sealed(path)
        if value["file"] in moved:
            value["file"] = moved[value["file"]]
            layout.put(root / "tmp", path, layout.sealed(value))
    for name in snapshots.listed(root):
        value = snapshots.read(root, name)
        if value["catalog"].get(key, {}).get("file") in moved:
            value["catalog"][key]["file"] = moved[value["catalog"][key]["file"]]
            path = root / snapshots.FOLDER / f"{name}.json"
            layout.put(root / "tmp", path, layout.sealed(value))
