"""What one training run is: a frozen dataclass that is saved as JSON beside the weights.

Reading is strict: an unknown key or name is an error that suggests the nearest, and a value of the
wrong type says what was expected.
"""

import dataclasses
import json
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from mmf import MmfError, unknown
from mmf.fuse import HEADS, LOSSES
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.fusions import FUSIONS

T = TypeVar("T")

_CHOICES = {
    "fusion": tuple(FUSIONS),
    "aggregate": tuple(AGGREGATORS),
    "head": tuple(HEADS),
    "loss": ("auto", *LOSSES),
    "task": ("auto", "single", "multi"),
    "normalise": ("standardise", "l2", "none"),
    "precision": ("fp32", "bf16"),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; `mmf train RUN/config.json` repeats it."""

    store: str | Path = "features.mmf"
    out: str | Path = ""  # the run's folder; "" is runs/<fusion>-N with the next free N
    features: tuple[str, ...] = ()  # () is all of the store's, by name
    label_set: str = "default"
    split_set: str = ""  # "" is the one called as the label set
    # the network
    normalise: Literal["standardise", "l2", "none"] = "standardise"  # of each row of a feature
    aggregate: str = "mean"
    aggregate_options: Mapping[str, Any] = field(default_factory=dict)
    fusion: str = "concat"
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    head: str = "logistic"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    dropout: float = 0.1  # before the head
    # what it learns
    task: Literal["auto", "single", "multi"] = "auto"  # single: every item has exactly one label
    loss: Literal["auto", "bce", "ce"] = "auto"  # ce for single, bce for multi
    # how
    epochs: int = 100
    patience: int = 15  # epochs without a better validation before it stops
    batch_size: int = 64  # items
    max_steps: int = 300  # rows of an item at most, evenly spaced; YouTube-8M's 300
    lr: float = 1e-3
    weight_decay: float = 1e-2  # decoupled (AdamW), of weights and not of biases
    clip_norm: float = 10.0  # of the whole gradient
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast of the forward pass

    def __post_init__(self) -> None:
        given: dict[str, Any] = vars(self)
        for name in ("store", "out"):  # a Path is taken, and kept as text for the JSON
            if isinstance(given[name], os.PathLike):
                object.__setattr__(self, name, os.fspath(given[name]))
        if isinstance(given["features"], list):
            object.__setattr__(self, "features", tuple(given["features"]))
        check_types(type(self), given)
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in ("epochs", "patience", "batch_size", "max_steps"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("lr", "clip_norm"):
            _require(self, name, getattr(self, name) > 0, "more than 0")
        _require(self, "weight_decay", self.weight_decay >= 0, "0 or more")
        _require(self, "dropout", 0 <= self.dropout < 1, "0 or more and less than 1")
        _require(self, "seed", 0 <= self.seed < 2**63, "0 or more")
        repeated = {f for f in self.features if self.features.count(f) > 1}
        _require(self, "features", not repeated, "each feature once")

    def to_json(self) -> dict[str, Any]:
        """The config as JSON values; `from_json` reads it back equal."""
        values = dataclasses.asdict(self)
        return values | {"features": list(self.features)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config that `to_json` wrote; what is left out has its default."""
        if isinstance(values.get("features"), list):
            values = {**values, "features": tuple(values["features"])}
        return build_options(cls, values, "a training config")

    @classmethod
    def read(cls, path: str | Path) -> "TrainConfig":
        """The config in a JSON file: a config alone, or the config.json of a run."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise MmfError(f"cannot read a config from {str(path)!r}: {error}.") from error
        if not isinstance(values, dict):
            raise MmfError(f"{str(path)!r} holds no JSON object; expected a training config.")
        return cls.from_json(values.get("config", values))


def build_options(kind: type[T], values: Mapping[str, Any], owner: str) -> T:
    """The options dataclass `kind` from a mapping; unknown keys and wrong types are errors."""
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise unknown(f"key of {owner}", key, known)
    check_types(kind, values)
    return kind(**values)


def check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Raise MmfError for the first value that is not of its field's declared type."""
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            expected = getattr(hints[name], "__name__", str(hints[name]))
            raise MmfError(f"{name} = {value!r}: expected {expected}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return isinstance(value, str)  # its choices are checked by name, with suggestions
    if origin is types.UnionType:
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, inner[0]) for one in value)
    if origin is not None:
        return isinstance(value, origin)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _require(config: TrainConfig, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise MmfError(f"{name} = {getattr(config, name)!r}: expected {expected}.")
