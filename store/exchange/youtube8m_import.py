"""YouTube-8M's TFRecords into a store: many files at once, resumable, nothing lost to one bad file.

Each row in the log carries the file and offset that it came from, and the catalog is written after
the rows. So a second run takes exactly the records that have no rows or no place in the catalog,
and knows the others without reading them. A damaged record is a failure under the name
``file@offset``; when it is read at last, the failure becomes `skipped`.
"""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store.exchange import import_workers, youtube8m
from mmf.store.exchange.import_catalog import ImportCatalog, class_names
from mmf.store.exchange.import_clashes import settle
from mmf.store.exchange.import_failures import mark_failures
from mmf.store.exchange.import_file import FileResult
from mmf.store.feature_store import FeatureStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What became of all files."""

    files: int
    imported: int
    there: int
    denied: int  # records of videos that were deleted from the store
    damaged: int
    repeated: int  # records of a video that another record of this run has, too
    clashes: tuple[str, ...]  # videos with different rows in different places


def import_youtube8m(
    store: FeatureStore,
    files: Iterable[str | Path],
    *,
    workers: int | None = None,
    label_set: str = "default",
    vocabulary: str | Path | None = None,
    progress: Callable[[FileResult], None] | None = None,
) -> ImportResult:
    """Import TFRecord files, or folders of them; run again after a kill to go on.

    Features: rgb and audio (uint8, one row a second), mean_rgb and mean_audio (float32). Labels go
    to `label_set`, those of segments to the set "segments". A class is called by its number, or as
    the `vocabulary` (YouTube-8M's CSV with Index and Name) calls it. Of a video that several
    records have, the first in the order of the files' paths stands. Videos that were deleted from
    the store stay out of it.
    """
    paths = find_files(files)
    names = class_names(vocabulary) if vocabulary else []
    catalog = ImportCatalog(store, label_set, names)
    skip = _taken(store, catalog.known())
    jobs = [(path, skip.get(str(path), set())) for path in paths]
    results = []
    try:
        for number, result in enumerate(import_workers.run(store.path, jobs, workers or _cores())):
            catalog.add(number, result.path, result.pending)
            results.append(result)
            if progress:
                progress(result)
    finally:
        catalog.flush()
    store.refresh()
    mark_failures(store, results)
    repeated, differ = catalog.repeated()
    clashes = sorted({*differ, *(c for r in results for c in r.clashes)})
    if clashes:
        settle(store, paths, catalog.firsts(clashes))
    store.index()
    if denied := sum(r.denied for r in results):
        logger.warning("%d videos were deleted from the store and stay out of it.", denied)
    return ImportResult(
        files=len(paths),
        imported=sum(r.imported for r in results),
        there=sum(r.there for r in results),
        denied=denied,
        damaged=sum(len(r.damage) for r in results),
        repeated=repeated,
        clashes=tuple(clashes),
    )


def find_files(given: Iterable[str | Path]) -> list[Path]:
    """The TFRecord files that are meant, absolute and in order; MmfError where there is none."""
    found: set[Path] = set()
    for path in map(Path, given):
        inside = path.rglob("*.tfrecord") if path.is_dir() else [path]
        inside = [p for p in inside if p.is_file()]
        if not inside:
            raise MmfError(
                f"there is no TFRecord file at {str(path)!r}; expected files, or a folder with "
                "*.tfrecord in it."
            )
        found.update(p.resolve() for p in inside)
    if not found:
        raise MmfError("name the TFRecord files to import, or a folder of them.")
    return sorted(found)


def _cores() -> int:
    return os.cpu_count() or 1


def _taken(store: FeatureStore, catalogued: pa.Array) -> dict[str, set[int]]:
    """Offsets, by file, of the records whose rows and labels are in the store."""
    taken: dict[str, set[int]] = {}
    for feature in youtube8m.features_of(store):
        table = store.stored(feature).outcomes
        done = table.filter(
            pc.and_(pc.equal(table["status"], "done"), pc.is_in(table["video_id"], catalogued))
        )
        for place in done["path"].to_pylist():
            path, _, offset = place.rpartition("@")
            taken.setdefault(path, set()).add(int(offset))
    return taken
