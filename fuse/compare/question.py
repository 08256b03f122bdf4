"""What a comparison asks: the rows of a table, and for each the cells among which it chooses."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.fuse.config import TrainConfig
from mmf.fuse.training.checkpoint import write_json

_FORMAT = 1
FILE = "compare.json"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One setting of a row: a training for each seed."""

    name: str  # the folder of its runs
    chosen: Mapping[str, Any] = field(default_factory=dict)  # its point of the grid
    config: TrainConfig  # `seed` is the first one, `out` is given later


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: validation chooses one of its cells."""

    name: str
    cells: tuple[Cell, ...]
    published: Mapping[str, float | str] = field(default_factory=dict)  # metric → the paper's

    def __post_init__(self) -> None:
        if not self.cells:
            raise MmfError(f"row {self.name!r} has no cell; expected at least one setting.")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is trained; `compare` answers it."""

    rows: tuple[Row, ...]
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise MmfError(f"{self.seeds} seeds: expected at least 1.")
        if not self.rows:
            raise MmfError("a comparison without a row: name what to compare.")
        for kind, names in (
            ("rows", [row.name for row in self.rows]),
            ("cells", [cell.name for row in self.rows for cell in row.cells]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise MmfError(f"two {kind} of a comparison are called {twice[0]!r}.")

    def to_json(self) -> dict[str, Any]:
        """The question as JSON values."""
        rows = [
            {
                "name": row.name,
                "published": dict(row.published),
                "cells": [
                    {"name": c.name, "chosen": dict(c.chosen), "config": c.config.to_json()}
                    for c in row.cells
                ],
            }
            for row in self.rows
        ]
        return {"format": _FORMAT, "seeds": self.seeds, "rows": rows}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Question":
        """The question that `to_json` wrote."""
        rows = tuple(
            Row(
                name=row["name"],
                published=row["published"],
                cells=tuple(
                    Cell(
                        name=cell["name"],
                        chosen=cell["chosen"],
                        config=TrainConfig.from_json(cell["config"]),
                    )
                    for cell in row["cells"]
                ),
            )
            for row in values["rows"]
        )
        return cls(rows=rows, seeds=values["seeds"])

    def runs(self, cell: Cell, out: Path) -> tuple[TrainConfig, ...]:
        """The config of the cell's run for each seed, in its folder."""
        first = cell.config.seed
        folder = out / "runs" / cell.name
        return tuple(
            replace(cell.config, seed=seed, out=str(folder / f"seed-{seed}"))
            for seed in range(first, first + self.seeds)
        )


def begin(question: Question, out: Path) -> None:
    """Make the folder of a comparison, or find the same question in it.

    A question of which nothing could be trained gives way to another.
    Raises MmfError where the folder holds another comparison, or something else.
    """
    place = out / FILE
    if not (out / "runs").exists():
        if not place.exists() and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise MmfError(
                f"{str(out)!r} is there and holds no comparison. Name another folder with --out."
            )
        out.mkdir(parents=True, exist_ok=True)
        write_json(place, question.to_json())
        return
    try:
        there = Question.from_json(json.loads(place.read_text(encoding="utf-8"))).to_json()
    except (ValueError, KeyError, TypeError) as error:
        raise MmfError(f"{str(place)!r} holds no comparison: {error!r}.") from error
    for key, old, new in _differences(there, json.loads(json.dumps(question.to_json())), ""):
        raise MmfError(
            f"{str(out)!r} holds another comparison: {key} is {old} there, and {new} is asked. "
            "Name another folder with --out, or ask the same to go on with it."
        )


def _differences(old: Any, new: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """(key, value there, value asked) wherever two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif isinstance(old, list) and isinstance(new, list) and key == "rows":
        there, asked = (", ".join(row["name"] for row in rows) for rows in (old, new))
        if there != asked:
            yield key, there, asked
        for one, other in zip(old, new, strict=False):
            yield from _differences(one, other, f"row {one['name']}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{key}[{number}]")
    elif old != new:
        yield key, json.dumps(old), json.dumps(new)
