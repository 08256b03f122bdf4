"""Labels as people have them: rows of id and label, or wide tables of 0 and 1."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mmf import MmfError
from mmf.store.feature_store import FeatureStore
from mmf.store.items import ItemKey

KEYS = ("video_id", "id", "path", "video", "file", "filename", "stem", "name")
LABELS = ("labels", "label", "class", "classes", "category")
OTHERS = ("start", "end", "split")


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """What a file of labels says, by item as the file names it."""

    labels: Mapping[ItemKey, Sequence[str]]
    unrated: Mapping[ItemKey, Sequence[str]] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None  # in the order of a wide table's columns


def label_from_file(
    store: FeatureStore,
    path: str | Path,
    *,
    name: str = "default",
    classes: Sequence[str] | None = None,
) -> list[str]:
    """Add the labels of a file to a label set; returns the ids for which the store has no video.

    The file's ids may be video ids, paths or stems. An id without a video is kept as it is, for
    videos that are yet to come.
    """
    table = read_labels(path)
    videos = store.videos()["video_id"].to_pylist()
    named = {k if isinstance(k, str) else k[0] for k in table.labels}
    found = match(sorted(named), videos)

    def known(key: ItemKey) -> ItemKey:
        if isinstance(key, str):
            return found.get(key, key)
        return (found.get(key[0], key[0]), *key[1:])

    store.label(
        {known(k): v for k, v in table.labels.items()},
        unrated={known(k): v for k, v in table.unrated.items()},
        split={found.get(k, k): v for k, v in table.splits.items()},
        name=name,
        classes=classes or table.classes,
    )
    return sorted(named - {*found})


def match(names: Iterable[str], videos: Iterable[str]) -> dict[str, str]:
    """The video that each name means: its id, or the end of its path, with or without extension.

    Names without a video are left out; MmfError where a name fits several.
    """
    videos = list(videos)
    ends: dict[str, list[str]] = {}
    for video in videos:
        parts = PurePosixPath(video).parts
        for i in range(len(parts)):
            tail = PurePosixPath(*parts[i:])
            for end in {str(tail), str(tail.with_suffix(""))}:
                ends.setdefault(end, []).append(video)
    known, found = set(videos), {}
    for name in names:
        if name in known:
            found[name] = name
            continue
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for i in range(len(parts)):
            fits = ends.get(str(PurePosixPath(*parts[i:])), [])
            if len(fits) > 1:
                raise MmfError(
                    f"the label of {name!r} fits {len(fits)} videos ({', '.join(fits[:3])}, …). "
                    "Name them by video_id."
                )
            if fits:
                found[name] = fits[0]
                break
    return found


def read_labels(path: str | Path) -> LabelTable:
    """Read a CSV: ``video_id[,start,end],labels[,split]`` or a column of 0 and 1 for each class.

    Several labels are separated by ``;`` or stand in several rows. In a wide table an empty cell is
    unrated, not negative.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [c.strip() for c in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [r for r in reader if any(v for k, v in r.items() if k is not None)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MmfError(f"the labels {str(path)!r} cannot be read: {error}.") from error
    key = next((c for c in KEYS if c in columns), None)
    if key is None:
        raise MmfError(
            f"the labels {str(path)!r} have the columns {', '.join(columns) or 'none'}; expected a "
            "header with video_id and labels, or with video_id and a column of 0 and 1 per class."
        )
    label = next((c for c in LABELS if c in columns), None)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise MmfError(
                f"{str(path)!r}, line {number}: {len(columns)} columns were expected, "
                "as in its header."
            )
    if label is not None:
        return _long(path, rows, key, label)
    return _wide(path, rows, key, tuple(c for c in columns if c not in (key, *OTHERS)))


def _long(path: Path, rows: list[dict[str, str]], key: str, label: str) -> LabelTable:
    labels: dict[ItemKey, list[str]] = {}
    for number, row in enumerate(rows, start=2):
        names = [n.strip() for n in row[label].split(";")]
        labels.setdefault(_item(path, number, row, key), []).extend(n for n in names if n)
    return LabelTable(labels=labels, splits=_splits(path, rows, key))


def _wide(path: Path, rows: list[dict[str, str]], key: str, classes: tuple[str, ...]) -> LabelTable:
    labels: dict[ItemKey, list[str]] = {}
    unrated: dict[ItemKey, list[str]] = {}
    for number, row in enumerate(rows, start=2):
        item = _item(path, number, row, key)
        if item in labels:
            raise MmfError(f"{str(path)!r}, line {number}: {row[key]!r} has a row already.")
        labels[item], unrated[item] = [], []
        for name in classes:
            cell = row[name].strip()
            if cell in ("1", "1.0"):
                labels[item].append(name)
            elif not cell:
                unrated[item].append(name)
            elif cell not in ("0", "0.0"):
                raise MmfError(
                    f"{str(path)!r}, line {number}: column {name!r} holds {cell!r}; expected 0, 1 "
                    "or nothing. A table with one column of names calls it 'labels'."
                )
    return LabelTable(
        labels=labels, unrated=unrated, splits=_splits(path, rows, key), classes=classes
    )


def _item(path: Path, number: int, row: dict[str, str], key: str) -> ItemKey:
    start, end = row.get("start", ""), row.get("end", "")
    if not start and not end:
        return row[key]
    try:
        return row[key], float(start), float(end)
    except ValueError:
        raise MmfError(
            f"{str(path)!r}, line {number}: start {start!r} and end {end!r}; expected seconds."
        ) from None


def _splits(path: Path, rows: list[dict[str, str]], key: str) -> dict[str, str]:
    splits: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        split = row.get("split", "")
        if split and splits.setdefault(row[key], split) != split:
            raise MmfError(
                f"{str(path)!r}, line {number}: {row[key]!r} is in {splits[row[key]]!r} and in "
                f"{split!r}; a video stays on one side."
            )
    return splits


def read_classes(path: str | Path) -> list[str]:
    """The classes in a text file, one per line, in their order."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MmfError(f"the list of classes {str(path)!r} cannot be read: {error}.") from error
    return [line.strip() for line in lines if line.strip()]
