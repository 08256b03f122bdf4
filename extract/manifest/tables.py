"""Manifest files: CSV, JSON lines or Parquet → one Arrow table with checked columns."""

import csv
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mmf import MmfError
from mmf.extract.manifest.columns import COLUMNS, converted
from mmf.extract.manifest.official import KINETICS, kinetics_table
from mmf.extract.manifest.repeats import distinct


def read_table(source: str) -> tuple[pa.Table, np.ndarray, int]:
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
    for name in COLUMNS:
        if name in table.column_names:
            column = converted(source, name, table[name])
            table = table.set_column(table.column_names.index(name), name, column)
    pa.default_memory_pool().release_unused()  # what the file was read with
    first, repeated = distinct(source, table)
    if len(repeated):
        kept = np.ones(len(table), dtype=bool)
        kept[repeated] = False
        table = table.filter(pa.array(kept))
        first = (np.cumsum(kept) - 1)[first].astype(first.dtype)
    pa.default_memory_pool().release_unused()
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
