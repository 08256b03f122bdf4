"""The CSVs of the YouTube-8M challenges on Kaggle, of whole videos and of segments.

Videos: ``VideoId,LabelConfidencePairs``, then ``id,class score class score …``, best first.
Segments (the third challenge): ``Class,Segments``, then ``class,id:start id:start …``, the
segments of 5 seconds that have the highest scores, up to 100,000 of a class.
"""

import csv
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError

MOST = 100_000  # segments of a class
_SECONDS = 5.0
_PENDING = 4_000_000  # pairs that are taken in before the lowest are dropped


def write_kaggle(parts: Iterable[pa.Table], path: Path, *, most: int = MOST) -> int:
    """Write predictions (`fuse.inference.prediction.SCHEMA`) as their items ask for it.

    Items without a prediction are left out. The number of items. Raises MmfError for classes that
    are no numbers, and for intervals that are no segments or stand beside whole videos.
    """
    rows, best, segments = 0, Best(most), None
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for part in parts:
            rows += len(part)
            part = part.filter(pc.is_null(part["reason"]))
            if not len(part):
                continue
            if segments is None:
                segments = part["start"].null_count == 0
                writer.writerow(_HEADERS[segments])
            if part["start"].null_count != (0 if segments else len(part)):
                raise MmfError(
                    "there are whole videos and intervals, and a file of the challenge has one or "
                    "the other. Choose a split of one kind, or --window 5."
                )
            if segments:
                best.add(part)
            else:
                writer.writerows(_video_lines(part))
        writer.writerows(best.lines())
    return rows


_HEADERS = {False: ["VideoId", "LabelConfidencePairs"], True: ["Class", "Segments"]}


def _video_lines(part: pa.Table) -> Iterable[list[object]]:
    for row in part.select(["video_id", "classes", "scores"]).to_pylist():
        pairs = zip(row["classes"], row["scores"], strict=True)
        yield [row["video_id"], " ".join(f"{number(c)} {s:g}" for c, s in pairs)]


class Best:
    """The segments with the highest scores of each class, of any number that come by.

    Of equal scores the earlier come first.
    """

    def __init__(self, most: int):
        self._most = most
        self._pairs = [np.zeros(0, dtype=_PAIR)]
        self._names = [pa.array([], pa.string())]
        self._floors = np.zeros(0, dtype=np.float32)  # by class: the lowest that may still enter
        self._seen, self._limit = 0, _PENDING

    def add(self, part: pa.Table) -> None:
        """Take in predictions of segments."""
        lists = part["classes"].combine_chunks()
        encoded = lists.flatten().dictionary_encode()
        numbers = np.array([number(c) for c in encoded.dictionary.to_pylist()], dtype=np.int64)
        pairs = np.zeros(len(encoded), dtype=_PAIR)
        pairs["class"] = numbers[encoded.indices.to_numpy()]
        pairs["score"] = part["scores"].combine_chunks().flatten().to_numpy()
        counts = pc.list_value_length(lists).to_numpy()
        pairs["segment"] = self._seen + np.repeat(np.arange(len(part)), counts)
        more = int(pairs["class"].max(initial=-1)) + 1 - len(self._floors)
        self._floors = np.pad(self._floors, (0, max(0, more)), constant_values=-1)
        self._pairs.append(pairs[pairs["score"] > self._floors[pairs["class"]]])
        self._names.append(_segments(part))
        self._seen += len(part)
        if sum(map(len, self._pairs)) > self._limit:
            self._limit = _PENDING + 2 * len(self._prune())

    def lines(self) -> Iterable[list[object]]:
        """A line of each class, by number."""
        pairs, names = self._prune(), pa.concat_arrays(self._names)
        edges = np.flatnonzero(np.diff(pairs["class"], prepend=-1, append=-1))
        for first, end in pairwise(edges.tolist()):
            segments = names.take(pa.array(pairs["segment"][first:end])).to_pylist()
            yield [int(pairs["class"][first]), " ".join(segments)]

    def _prune(self) -> np.ndarray:
        """Drop what no class needs; the pairs that are left, by class, best first."""
        pairs = np.concatenate(self._pairs)
        pairs = pairs[np.lexsort((pairs["segment"], -pairs["score"], pairs["class"]))]
        first = np.searchsorted(pairs["class"], pairs["class"])
        rank = np.arange(len(pairs)) - first
        last = pairs[rank == self._most - 1]
        self._floors[last["class"]] = last["score"]
        pairs = pairs[rank < self._most]
        used, pairs["segment"] = np.unique(pairs["segment"], return_inverse=True)
        self._names = [pa.concat_arrays(self._names).take(pa.array(used))]
        self._pairs, self._seen = [pairs], len(used)
        return pairs


_PAIR = [("class", np.int64), ("score", np.float32), ("segment", np.int64)]


def _segments(part: pa.Table) -> pa.Array:
    """``id:start`` of each interval."""
    start, end = part["start"].to_numpy(), part["end"].to_numpy()
    bad = np.flatnonzero((start % 1 != 0) | (end - start != _SECONDS))
    bad = bad if len(bad) else np.flatnonzero(pc.match_substring_regex(part["video_id"], r"\s"))
    if len(bad):
        raise MmfError(
            f"{part['item'][int(bad[0])].as_py()!r} is no segment of the challenge: expected 5 "
            "seconds from a whole second on, of a video whose id has no space. --window 5 makes "
            "them."
        )
    seconds = pc.cast(pc.cast(part["start"], pa.int64()), pa.string())
    return pc.binary_join_element_wise(part["video_id"], seconds, ":").combine_chunks()


def number(name: str) -> int:
    """The number that a class is called by."""
    if not (name.isascii() and name.isdecimal()):
        raise MmfError(
            f"class {name!r} is no number, and the challenge's format names classes by number. "
            "Write .csv without --kaggle, or .parquet."
        )
    return int(name)
