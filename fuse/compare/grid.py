"""From axes (fusions, aggregators, sets of features, …) and a grid to the rows of a comparison.

A setting is ``KEY: value``: a key of TrainConfig, one of its mappings with an option
(``fusion_options.outputs``, ``l2.head``), or the name of a fusion, an aggregator or a head with an
option (``mfb.outputs``), which then goes to the rows that have it and leaves the others alone.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmf import MmfError, unknown
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.compare.question import Cell, Row
from mmf.fuse.config import TrainConfig
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.fusions.contract import StepFusion
from mmf.fuse.heads import HEADS

_LONGEST = 100  # characters of a folder's name
_PARTS = {"fusion": FUSIONS, "aggregate": AGGREGATORS, "head": HEADS}
Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What is put beside each other, every one with every other; rows, not choices."""

    fusions: tuple[str, ...] = ("concat",)
    aggregates: tuple[str, ...] = ("mean",)
    feature_sets: tuple[tuple[str, ...], ...] = ()
    train_videos: tuple[int | None, ...] = (None,)

    def __post_init__(self) -> None:
        for name, table in (("fusions", FUSIONS), ("aggregates", AGGREGATORS)):
            for one in getattr(self, name):
                table.check(one)
        for name, values in vars(self).items():
            if not values or len(set(values)) < len(values):
                raise MmfError(f"{name} = {list(values)}: expected one or more, each once.")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a row stands on the axes."""

    fusion: str
    aggregate: str
    features: tuple[str, ...]
    videos: int | None
    names: tuple[str, ...] = field(default=())  # of what tells it from others


def make_rows(
    base: TrainConfig, axes: Axes, grid: Mapping[str, Sequence[Any]], settings: Settings
) -> tuple[Row, ...]:
    """A row for each combination of the axes, each with the settings and the whole grid."""
    rows = []
    for place in _places(axes):
        its: dict[str, Any] = {"fusion": place.fusion, "aggregate": place.aggregate}
        its["features"] = place.features
        if place.videos is not None:
            its["train_videos"] = place.videos
        config = changed(base, {**its, **settings})
        rows.append(make_row("-".join(place.names), config, grid))
    return tuple(rows)


def make_row(
    name: str,
    config: TrainConfig,
    grid: Mapping[str, Sequence[Any]],
    published: Mapping[str, float | str] | None = None,
) -> Row:
    """A row whose cells are the points of the grid; keys that are not of this row leave no mark."""
    cells: dict[str, Cell] = {}
    keys = [key for key in grid if _is_of(key, config)]
    for values in itertools.product(*(grid[key] for key in keys)):
        chosen = dict(zip(keys, values, strict=True))
        said = ",".join(f"{key}={_text(value)}" for key, value in chosen.items())
        cell = folder_name(f"{name},{said}" if said else name)
        cells[cell] = Cell(name=cell, chosen=chosen, config=changed(config, chosen))
    return Row(name=name, cells=tuple(cells.values()), published=published or {})


def changed(config: TrainConfig, settings: Settings) -> TrainConfig:
    """The config with these settings; those of other rows' parts leave it as it is."""
    values = config.to_json()
    for key, value in settings.items():  # what is asked for decides whose options there are
        if "." not in key:
            values[key] = list(value) if isinstance(value, tuple) else value
    plain = TrainConfig.from_json(values)
    values = plain.to_json()
    for key, value in settings.items():
        name, dot, option = key.partition(".")
        if dot and _is_of(key, plain):
            for target in _targets(name, plain):
                values[target] = {**values[target], option: value}
    return TrainConfig.from_json(values)


def check_used(settings: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise MmfError for a setting that no row of a comparison has a place for."""
    for key in settings:
        if not any(_is_of(key, cell.config) for row in rows for cell in row.cells):
            raise MmfError(f"setting {key!r}: no row has {key.partition('.')[0]!r}.")


def folder_name(text: str) -> str:
    """A folder's name for a cell: the text itself, or as much of it as a folder may be called."""
    plain = re.sub(r"[^\w.+=,-]", "_", text)
    if plain == text and len(text) <= _LONGEST:
        return text
    return f"{plain[: _LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _places(axes: Axes) -> Iterator[_Place]:
    several = len(axes.aggregates) > 1
    for fusion in axes.fusions:
        rows_themselves = issubclass(FUSIONS.load(fusion), StepFusion)
        aggregates = axes.aggregates[:1] if rows_themselves else axes.aggregates
        sets = _sets(fusion, axes.feature_sets)
        for aggregate, features, videos in itertools.product(aggregates, sets, axes.train_videos):
            names = [fusion]
            if several and not rows_themselves:
                names.insert(0, aggregate)
            if len(axes.feature_sets) > 1 or len(sets) > 1:
                names.append("+".join(features))
            if len(axes.train_videos) > 1:
                names.append(str(videos))
            yield _Place(
                fusion=fusion,
                aggregate=aggregate,
                features=features,
                videos=videos,
                names=tuple(names),
            )


def _sets(fusion: str, sets: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The sets of features for a fusion: ``single`` takes each feature alone."""
    if fusion != "single":
        return list(sets)
    return [(name,) for name in dict.fromkeys(itertools.chain.from_iterable(sets))]


def _is_of(key: str, config: TrainConfig) -> bool:
    """Whether a setting has a place in this config; UnknownName if it has one in none."""
    name, dot, _ = key.partition(".")
    if not dot:
        return True  # TrainConfig itself knows its keys
    if _targets(name, config):
        return True
    if any(name in table for table in _PARTS.values()):
        return False
    mappings = [k for k, v in config.to_json().items() if isinstance(v, dict)]
    raise unknown("setting", name, [*mappings, *itertools.chain(*_PARTS.values())])


def _targets(name: str, config: TrainConfig) -> list[str]:
    """The mappings of a config that are meant by the first part of a dotted key."""
    if isinstance(getattr(config, name, None), Mapping):
        return [name]
    return [f"{part}_options" for part in _PARTS if getattr(config, part) == name]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
