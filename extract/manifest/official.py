"""The lists that data sets are published with: UCF101, HMDB51 and Kinetics → videos of a folder.

UCF101 (Soomro et al., 2012): ``trainlist01.txt`` with lines ``Class/v_Class_g08_c01.avi 1``,
``testlist01.txt`` with lines without the number, splits 01 to 03; ``classInd.txt`` is not needed,
the folder is the class. HMDB51 (Kuehne et al., ICCV 2011): for each class and split 1 to 3 a file
``brush_hair_test_split1.txt`` with lines ``name.avi 1``; 1 is train, 2 test, 0 neither. Kinetics
(Kay et al., 2017): a table with youtube_id, time_start, time_end and, but for the test part,
label and split; its clips are kept as ``ID_000010_000020.mp4``, whole videos as ``ID.mp4``.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mmf import MmfError
from mmf.extract.manifest.folders import SPLITS, Found, find_media

KINETICS = ("youtube_id", "time_start", "time_end")  # columns that tell such a table
_UCF = re.compile(r"(?P<part>train|test)list0?(?P<split>[1-9])\.txt")
_HMDB = re.compile(r"(?P<label>.+)_test_split(?P<split>[1-9])\.txt")
_CLASS_NUMBER = re.compile(r" \d+$")  # at the end of a line of UCF101's train lists
_HMDB_PARTS = {"0": "", "1": "train", "2": "test"}


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What a data set's lists say of one file."""

    label: str
    splits: Mapping[str, str] = field(default_factory=dict)  # number of the split → train, test


def is_list(name: str) -> bool:
    """Whether a file is called as one of the lists of UCF101 or HMDB51."""
    return bool(_UCF.fullmatch(name) or _HMDB.fullmatch(name))


def read_lists(paths: Sequence[str]) -> dict[tuple[str, str], Listed]:
    """(class folder, file name without its extension) → what all these lists say of that file."""
    labels: dict[tuple[str, str], str] = {}
    splits: dict[tuple[str, str], dict[str, str]] = {}
    for path in sorted(paths):
        for key, label, number, part in _lines(path):
            labels[key] = label
            of = splits.setdefault(key, {})
            if part and of.setdefault(number, part) != part:
                raise MmfError(
                    f"{'/'.join(key)!r} is in {of[number]!r} and in {part!r} of split {number}; "
                    f"{path!r} says the latter. Take the lists as they were published."
                )
    return {key: Listed(label=label, splits=splits[key]) for key, label in labels.items()}


def _lines(path: str) -> Iterator[tuple[tuple[str, str], str, str, str]]:
    """((class folder, name), label, number of the split, part of it) for each line."""
    name = os.path.basename(path)
    ucf, hmdb = _UCF.fullmatch(name), _HMDB.fullmatch(name)
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text:
                continue
            if ucf:
                clip = _CLASS_NUMBER.sub("", text)
                label, slash, clip = clip.partition("/")
                good, part, split = bool(slash and clip), ucf["part"], ucf["split"]
            elif hmdb:
                clip, _, code = text.rpartition(" ")
                clip, label, split = clip.strip(), hmdb["label"], hmdb["split"]
                good, part = bool(clip) and code in _HMDB_PARTS, _HMDB_PARTS.get(code, "")
            if not good:
                wanted = "Class/name.avi 1" if ucf else "name.avi and 0, 1 or 2"
                raise MmfError(f"list {path!r}, line {number}: {text!r}; expected {wanted}.")
            yield (label, os.path.splitext(clip)[0]), label, split, part


def media_beside(path: str) -> tuple[str, list[Found]]:
    """The folder that holds the media of a list, and those: its own, else the one above it."""
    own = os.path.dirname(os.path.abspath(path))
    for folder in (own, os.path.dirname(own)):
        if found := find_media(folder):
            return folder, found
    raise MmfError(
        f"list {path!r}: there are no media files below {own!r}, nor below the folder above it. "
        "Put the list beside the folder of the videos."
    )


def of_lists(
    found: Sequence[Found], listed: Mapping[tuple[str, str], Listed]
) -> list[Listed | None]:
    """What the lists say of each file: known by its folder and its name, in any container."""
    return [
        listed.get((one.parts[-2], os.path.splitext(one.parts[-1])[0]))
        if len(one.parts) > 1
        else None
        for one in found
    ]


def kinetics_table(source: str, table: pa.Table) -> pa.Table:
    """The rows of a Kinetics table of which there is a file, as a manifest's table.

    A clip that was cut out is an item as a whole; in a whole video it is an interval.
    """
    folder, found = media_beside(source)
    by_stem = {os.path.splitext(one.parts[-1])[0]: one for one in found}
    items = []
    for number, row in enumerate(table.to_pylist(), 1):
        start, end = (_seconds(source, number, row, name) for name in KINETICS[1:])
        clip, whole = f"{row['youtube_id']}_{int(start):06}_{int(end):06}", str(row["youtube_id"])
        name = clip if clip in by_stem else whole
        if name not in by_stem:
            continue
        item = {k: v for k, v in row.items() if k not in ("label", "split")}
        item |= {"video_id": name, "path": os.path.join(folder, *by_stem[name].parts)}
        item |= {"start": start, "end": end} if name == whole else {"start": None, "end": None}
        item |= {"labels": [row["label"]] if row.get("label") else None}
        items.append(item | {"split": _split(row.get("split"))})
    if not items:
        raise MmfError(
            f"manifest {source!r}: no file below {folder!r} is called as one of its videos. "
            "Expected ID_000010_000020.mp4 for a clip or ID.mp4 for a whole video."
        )
    say_absent(source, folder, len(table) - len(items), len(table))
    kinds = {"start": pa.float64(), "end": pa.float64(), "labels": pa.list_(pa.string())}
    columns = {name: [item[name] for item in items] for name in items[0]}
    return pa.table({n: pa.array(values, kinds.get(n)) for n, values in columns.items()})


def say_absent(source: str, folder: str, absent: int, total: int) -> None:
    """Say once that a list names videos that are not there; they are no inputs."""
    if absent:
        log.warning(
            "%d of the %d videos of %r have no file below %r; they are left out",
            *(absent, total, source, folder),
        )


def _seconds(source: str, number: int, row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError) as error:
        raise MmfError(
            f"manifest {source!r}, row {number}, column {name!r}: {row[name]!r}; expected seconds."
        ) from error


def _split(name: str | None) -> str | None:
    return SPLITS.get(name.strip().lower(), name.strip()) if name else None
