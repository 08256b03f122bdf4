"""One TFRecord file of YouTube-8M into a store, in commits of about a file each.

Each row in the log carries the file and offset that it came from.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np

from mmf import MmfError
from mmf.store.exchange import youtube8m
from mmf.store.exchange.import_catalog import Pending
from mmf.store.exchange.tfrecord import Record, read_records
from mmf.store.feature_store import FeatureStore
from mmf.store.track import Media, Outcome, Track
from mmf.store.writer import Writer

BUCKET_VIDEOS = 1024  # of one commit: about a file, some tenths of a second of work
BUCKET_BYTES = 384 << 20  # more than usual: two slots


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
    denied: int = 0  # records of videos that were deleted from the store
    clashes: list[str] = field(default_factory=list)  # videos that are there with other rows
    damage: list[Damage] = field(default_factory=list)
    pending: Pending = field(default_factory=Pending)  # for the catalog


class FileImporter:
    """Imports one file after another into one store."""

    def __init__(self, root: Path):
        self._store = FeatureStore(root)
        before = FeatureStore(root)  # as it was when the run began; it is not refreshed
        self._before = {name: before.stored(name) for name in before.features}
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
                name = video.video_id
                if name not in seen and self._is_fresh(video, result):
                    digest = self.put(writer, video, path, record)
                    result.imported += 1
                else:
                    digest = _digest({n: self._crc32c(n, t) for n, t in video.tracks.items()})
                seen.add(name)
                result.pending.add(video, record.offset, digest)
                if len(seen) % BUCKET_VIDEOS == 0 or writer.bytes >= BUCKET_BYTES:
                    writer.commit()
        except BaseException:
            writer.discard()
            raise
        writer.commit()
        return result

    def put(
        self,
        writer: Writer,
        video: youtube8m.Video,
        path: Path,
        record: Record,
        *,
        attempts: int = 1,
    ) -> int:
        """Put the rows of one record; returns their digest."""
        media = Media(path=f"{path}@{record.offset}", size_bytes=len(record.data))
        found = {}
        for name, track in video.tracks.items():
            self._create(name, track.values.shape[1])
            try:
                found[name] = writer.put(name, track, media=media, attempts=attempts)
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
        return _digest(found)

    def _read(self, record: Record, result: FileResult) -> youtube8m.Video | None:
        reason, message = record.reason, record.message
        if not reason:
            try:
                video = youtube8m.read_video(record.data)
            except MmfError as error:
                reason, message = "unreadable", str(error)
            else:
                if video.video_id not in self._store.denied:
                    return video
                result.denied += 1
                return None
        result.damage.append(Damage(offset=record.offset, reason=reason, message=message))
        return None

    def _is_fresh(self, video: youtube8m.Video, result: FileResult) -> bool:
        """Whether the store had no rows of the video; whether those it had are the same."""
        for name, track in video.tracks.items():
            stored = self._before.get(name)
            at = stored.position(video.video_id) if stored else None
            if stored is None or at is None:
                continue
            old = stored.outcomes.slice(at, 1).to_pylist()[0]
            if old["status"] == "done":
                result.there += 1
                if self._crc32c(name, track) != old["crc32c"]:
                    result.clashes.append(video.video_id)
                return False
        return True

    def _crc32c(self, name: str, track: Track) -> int | None:
        """Of the rows as they would be stored; None where they cannot be."""
        try:
            rows = youtube8m.feature_spec(name, track.values.shape[1]).encode(track.values)
        except MmfError:
            return None
        return int(google_crc32c.value(np.ascontiguousarray(rows)))

    def _create(self, name: str, width: int) -> None:
        """Make the feature, or make sure that the one there is YouTube-8M's."""
        if name in self._checked:
            return
        there = self._store.features.get(name)
        spec = youtube8m.feature_spec(name, there.shape[0] if there else width)
        self._store.create_feature(spec)
        self._checked.add(name)


def _digest(crcs: Mapping[str, int | None]) -> int:
    """Of all rows of a video: equal rows have equal digests."""
    whole = sorted((name, crc) for name, crc in crcs.items() if crc is not None)
    return int(google_crc32c.value(repr(whole).encode()))
