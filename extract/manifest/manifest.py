"""What is to be extracted: a folder, one media file or a table of files → a Manifest.

A manifest file (.csv, .jsonl, .parquet) has a row for each item: `video_id` and `path`, and
optionally `start,end,captions,labels,split,size,sha256` and whatever else its owner keeps there.
Several items may lie in one video; it is an input once. The lists that UCF101, HMDB51 and Kinetics
are published with are read as they are (`official`): named as the source, or lying in the folder.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.extract.manifest.columns import described
from mmf.extract.manifest.folders import (
    OTHER,
    STORE_MARK,
    Found,
    find,
    find_media,
    is_media,
    splits_and_labels,
)
from mmf.extract.manifest.official import (
    Listed,
    is_list,
    media_beside,
    of_lists,
    read_lists,
    say_absent,
)
from mmf.extract.manifest.tables import READERS, read_table
from mmf.extract.media.urls import file_name, is_far, shown

ItemKey = str | tuple[str, float, float]
_OF_INPUT = ("video_id", "path", "captions", "size", "sha256")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One file to decode, under its id."""

    video_id: str
    path: str
    captions: str | None = None
    size: int | None = None  # bytes that the file must have
    sha256: str | None = None  # hexadecimal digest that it must have


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """Items of a source, a row each: video_id, path (bytes) and the columns that are known."""

    source: str
    table: pa.Table
    first: np.ndarray  # the row of each video's first item, in order
    duplicates: int = 0  # rows that repeat an item
    # of data sets that are published with several: by name, the split of videos
    named_splits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.first)

    def inputs(self, rows: np.ndarray | None = None) -> Iterator[Input]:
        """Every video once, in order; or those at `rows` of the table, which ascend."""
        names = [n for n in _OF_INPUT if n in self.table.column_names]
        for batch in self.batches(names, self.first if rows is None else rows):
            for values in zip(*(batch[name].to_pylist() for name in names), strict=True):
                one = dict(zip(names, values, strict=True))
                yield Input(**{**one, "path": os.fsdecode(one["path"])})

    def batches(
        self, names: Sequence[str], rows: np.ndarray, *, most: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """Columns of the table at `rows`, which ascend; at most so many rows at a time."""
        begin = 0
        for batch in self.table.select(names).to_reader(max_chunksize=most):
            end = begin + len(batch)
            here = rows[slice(*np.searchsorted(rows, (begin, end)))]
            if len(here) == len(batch):
                yield batch
            elif len(here):
                yield batch.take(pa.array(here - begin))
            begin = end

    @property
    def described(self) -> pa.Table:
        """The columns that its owner keeps beside, as texts, by video_id."""
        return described(self.table)

    @property
    def labels(self) -> dict[ItemKey, list[str]]:
        """Classes by video id, or by (video id, start, end); for `FeatureStore.label`."""
        return self._by_item("labels")

    @property
    def split(self) -> dict[ItemKey, str]:
        """Split by video id, or by (video id, start, end)."""
        return self._by_item("split")

    def _by_item(self, name: str) -> dict[ItemKey, Any]:
        if name not in self.table.column_names:
            return {}
        return {k: v for k, v in zip(self._keys(), self._column(name), strict=True) if v}

    def _keys(self) -> Iterator[ItemKey]:
        ids, starts, ends = (self._column(name) for name in ("video_id", "start", "end"))
        for video_id, start, end in zip(ids, starts, ends, strict=True):
            yield video_id if start is None else (video_id, start, end)

    def _column(self, name: str) -> list[Any]:
        if name not in self.table.column_names:
            return [None] * len(self.table)
        return self.table.column(name).to_pylist()


def read_manifest(source: str | os.PathLike[str]) -> Manifest:
    """The manifest of a folder, a media file or its URL, or a manifest file; else MmfError."""
    source = os.fspath(source)
    if is_far(source):
        return _of_url(source)
    if os.path.isdir(source):
        return _of_folder(source)
    if not os.path.exists(source):
        raise MmfError(f"source {source!r}: there is no such file or folder.")
    if os.path.splitext(source)[1].lower() in READERS:
        table, first, duplicates = read_table(source)
        return Manifest(source=source, table=table, first=first, duplicates=duplicates)
    if is_list(os.path.basename(source)):
        return _of_lists([source], source)
    if is_media(source):
        return _of_one(Found(parts=(os.path.basename(source),)).video_id, source)
    raise MmfError(
        f"source {source!r} is of no known type. Expected a folder, a media file, or a manifest "
        ".csv, .jsonl or .parquet with the columns video_id and path."
    )


def _of_one(video_id: str, path: str) -> Manifest:
    table = pa.table({"video_id": [video_id], "path": pa.array([os.fsencode(path)], pa.binary())})
    return Manifest(source=shown(path), table=table, first=np.arange(1))


def _of_url(url: str) -> Manifest:
    name = file_name(url)
    if not name or os.path.splitext(name)[1].lower() in OTHER:
        raise MmfError(
            f"source {shown(url)!r}: at a URL one media file can be the source, no folder and no "
            "table. Bring a manifest here; the media that it names may lie at URLs."
        )
    return _of_one(name, url)


def _of_lists(lists: Sequence[str], source: str) -> Manifest:
    """The videos that these lists of a data set name."""
    listed = read_lists(lists)
    folder, found = media_beside(lists[0])
    named = [(one, said) for one, said in zip(found, of_lists(found, listed), strict=True) if said]
    if not named:
        raise MmfError(
            f"source {source!r}: no file below {folder!r} is one of its videos. Expected them as "
            "CLASS/NAME.avi, in any container."
        )
    say_absent(source, folder, len(listed) - len(named), len(listed))
    return _of_files(source, folder, *map(list, zip(*named, strict=True)))


def _of_folder(folder: str) -> Manifest:
    if os.path.exists(os.path.join(folder, STORE_MARK)):
        raise MmfError(f"source {folder!r} is a feature store. Give the folder of the media files.")
    found = find_media(folder)
    lists = find(folder, lambda path: is_list(os.path.basename(path)))
    paths = [os.path.join(folder, *one.parts) for one in lists]
    if lists and not found:
        return _of_lists(paths, folder)
    if not found:
        raise MmfError(
            f"source {folder!r} holds no media files, nor do its folders. Files are known by their "
            "extension (.mp4, .mkv, .wav, …) or, without one, by their first bytes."
        )
    return _of_files(folder, folder, found, of_lists(found, read_lists(paths)))


def _of_files(
    source: str, folder: str, found: Sequence[Found], listed: Sequence[Listed | None]
) -> Manifest:
    """The files found below `folder`; what lists say of them goes before what folders say."""
    ids = [one.video_id for one in found]
    paths = [os.fsencode(os.path.join(folder, *one.parts)) for one in found]
    columns = {"video_id": pa.array(ids), "path": pa.array(paths, pa.binary())}
    splits: Sequence[str | None] | None
    classes: Sequence[str | None] | None
    splits, classes = splits_and_labels(found)
    numbered: dict[str, dict[str, str]] = {}
    if any(listed):
        for video_id, said in zip(ids, listed, strict=True):
            for number, part in said.splits.items() if said else ():
                numbered.setdefault(f"split{number}", {})[video_id] = part
        first = numbered[min(numbered)] if numbered else {}
        splits = [first.get(video_id) for video_id in ids]
        classes = [said.label if said else None for said in listed]
    if splits is not None:
        columns["split"] = pa.array(splits, pa.string())
    if classes is not None:
        columns["labels"] = pa.array([[_shown(c)] if c else None for c in classes])
    return Manifest(
        source=source,
        table=pa.table(columns),
        first=np.arange(len(found)),
        named_splits=numbered,
    )


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
