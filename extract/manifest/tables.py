"""Manifest files: CSV, JSON lines or Parquet → one Arrow table with checked columns."""

import csv
import json
import math
import os
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mmf import MmfError
from mmf.extract.manifest.official import KINETICS, kinetics_table

SHOWN = 20  # offenders that an error lists


def read_table(source: str) -> tuple[pa.Table, tuple[int, ...], int]:
    """(items, the row of each video's first item, how many rows repeat an item).

    `path` becomes bytes, it and `captions` relative to the manifest's folder unless they are URLs;
    `labels` a list of strings. Other columns stay as they are. Raises MmfError in words for whoever
    wrote the file.
    """
    table = READERS[os.path.splitext(source)[1].lower()](source)
    if {*KINETICS} <= {*table.column_names} and "path" not in table.column_names:
        table = kinetics_table(source, table)
    lacking = [name for name in ("video_id", "path") if name not in table.column_names]
    if lacking:
        raise MmfError(
            f"manifest {source!r} has no column {' and '.join(map(repr, lacking))}; it has "
            f"{', '.join(map(repr, table.column_names)) or 'none'}. "
            "Expected at least video_id and path."
        )
    if not len(table):
        raise MmfError(f"manifest {source!r} has no rows.")
    columns = {
        name: _converted(source, name, table.column(name).to_pylist())
        for name in _COLUMNS
        if name in table.column_names
    }
    folder = os.path.dirname(source)
    columns["path"] = [_joined(folder, path) for path in columns["path"]]
    if "captions" in columns:
        columns["captions"] = [path and _joined(folder, path) for path in columns["captions"]]
    first, repeated = _distinct(source, columns)
    columns["path"] = [os.fsencode(path) for path in columns["path"]]
    for name, values in columns.items():
        column = pa.array(values, _COLUMNS[name][1])
        table = table.set_column(table.column_names.index(name), name, column)
    if repeated:
        table = table.take([row for row in range(len(table)) if row not in repeated])
        first, _ = _distinct(source, {n: table.column(n).to_pylist() for n in columns})
    return table, first, len(repeated)


def _read_csv(source: str) -> pa.Table:
    try:
        with open(source, newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader(file), [])
        # as text: an id 007 is not the number 7
        options = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        )
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        return pa_csv.read_csv(source, convert_options=options, parse_options=parse)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise MmfError(f"manifest {source!r} is not a CSV table in UTF-8: {error}") from error


def _read_jsonl(source: str) -> pa.Table:
    rows = []
    with open(source, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line.decode("utf-8-sig")) if line.strip() else None
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise MmfError(
                    f"manifest {source!r}, line {number}: not JSON ({error})."
                ) from error
            if row is None:
                continue
            if not isinstance(row, dict):
                raise MmfError(f"manifest {source!r}, line {number}: expected an object {{…}}.")
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _json_column([row.get(name) for row in rows]) for name in names})


def _json_column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # values of several types
        texts = [v if isinstance(v, str | None) else json.dumps(v) for v in values]
        return pa.array(texts)


def _read_parquet(source: str) -> pa.Table:
    try:
        return pq.read_table(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise MmfError(f"manifest {source!r} is not a Parquet file: {error}") from error


READERS: dict[str, Callable[[str], pa.Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _name(value: Any) -> str:
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else _text(value)
    if text is None:
        raise ValueError
    return text


def _seconds(value: Any) -> float | None:
    if value is None or value == "":
        return None
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError
    return seconds


def _bytes(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if int(value) < 0 or int(value) != float(value):
        raise ValueError
    return int(value)


def _digest(value: Any) -> str | None:
    text = _text(value)
    if text is not None and (len(text) != 64 or int(text, 16) < 0):
        raise ValueError
    return text and text.lower()


def _labels(value: Any) -> list[str] | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if value.startswith("["):
            value = json.loads(value)
        else:
            value = value.split(";")
    values = value if isinstance(value, list) else [value]
    return [str(label).strip() for label in values if str(label).strip()]


# what a column may hold, as an error says it
_COLUMNS: dict[str, tuple[Callable[[Any], Any], pa.DataType, str]] = {
    "video_id": (_name, pa.string(), "an id that is not empty"),
    "path": (_name, pa.binary(), "a path that is not empty"),
    "captions": (_text, pa.string(), "a path"),
    "start": (_seconds, pa.float64(), "seconds"),
    "end": (_seconds, pa.float64(), "seconds"),
    "labels": (_labels, pa.list_(pa.string()), "labels separated by ';'"),
    "split": (_text, pa.string(), "the name of a split"),
    "size": (_bytes, pa.int64(), "a number of bytes"),
    "sha256": (_digest, pa.string(), "64 hexadecimal digits"),
}


def _converted(source: str, name: str, values: list[Any]) -> list[Any]:
    convert, _, expected = _COLUMNS[name]
    converted = []
    for row, value in enumerate(values, 1):
        try:
            converted.append(convert(value))
        except (ValueError, TypeError, OverflowError) as error:
            raise MmfError(
                f"manifest {source!r}, row {row}, column {name!r}: {value!r}; expected {expected}."
            ) from error
    return converted


def _joined(folder: str, path: str) -> str:
    if "://" in path:  # a URL, to be fetched
        return path
    return os.path.normpath(os.path.join(folder, path))


def _distinct(source: str, columns: dict[str, list[Any]]) -> tuple[tuple[int, ...], set[int]]:
    """The row of each video's first item, and the rows that repeat an item.

    Raises MmfError where one id has several files, or an interval is none.
    """
    none = [None] * len(columns["video_id"])
    starts, ends = columns.get("start", none), columns.get("end", none)
    first: dict[str, int] = {}
    items, repeated = set(), set()
    clashing: dict[str, None] = {}
    for row, video_id in enumerate(columns["video_id"]):
        start, end = starts[row], ends[row]
        if (start is None) != (end is None) or (start is not None and not start < end):
            raise MmfError(
                f"manifest {source!r}, row {row + 1}: the interval from {start} to {end} is none. "
                "Expected start < end, or neither for the whole file."
            )
        before = first.setdefault(video_id, row)
        if not _same_file(columns, before, row):
            clashing[video_id] = None
        if (video_id, start, end) in items:
            repeated.add(row)
        items.add((video_id, start, end))
    if clashing:
        shown = ", ".join(map(repr, list(clashing)[:SHOWN]))
        more = f" and {len(clashing) - SHOWN} more" if len(clashing) > SHOWN else ""
        raise MmfError(
            f"manifest {source!r} gives several files to one video_id: {shown}{more}. "
            "Give each file an id of its own."
        )
    return tuple(first.values()), repeated


def _same_file(columns: dict[str, list[Any]], one: int, other: int) -> bool:
    digests = columns.get("sha256")
    if digests is not None and digests[one] is not None and digests[other] is not None:
        return digests[one] == digests[other]
    return columns["path"][one] == columns["path"][other]
