"""Rows of many videos and features → shards → one commit.

Nothing that a writer holds is visible before `commit`; a kill at any moment costs at most what was
not committed. Any number of writers may fill one store at once.
"""

import time
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from mmf.store import layout, log
from mmf.store.feature import Media, Outcome, Track
from mmf.store.slot import SlotWriter

if TYPE_CHECKING:
    from mmf.store.reader import FeatureStore
    from mmf.store.stored import StoredFeature


class Writer:
    """A bucket of videos on their way into the store."""

    def __init__(self, store: "FeatureStore"):
        self._store = store
        self._clear()

    def _clear(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._places: list[list[SlotWriter]] = []  # of each row: the slots its video lies in
        self._slots: dict[str, list[SlotWriter]] = {}  # of each feature, the last one open
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

    def put(self, feature: str, track: Track, *, media: Media | None = None) -> None:
        """Add the rows that one video has of a feature.

        Raises MmfError where they do not fit the feature (shape, not finite, out of range).
        """
        stored = self._store.stored(feature)
        rows = stored.spec.encode(track.values)
        writers, start = self._append(stored, rows)
        regular = log.regular(track.times)
        self._add(
            feature,
            track.video_id,
            "done",
            media or Media(),
            writers,
            start=start,
            rows=len(rows),
            crc32c=google_crc32c.value(rows),
            t0=regular[0] if regular else None,
            dt=regular[1] if regular else None,
            times=None if regular else track.times,
        )

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

    def commit(self) -> None:
        """Make everything put or marked visible at once; the writer is then empty again."""
        if not self._rows:
            return
        shards = [
            shard
            for feature, writers in self._slots.items()
            for shard in self._place(self._store.stored(feature), writers)
        ]
        for row, writers in zip(self._rows, self._places, strict=True):
            row["slot"] = writers[0].slot if writers else 0
            row["more_slots"] = [w.slot for w in writers[1:]] or None
        log.write_record(self._store.path, self._rows, shards)
        touched = [f for f, writers in self._slots.items() if writers]
        self._clear()
        self._store.refresh()
        for feature in touched:
            self._store.stored(feature).grow()
        self._store.index(only_if_due=True)

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
            "array": self._store.stored(feature).array,
            "video_id": video_id,
            "status": status,
            "attempts": 1,
            "rows": 0,
            **vars(media),
            **columns,
        }
        self._rows.append(row)
        self._places.append(places)

    def _append(self, stored: "StoredFeature", rows: np.ndarray) -> tuple[list[SlotWriter], int]:
        writers = self._slots.setdefault(stored.spec.name, [])
        if not writers or (len(rows) and not writers[-1].free_rows):
            writers.append(self._open(stored))
        first, start = len(writers) - 1, writers[-1].rows
        self.bytes += rows.nbytes
        while len(rows) > writers[-1].free_rows:
            free = writers[-1].free_rows
            writers[-1].append(rows[:free])
            rows = rows[free:]
            writers.append(self._open(stored))
        writers[-1].append(rows)
        return writers[first:], start

    def _open(self, stored: "StoredFeature") -> SlotWriter:
        return SlotWriter(self._store.path / "tmp", stored.geometry, stored.spec.row_bytes)

    def _place(self, stored: "StoredFeature", writers: list[SlotWriter]) -> list[log.Shard]:
        """Give the slots of one feature their numbers, which nobody else can have."""
        folder = self._store.path / layout.GROUP / stored.array
        slot = layout.next_slot(folder)
        shards = []
        for writer in writers:
            writer.seal()
            while not layout.place(writer.path, folder / layout.shard_name(slot, stored.spec)):
                slot += 1
            writer.slot = slot
            name = f"{stored.array}/{layout.shard_name(slot, stored.spec)}"
            shards.append(log.Shard(name=name, size_bytes=writer.size_bytes, sha256=writer.sha256))
        return shards
