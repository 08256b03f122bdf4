"""Attention, sensitivity and similarity as tables: a row per head, step or item, and means."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmf.fuse.explain.maps.attention import Attended
from mmf.fuse.explain.maps.sensitivity import Sensitive
from mmf.fuse.explain.maps.similarity import Similar
from mmf.store.exchange.output import finished

_ITEM = [("item", pa.string()), ("video_id", pa.string())]
_STEP = [("step", pa.int32()), ("feature", pa.string()), ("time_s", pa.float64())]
HEADS = pa.schema(
    [
        *_ITEM,
        ("layer", pa.string()),
        ("level", pa.string()),  # global, local, gated; attention of a transformer, pooling
        ("head", pa.int32()),  # from 1
        ("steps", pa.int32()),
        ("sparsity", pa.float64()),  # 0 even, 1 one step: `fuse.explain.maps.attention`
        ("distance", pa.float64()),  # mean steps to what is looked at
    ]
)
PROFILES = pa.schema(
    [*_ITEM, ("layer", pa.string()), ("level", pa.string()), *_STEP, ("profile", pa.float64())]
)
SENSITIVITY = pa.schema(
    [
        *_ITEM,
        ("layer", pa.string()),
        *_STEP,
        ("near", pa.int32()),  # |N_i|
        ("local", pa.float64()),  # S_i; null: N_i holds every step
        ("probes", pa.int32()),  # 0: exact
    ]
)
SIMILARITY = pa.schema(
    [
        *_ITEM,
        ("feature", pa.string()),
        ("steps", pa.int32()),
        ("neighbours", pa.float64()),  # mean cosine of rows one step apart
        ("mean", pa.float64()),  # of all pairs
        ("half_life", pa.float64()),  # steps
        ("half_life_s", pa.float64()),
    ]
)
_ROWS = 1 << 16  # of a write

Row = dict[str, Any]


def heads(one: Attended) -> Iterator[Row]:
    """The rows of `HEADS`."""
    for level in one.maps:
        each = zip(one.sparsity(level), one.distance(level), strict=True)
        for head, (sparsity, distance) in enumerate(each, 1):
            yield _of(one) | {
                "layer": one.layer,
                "level": level,
                "head": head,
                "steps": len(one.steps),
                "sparsity": known(sparsity),
                "distance": known(distance),
            }


def profiles(one: Attended) -> Iterator[Row]:
    """The rows of `PROFILES`."""
    for level in one.maps:
        for step, value in enumerate(one.profile(level).tolist()):
            its = {"layer": one.layer, "level": level, "profile": value}
            yield _of(one) | _at(one, step) | its


def between_features(one: Attended) -> Iterator[Row]:
    """Which feature attends to which: the share, and what it would be of an even gaze."""
    for level in one.maps:
        for (a, b), (share, even) in one.shares(level).items():
            yield {"layer": one.layer, "from": a, "to": b, "share": share, "even": even}


def local_steps(one: Sensitive) -> Iterator[Row]:
    """The rows of `SENSITIVITY`."""
    for step, value in enumerate(one.local.tolist()):
        its = {"layer": one.layer, "near": int(one.near[step].sum()), "probes": one.probes}
        yield _of(one) | _at(one, step) | its | {"local": known(value)}


def similarity(one: Similar) -> Row:
    """The row of `SIMILARITY`."""
    return _of(one) | {
        "feature": one.feature,
        "steps": len(one.steps),
        "neighbours": known(one.neighbours),
        "mean": known(one.mean),
        "half_life": known(one.half_life),
        "half_life_s": known(one.half_life_seconds),
    }


def known(value: float) -> float | None:
    """The number, or nothing where it is none."""
    return None if math.isnan(value) else float(value)


def _of(one: Attended | Sensitive | Similar) -> Row:
    return {"item": one.item.id, "video_id": one.item.video_id}


def _at(one: Attended | Sensitive, step: int) -> Row:
    time = known(one.steps.times[step])
    return {"step": step, "feature": one.steps.features[step], "time_s": time}


@dataclass(kw_only=True)
class Means:
    """Means of some columns over the rows that share others, as they come; nulls do not count."""

    by: Sequence[str]
    of: Sequence[str]
    _sums: dict[tuple[Any, ...], list[list[float]]] = field(default_factory=dict)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Some rows more."""
        for row in rows:
            key = tuple(row[name] for name in self.by)
            sums = self._sums.setdefault(key, [[0, 0.0] for _ in self.of])
            for its, name in zip(sums, self.of, strict=True):
                if row[name] is not None:
                    its[0] += 1
                    its[1] += row[name]

    def table(self) -> pa.Table:
        """In the order in which they came; null where nothing is known."""
        keys = {name: [key[i] for key in self._sums] for i, name in enumerate(self.by)}
        means = {
            name: pa.array(
                [s[i][1] / s[i][0] if s[i][0] else None for s in self._sums.values()], pa.float64()
            )
            for i, name in enumerate(self.of)
        }
        return pa.table({**keys, **means})


class Writer:
    """Takes in rows; the file has them some ten thousand at a time."""

    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema):
        self._file, self._schema, self._rows = file, schema, list[Row]()

    def add(self, rows: Iterable[Row]) -> None:
        """Some rows more."""
        self._rows += rows
        if len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what has been taken in."""
        self._file.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Writer]:
    """A Parquet file, which has its name once it is whole."""
    with finished(path) as part, pq.ParquetWriter(part, schema) as file:
        writer = Writer(file, schema)
        yield writer
        writer.flush()
