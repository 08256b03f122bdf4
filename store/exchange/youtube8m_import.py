"""YouTube-8M's TFRecords into a store: many files at once, resumable, nothing lost to one bad file.

Each row in the log carries the file and offset that it came from, and the catalog is written after
the rows. So a second run takes exactly the records that have no rows or no place in the catalog,
and knows the others without reading them. A damaged record is a failure under the name
``file@offset``; when it is read at last, the failure becomes `skipped`.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store.exchange import youtube8m
from mmf.store.exchange.import_catalog import ImportCatalog, Pending, class_names
from mmf.store.exchange.tfrecord import Record, read_records
from mmf.store.feature import Media, Outcome
from mmf.store.reader import FeatureStore
from mmf.store.writer import Writer

BUCKET_VIDEOS = 1024  # of one commit: about a file, some tenths of a second of work
BUCKET_BYTES = 256 << 20
LOST = {"length_crc", "torn"}  # after these the rest of a file is not read


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A record that could not be used."""

    offset: int
    reason: str
    message: str


@dataclass(kw_only=True)
class FileResult:
    """What became of one file."""

    path: Path
    imported: int = 0
    there: int = 0  # records that were in the store before
    clashes: list[str] = field(default_factory=list)  # videos that are there with other rows
    damage: list[Damage] = field(default_factory=list)
    pending: Pending = field(default_factory=Pending)  # for the catalog


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What became of all files."""

    files: int
    imported: int
    there: int
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
    the `vocabulary` (YouTube-8M's CSV with Index and Name) calls it.
    """
    paths = find_files(files)
    names = class_names(vocabulary) if vocabulary else []
    catalog = ImportCatalog(store, label_set, names)
    skip = _taken(store, catalog.known())
    jobs = [(path, skip.get(str(path), set())) for path in paths]
    results = []
    try:
        for result in _run(store.path, jobs, workers or os.cpu_count() or 1):
            catalog.add(result.path, result.pending)
            results.append(result)
            if progress:
                progress(result)
    finally:
        catalog.flush()
    store.refresh()
    _mark(store, results)
    repeated, clashes = catalog.repeated()
    return ImportResult(
        files=len(paths),
        imported=sum(r.imported for r in results),
        there=sum(r.there for r in results),
        damaged=sum(len(r.damage) for r in results),
        repeated=repeated,
        clashes=(*clashes, *(c for r in results for c in r.clashes)),
    )


def find_files(given: Iterable[str | Path]) -> list[Path]:
    """The TFRecord files that are meant, absolute; MmfError where there is none."""
    found: dict[Path, None] = {}
    for path in map(Path, given):
        inside = sorted(path.rglob("*.tfrecord")) if path.is_dir() else [path]
        if not inside or not all(p.is_file() for p in inside):
            raise MmfError(
                f"there is no TFRecord file at {str(path)!r}; expected files, or a folder with "
                "*.tfrecord in it."
            )
        found.update(dict.fromkeys(p.resolve() for p in inside))
    if not found:
        raise MmfError("name the TFRecord files to import, or a folder of them.")
    return list(found)


def _ours(store: FeatureStore) -> list[str]:
    return sorted(f for f, spec in store.features.items() if spec.recipe == youtube8m.RECIPE)


def _taken(store: FeatureStore, catalogued: pa.Array) -> dict[str, set[int]]:
    """Offsets, by file, of the records whose rows and labels are in the store."""
    taken: dict[str, set[int]] = {}
    for feature in _ours(store):
        table = store.stored(feature).outcomes
        done = table.filter(
            pc.and_(pc.equal(table["status"], "done"), pc.is_in(table["video_id"], catalogued))
        )
        for place in done["path"].to_pylist():
            path, _, offset = place.rpartition("@")
            taken.setdefault(path, set()).add(int(offset))
    return taken


def _run(
    root: Path, jobs: Sequence[tuple[Path, Collection[int]]], workers: int
) -> Iterator[FileResult]:
    if min(workers, len(jobs)) == 1:
        importer = FileImporter(root)
        for path, skip in jobs:
            yield importer.run(path, skip)
        return
    # a worker is a fresh process: threads of pyarrow do not survive a fork
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(root,))
    try:
        for done in as_completed([pool.submit(_import_file, *job) for job in jobs]):
            yield done.result()
    except BrokenProcessPool as error:
        raise ImportStopped(
            f"a worker process died ({error}). What was committed is safe; the same command goes "
            "on from there, with fewer --workers if memory was short."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class ImportStopped(MmfError, RuntimeError):
    """The import ended early and can be gone on with."""

    exit_code = 75


_importer: "FileImporter"


def _begin(root: Path) -> None:
    """Make this process a worker, which ends when its parent does, even by a kill."""
    global _importer

    def follow() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(ImportStopped.exit_code)

    Thread(target=follow, daemon=True).start()
    _importer = FileImporter(root)


def _import_file(path: Path, skip: Collection[int]) -> FileResult:
    return _importer.run(path, skip)


class FileImporter:
    """Imports one file after another into one store."""

    def __init__(self, root: Path):
        self._store = FeatureStore(root)
        self._before = FeatureStore(root)  # as it was when the run began; it is not refreshed
        self._checked: set[str] = set()  # features whose recipe is ours

    def run(self, path: Path, skip: Collection[int]) -> FileResult:
        """Import the records of one file that do not lie at the offsets in `skip`."""
        result = FileResult(path=path, there=len(skip))
        writer = self._store.writer()
        seen: set[str] = set()
        try:
            for record in read_records(path, skip=skip):
                video = self._read(record, result)
                if video is None:
                    continue
                if video.video_id not in seen and self._is_fresh(video, path, record, result):
                    self._put(writer, video, path, record)
                    result.imported += 1
                seen.add(video.video_id)
                result.pending.add(video)
                if len(seen) % BUCKET_VIDEOS == 0 or writer.bytes >= BUCKET_BYTES:
                    writer.commit()
        except BaseException:
            writer.discard()
            raise
        writer.commit()
        return result

    def _read(self, record: Record, result: FileResult) -> youtube8m.Video | None:
        reason, message = record.reason, record.message
        if not reason:
            try:
                return youtube8m.read_video(record.data)
            except MmfError as error:
                reason, message = "unreadable", str(error)
        result.damage.append(Damage(offset=record.offset, reason=reason, message=message))
        return None

    def _is_fresh(
        self, video: youtube8m.Video, path: Path, record: Record, result: FileResult
    ) -> bool:
        """Whether the store had no rows of the video; whether those it had are the same."""
        for name, track in video.tracks.items():
            if name not in self._before.features:
                continue
            stored = self._before.stored(name)
            at = stored.position(video.video_id)
            old = stored.outcomes.slice(at, 1).to_pylist()[0] if at is not None else {}
            if old.get("status") == "done":
                result.there += 1
                same = google_crc32c.value(stored.spec.encode(track.values)) == old["crc32c"]
                if not same:
                    result.clashes.append(video.video_id)
                return False
        return True

    def _put(self, writer: Writer, video: youtube8m.Video, path: Path, record: Record) -> None:
        media = Media(path=f"{path}@{record.offset}", size_bytes=len(record.data))
        for name, track in video.tracks.items():
            self._create(name, track.values.shape[1])
            try:
                writer.put(name, track, media=media)
            except MmfError as error:
                failed = Outcome(
                    video_id=video.video_id,
                    status="failed",
                    reason="unfit",
                    stage="import",
                    message=str(error),
                    media=media,
                )
                writer.mark(name, failed)

    def _create(self, name: str, width: int) -> None:
        """Make the feature, or make sure that the one there is YouTube-8M's."""
        if name in self._checked:
            return
        there = self._store.features.get(name)
        spec = youtube8m.feature_spec(name, there.shape[0] if there else width)
        self._store.create_feature(spec)
        self._checked.add(name)


def failure_id(path: Path, offset: int) -> str:
    """What stands in the failures for a record whose video is not known."""
    return f"{path.name}@{offset}"


def _mark(store: FeatureStore, results: Sequence[FileResult]) -> None:
    """Damaged records become failures; those that were failures and are read now, skipped.

    They stand under the feature that tells most of the store, so that the rows are the same
    whatever the order in which files were done.
    """
    ours = [f for f in ("rgb", "mean_rgb", "audio", "mean_audio") if f in _ours(store)]
    damaged = [(r.path, d) for r in results for d in r.damage]
    if not ours and not damaged:
        raise MmfError(f"the {len(results)} files are empty; there is nothing to import.")
    if not ours:
        path, first = damaged[0]
        raise MmfError(
            f"none of the {len(results)} files holds a record that can be read; the first: {path}, "
            f"byte {first.offset}: {first.message}."
        )
    writer = store.writer()
    for path, found in damaged:
        writer.mark(ours[0], _failure(path, found))
    for feature in ours:
        for name in _mended(store, feature, results):
            mended = Outcome(video_id=name, status="skipped", reason="mended", stage="import")
            writer.mark(feature, mended)
    writer.commit()


def _failure(path: Path, found: Damage) -> Outcome:
    return Outcome(
        video_id=f"{path.name}@{found.offset}",
        status="failed",
        reason=found.reason,
        stage="import",
        message=f"{path}, byte {found.offset}: {found.message}",
        media=Media(path=f"{path}@{found.offset}"),
    )


def _mended(store: FeatureStore, feature: str, results: Sequence[FileResult]) -> list[str]:
    """Records that failed in an earlier run and were read in this one."""
    broken = {f"{r.path}@{d.offset}" for r in results for d in r.damage}
    # behind a wrong length nothing was read
    whole = {str(r.path) for r in results if not {d.reason for d in r.damage} & LOST}
    table = store.stored(feature).outcomes
    failed = table.filter(
        pc.and_(pc.equal(table["status"], "failed"), pc.equal(table["stage"], "import"))
    )
    return [
        row["video_id"]
        for row in failed.select(["video_id", "path", "reason"]).to_pylist()
        if row["reason"] != "unfit"
        and row["path"].rpartition("@")[0] in whole
        and row["path"] not in broken
    ]
