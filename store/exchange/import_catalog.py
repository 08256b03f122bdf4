"""What an import tells the catalog: labels, segments, splits, partitions and shards.

Tables of the catalog are replaced as a whole, so what many files say is gathered and merged now
and then. Partitions and shards come last: a video that has them has its labels, too. Files are
taken in in their order, and of a video that several have, what the first says stands.
"""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store.catalog import SPLITS
from mmf.store.exchange.shards import SPLIT_OF, partition
from mmf.store.exchange.youtube8m import Video
from mmf.store.feature_store import FeatureStore
from mmf.store.items import LABELS

FLUSH_SECONDS = 60.0
SEGMENTS = "segments"  # the label set of intervals
_VIDEOS = pa.schema(
    [
        ("video_id", pa.string()),
        ("labels", pa.list_(pa.int32())),  # null: not labelled
        ("partition", pa.string()),
        ("shard", pa.string()),
        ("digest", pa.uint32()),  # of the rows
        ("file", pa.uint32()),  # the record's place: number of the file …
        ("offset", pa.uint64()),  # … and byte
    ]
)
_PLACES = ["video_id", "digest", "file", "offset"]


@dataclass(kw_only=True)
class Pending:
    """What one file says of its videos and segments, on its way from a worker."""

    videos: list[tuple[str, tuple[int, ...] | None, int, int]] = field(default_factory=list)
    segments: list[tuple[str, float, float, list[int], list[int]]] = field(default_factory=list)

    def add(self, video: Video, offset: int, digest: int) -> None:
        """Take in the record at an offset, whose rows have this digest."""
        self.videos.append((video.video_id, video.labels, offset, digest))
        for (start, end), rated in video.segments.items():
            positive = sorted(c for c, there in rated.items() if there)
            self.segments.append((video.video_id, start, end, positive, sorted(rated)))


class ImportCatalog:
    """The catalog of a store while an import runs."""

    def __init__(self, store: FeatureStore, label_set: str, names: Sequence[str]):
        self._store = store
        self._label_set = label_set
        self._names = names
        self._fresh: list[pa.Table] = []
        self._segments: list[pa.Table] = []
        self._places: list[pa.Table] = [_VIDEOS.empty_table().select(_PLACES)]
        self._written = 1  # how many of them are of files that were written
        self._flushed, self._took = time.monotonic(), 0.0

    def known(self) -> pa.ChunkedArray:
        """The videos that an import has catalogued."""
        table = self._store.catalog.videos()
        if "shard" not in table.column_names:
            return pa.chunked_array([], pa.string())
        return table.filter(pc.is_valid(table["shard"]))["video_id"]

    def add(self, number: int, path: Path, pending: Pending) -> None:
        """Take in what one file says; now and then, write it."""
        if not pending.videos:
            return
        ids, labels, offsets, digests = zip(*pending.videos, strict=True)
        n = len(ids)
        shard = [partition(path)] * n, [path.stem] * n
        columns = [ids, labels, *shard, digests, [number] * n, offsets]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, _VIDEOS, strict=True)]
        table = pa.table(arrays, schema=_VIDEOS)
        self._fresh.append(table)
        self._places.append(table.select(_PLACES))
        if pending.segments:
            ids, starts, ends, positive, rated = zip(*pending.segments, strict=True)
            columns = [ids, starts, ends, positive, [[]] * len(ids), rated]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, LABELS, strict=True)]
            self._segments.append(pa.table(arrays, schema=LABELS))
        if time.monotonic() - self._flushed > max(FLUSH_SECONDS, 10 * self._took):
            self.flush()

    def flush(self) -> None:
        """Write what has come since the last time."""
        if not self._fresh:
            return
        begun = time.monotonic()
        written = pa.concat_tables(self._places[: self._written])["video_id"]
        table = pa.concat_tables(self._fresh)
        table = table.filter(pc.invert(pc.is_in(table["video_id"], written)))
        labelled = table.filter(pc.is_valid(table["labels"]))
        if len(labelled):
            self._label(self._label_set, _whole(labelled))
        if self._segments:
            self._label(SEGMENTS, pa.concat_tables(self._segments))
        for part, split in SPLIT_OF.items():
            videos = table.filter(pc.equal(table["partition"], part))["video_id"]
            if len(videos):
                rows = pa.table([videos, pa.array([split] * len(videos))], schema=SPLITS)
                self._store.catalog.add_split_rows(self._label_set, rows)
        self._store.catalog.add_video_rows(table.select(["video_id", "partition", "shard"]))
        self._fresh, self._segments = [], []
        self._written = len(self._places)
        self._flushed = time.monotonic()
        self._took = self._flushed - begun

    def repeated(self) -> tuple[int, list[str]]:
        """How many records repeat a video of this run, and the videos whose rows then differ."""
        table = pa.concat_tables(self._places)
        of = table.group_by("video_id").aggregate(
            [("digest", "count"), ("digest", "count_distinct")]
        )
        differ = of.filter(pc.greater(of["digest_count_distinct"], 1))["video_id"]
        return len(table) - len(of), sorted(differ.to_pylist())

    def firsts(self, video_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """File and offset of the first record in this run of each of these videos."""
        table = pa.concat_tables(self._places)
        table = table.filter(pc.is_in(table["video_id"], pa.array(video_ids, pa.string())))
        found: dict[str, tuple[int, int]] = {}
        for row in table.to_pylist():
            found.setdefault(row["video_id"], (row["file"], row["offset"]))
        return found

    def _label(self, name: str, rows: pa.Table) -> None:
        used = [pc.max(pc.list_flatten(rows[c])).as_py() for c in ("labels", "rated")]
        highest = max((n for n in used if n is not None), default=-1)
        # class i is label i, whatever labels a file happens to have
        more = range(len(self._names), highest + 1)
        classes = [*self._names, *(f"#{i}" if self._names else str(i) for i in more)]
        self._store.catalog.add_label_rows(name, rows, classes)


def class_names(path: str | Path) -> list[str]:
    """The classes in a vocabulary: a CSV with the columns Index and Name, each index once.

    A class without a name of its own is called ``#index``.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        named = {int(r["Index"]): r["Name"].strip() for r in rows}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, AttributeError) as error:
        raise MmfError(
            f"the vocabulary {str(path)!r} cannot be read ({error!r}); expected a CSV with the "
            "columns Index and Name, as YouTube-8M's vocabulary.csv."
        ) from error
    if sorted(named) != list(range(len(rows))):
        raise MmfError(f"the vocabulary {str(path)!r} has not each Index from 0 on, once.")
    names: list[str] = []
    taken = {""}
    for index in range(len(rows)):
        name = named[index] if named[index] not in taken else f"#{index}"
        taken.add(name)
        names.append(name)
    return names


def _whole(rows: pa.Table) -> pa.Table:
    """Labels of whole videos as columns of the label tables."""
    n = len(rows)
    empty = pa.array([[]] * n, pa.list_(pa.int32()))
    nothing = pa.nulls(n, pa.float64())
    columns = [rows["video_id"], nothing, nothing, rows["labels"], empty]
    return pa.table([*columns, pa.nulls(n, pa.list_(pa.int32()))], schema=LABELS)
