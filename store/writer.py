"""Rows of many videos and features → shards → one commit.

Nothing that a writer holds is visible before `commit`; a kill at any moment costs at most what was
not committed. Any number of writers may fill one store at once.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmf.store import layout, records, standing
from mmf.store.rewrite import rewrite, sweep
from mmf.store.slot import SlotWriter, place
from mmf.store.track import Media, Outcome, Track

if TYPE_CHECKING:
    from mmf.store.feature_store import FeatureStore
    from mmf.store.stored_feature import StoredFeature


COPY_BYTES = 256 << 20  # in one commit …
COPY_VIDEOS = 16_384  # … or so many, where they have few bytes


class Writer:
    """A bucket of videos on their way into the store."""

    def __init__(self, store: "FeatureStore"):
        self._store = store
        self._clear()

    def _clear(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._places: list[list[SlotWriter]] = []  # of each row: the slots its video lies in
        self._slots: dict[str, list[SlotWriter]] = {}  # of each feature, the last one open
        self._into: dict[str, StoredFeature] = {}  # where each feature lay when first put or marked
        self._since = time.monotonic()
        self.bytes = 0

    @property
    def videos(self) -> int:
        """How many videos the bucket holds."""
        return len({row["video_id"] for row in self._rows})

    @property
    def age_seconds(self) -> float:
        """Seconds since the bucket was begun."""
        return time.monotonic() - self._since

    def put(
        self,
        feature: str,
        track: Track,
        *,
        media: Media | None = None,
        attempts: int = 1,
        reason: str | None = None,
    ) -> int:
        """Add the rows that one video has of a feature; returns the crc32c of what is stored.

        `reason`: what is to be known of how they came to be, as a short code.
        Raises MmfError where they do not fit the feature (shape, not finite, out of range).
        """
        stored = self._home(feature)
        rows = stored.spec.encode(track.values)
        writers, start, crc32c = self._append(stored, rows)
        regular = track.regular
        self._add(
            feature,
            track.video_id,
            "done",
            media or Media(),
            writers,
            start=start,
            rows=len(rows),
            crc32c=crc32c,
            reason=reason,
            attempts=attempts,
            t0=regular[0] if regular else None,
            dt=regular[1] if regular else None,
            times=None if regular else track.times,
        )
        return crc32c

    def mark(self, feature: str, outcome: Outcome) -> None:
        """Add that one video has no rows of a feature, and why."""
        self._add(
            feature,
            outcome.video_id,
            outcome.status,
            outcome.media,
            [],
            reason=outcome.reason,
            stage=outcome.stage,
            message=outcome.message[:1024],
            attempts=outcome.attempts,
        )

    def copy(self, target: "StoredFeature", source: "StoredFeature", position: int) -> None:
        """Add what the video at a position of one array has, to another of the same feature."""
        row = source.outcomes.slice(position, 1).to_pylist()[0]
        del row["record"], row["record_row"]
        places: list[SlotWriter] = []
        start, piece = 0, source.geometry.rows_per_chunk
        for at in range(0, row["rows"], piece):
            rows = np.empty((min(row["rows"] - at, piece), *source.spec.shape), source.dtype)
            source.read_rows(position, at, rows)
            writers, begun, _ = self._append(target, rows)
            start = start if at else begun
            places += [w for w in writers if w not in places]
        regular = not row["rows"] or row["t0"] is not None
        row["times"] = None if regular else source.times(position).tolist()
        row.update(array=target.array, start=start)
        self._into[target.spec.name] = target
        self._rows.append(row)
        self._places.append(places)

    def commit(self, row_seconds: Mapping[str, float] | None = None) -> None:
        """Make everything put or marked visible at once; the writer is then empty again.

        `row_seconds`, by feature: what computing one of the rows put has taken, as measured.
        """
        if not self._rows:
            return
        took = row_seconds or {}
        for row in self._rows:
            if row["rows"] and row["feature"] in took:
                row["row_seconds"] = took[row["feature"]]
        shards = [
            shard
            for feature, writers in self._slots.items()
            for shard in self._place(self._into[feature], writers)
        ]
        for row, writers in zip(self._rows, self._places, strict=True):
            row["slot"] = writers[0].slot if writers else 0
            row["more_slots"] = [w.slot for w in writers[1:]] or None
        record = records.write_record(self._store.files, self._rows, shards, self._store.newest)
        touched, rows = self._into, self._rows
        self._clear()
        self._store.refresh()
        self._store.note()
        for stored in touched.values():
            stored.grow()
        self._store.index(only_if_due=True)
        self._catch_up(record, rows, touched)

    def absorb(self, feature: str) -> int:
        """Take into a feature's array what was committed to those that it has replaced.

        A writer that began before a compaction ended commits to the old array. Returns how many
        videos that were.
        """
        target, count = self._store.stored(feature), 0
        for array in self._store.before(feature):
            count += self.copy_missing(target, self._store.array_of(feature, array))
        return count

    def copy_missing(self, target: "StoredFeature", source: "StoredFeature", seed: int = 0) -> int:
        """Copy and commit, in the order of a hash, what one array has and another lacks."""
        ids = source.outcomes["video_id"]
        there = target.positions(ids)
        ranks = np.append(standing.ranks(target.outcomes), len(standing.RANKED))  # -1: not there
        missing = np.flatnonzero(standing.ranks(source.outcomes) < ranks[there])
        keys = (layout.shuffled(seed, ids[int(i)].as_py()) for i in missing)
        order = np.argsort(np.fromiter(keys, np.uint64, len(missing)), kind="stable")
        for position in missing[order]:
            self.copy(target, source, int(position))
            if self.bytes >= COPY_BYTES or len(self._rows) >= COPY_VIDEOS:
                self.commit()
        self.commit()
        return len(missing)

    def _catch_up(
        self, record: Path, rows: list[dict[str, Any]], touched: "dict[str, StoredFeature]"
    ) -> None:
        """Do for this commit what was done for the whole store while it was on its way."""
        denied = self._store.denied
        if any(denied.purged(row["video_id"]) for row in rows):
            shards = rewrite(self._store.files, record, lambda r: not denied.purged(r["video_id"]))
            sweep(self._store.files, shards)
            self._store.refresh()
        for feature, stored in touched.items():
            if stored.array in self._store.before(feature):
                self.absorb(feature)

    def discard(self) -> None:
        """Drop what was not committed."""
        for writers in self._slots.values():
            for writer in writers:
                writer.discard()
        self._clear()

    def _add(
        self,
        feature: str,
        video_id: str,
        status: str,
        media: Media,
        places: list[SlotWriter],
        **columns: Any,
    ) -> None:
        row: dict[str, Any] = {
            "feature": feature,
            "array": self._home(feature).array,
            "video_id": video_id,
            "status": status,
            "attempts": 1,
            "rows": 0,
            **vars(media),
            **columns,
        }
        self._rows.append(row)
        self._places.append(places)

    def _home(self, feature: str) -> "StoredFeature":
        if feature not in self._into:
            self._into[feature] = self._store.stored(feature)
        return self._into[feature]

    def _append(
        self, stored: "StoredFeature", rows: np.ndarray
    ) -> tuple[list[SlotWriter], int, int]:
        """The slots that the rows lie in, their place in the first one, and their crc32c."""
        writers = self._slots.setdefault(stored.spec.name, [])
        if not writers or (len(rows) and not writers[-1].free_rows):
            writers.append(self._open(stored))
        first, start = len(writers) - 1, writers[-1].rows
        self.bytes, crc32c = self.bytes + rows.nbytes, 0
        while len(rows) > writers[-1].free_rows:
            free = writers[-1].free_rows
            crc32c = writers[-1].append(rows[:free], crc32c)
            rows = rows[free:]
            writers.append(self._open(stored))
        crc32c = writers[-1].append(rows, crc32c)
        return writers[first:], start, crc32c

    def _open(self, stored: "StoredFeature") -> SlotWriter:
        return SlotWriter(self._store.files.tmp, stored.geometry, stored.spec.row_bytes)

    def _place(self, stored: "StoredFeature", writers: list[SlotWriter]) -> list[records.Shard]:
        """Give the slots of one feature their numbers."""
        shards = []
        for writer in writers:
            slot = place(self._store.files, writer, stored.folder, stored.spec)
            name = f"{stored.array}/{layout.shard_name(slot, stored.spec)}"
            shards.append(
                records.Shard(name=name, size_bytes=writer.size_bytes, crc32c=writer.crc32c)
            )
        return shards
