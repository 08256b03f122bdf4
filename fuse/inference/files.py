"""Predictions as files, written part by part: Parquet, CSV, and the CSVs of Kaggle's challenges."""

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmf import MmfError
from mmf.fuse.inference.kaggle import write_kaggle
from mmf.fuse.inference.prediction import ABOVE
from mmf.store.exchange.output import finished


def write_predictions(
    tables: pa.Table | Iterable[pa.Table], path: str | Path, *, kaggle: bool = False
) -> int:
    """Write predictions as .parquet, or as .csv: a line per item and class, best first.

    With `kaggle`, the CSV of the YouTube-8M challenges, of videos or of segments as the items are
    (`fuse.inference.kaggle`). Items without a prediction have a line with the reason; the
    challenges' formats leave them out.
    Where the run has thresholds, a column says which classes reach theirs. The file has its name
    once it is whole. The number of items.
    """
    path, parts = Path(path), [tables] if isinstance(tables, pa.Table) else tables
    if path.suffix == ".csv":
        write = write_kaggle if kaggle else _write_csv
    elif path.suffix == ".parquet" and not kaggle:
        write = _write_parquet
    else:
        expected = ".csv" if kaggle else ".csv or .parquet"
        raise MmfError(f"cannot write predictions to {str(path)!r}: expected a name in {expected}.")
    with finished(path) as file:
        return write(parts, file)


def _write_parquet(parts: Iterable[pa.Table], path: Path) -> int:
    rows, writer = 0, None
    try:
        for part in parts:
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
            rows += len(part)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _write_csv(parts: Iterable[pa.Table], path: Path) -> int:
    rows = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        for part in parts:
            above = [ABOVE.name] if ABOVE.name in part.column_names else []
            writer = csv.DictWriter(file, [*_COLUMNS, *above, "reason"])
            if not file.tell():
                writer.writeheader()
            writer.writerows(_lines(part))
            rows += len(part)
    return rows


_COLUMNS = ("item", "video_id", "start", "end", "rank", "class", "score")


def _lines(part: pa.Table) -> Iterator[dict[str, object]]:
    for row in part.to_pylist():
        item = {name: row[name] for name in _COLUMNS[:4]}
        if row["reason"] is not None:
            yield item | {"reason": row["reason"]}
            continue
        for i, (name, value) in enumerate(zip(row["classes"], row["scores"], strict=True)):
            line = {"rank": i + 1, "class": name, "score": _shortest(value)}
            above = {ABOVE.name: int(row[ABOVE.name][i])} if ABOVE.name in row else {}
            yield item | line | above


def _shortest(value: float) -> str:
    """The shortest text that reads back as this float32."""
    return str(np.float32(value)) if math.isfinite(value) else ""
