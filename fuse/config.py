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
from mmf.fuse import LOSSES
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.heads import HEADS
from mmf.fuse.training import SCHEDULES

T = TypeVar("T")

_TABLES = {"fusion": FUSIONS, "aggregate": AGGREGATORS, "head": HEADS}
_CHOICES = {
    "loss": ("auto", *LOSSES),
    "task": ("auto", "single", "multi"),
    "normalise": ("standardise", "l2", "l2_joint", "none"),
    "sample": ("even", "frames", "sequence"),
    "optimiser": ("adamw", "adam", "sgd"),
    "schedule": tuple(SCHEDULES),
    "clip": ("global", "tensor"),
    "precision": ("fp32", "bf16"),
}

_COUNTS = (
    *("train_videos", "epochs", "steps", "eval_every", "eval_videos", "patience"),
    *("batch_size", "parts", "max_steps"),
)
_PARTS = ("aggregate", "fusion", "head", "text")
_LISTS = ("features", "zero")  # lists in JSON, tuples here
_OPTIONS = ("aggregate_options", "fusion_options", "head_options", "text_options")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; `mmf train RUN/config.json` repeats it."""

    store: str | Path = "features.mmf"
    out: str | Path = ""  # the run's folder; "" is runs/<fusion>-N with the next free N
    features: tuple[str, ...] = ()  # () is all of the store's, by name
    label_set: str = "default"
    split_set: str = ""  # "" is the one called as the label set
    # the network
    normalise: Literal["standardise", "l2", "l2_joint", "none"] = "standardise"  # of each row
    aggregate: str = "mean"
    aggregate_options: Mapping[str, Any] = field(default_factory=dict)
    fusion: str = "concat"
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    head: str = "logistic"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""  # a BERT for features of token ids: bert:base, bert:large, a folder, hf://…
    text_options: Mapping[str, Any] = field(default_factory=dict)
    zero: tuple[str, ...] = ()  # features whose rows are made zeros: the ablation of a modality
    dropout: float = 0.1  # before the head
    # what it learns
    task: Literal["auto", "single", "multi"] = "auto"  # single: every item has exactly one label
    loss: Literal["auto", "bce", "ce"] = "auto"  # ce for single, bce for multi
    label_smoothing: float = 0.0  # the share of a label that says nothing
    # what it sees
    train_videos: int | None = None  # of the training videos, the first of an order by `seed`
    sample: Literal["even", "frames", "sequence"] = (
        "even"  # of an item's rows: `fuse.training.sampling`
    )
    max_steps: int = 300  # rows of an item at most; YouTube-8M's 300
    balance: bool = False  # every class as often as the others
    modality_dropout: float = 0.0  # the chance of each feature of an item to be left out
    # how long, and when it is measured
    epochs: int | None = None  # None: 100, or as many as the steps take
    steps: int | None = None
    eval_every: int | None = None  # steps; None: an epoch
    eval_videos: int | None = None  # of the validation videos, drawn once; None: all
    patience: int = 15  # evaluations without a better one before it stops
    # how
    batch_size: int = 64  # items of a step, over all processes; or videos: `by_video`
    parts: int = 1  # of a process's batch, one after the other where memory is short
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9  # of sgd
    schedule: str = "constant"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0  # steps in which the rate rises linearly
    weight_decay: float | None = None  # None: 1e-2 with adamw, 0 with others; biases have none
    l2: Mapping[str, float] = field(default_factory=dict)  # e.g. {"head": 1e-6}: `penalise`
    clip: Literal["global", "tensor"] = "global"  # the whole gradient, or that of each tensor
    clip_norm: float = 10.0
    ema: float = 0.0  # decay of the average of the weights that is kept; 0: the weights themselves
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast of the forward pass
    wandb: str = ""  # the project in Weights & Biases that gets the scalars; "": none

    def __post_init__(self) -> None:
        given: dict[str, Any] = vars(self)
        for name in ("store", "out"):  # a Path is taken, and kept as text for the JSON
            if isinstance(given[name], os.PathLike):
                object.__setattr__(self, name, os.fspath(given[name]))
        for name in _LISTS:
            if isinstance(given[name], list):
                object.__setattr__(self, name, tuple(given[name]))
        for name in _OPTIONS:  # as JSON has them
            object.__setattr__(self, name, _plain(name, given[name]))
        check_types(type(self), given)
        for name, table in _TABLES.items():
            table.check(getattr(self, name))
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in _COUNTS:
            value = getattr(self, name)
            _require(self, name, value is None or value >= 1, "at least 1")
        for name in ("lr", "clip_norm"):
            _require(self, name, getattr(self, name) > 0, "more than 0")
        for name in ("warmup", "weight_decay"):
            _require(self, name, (getattr(self, name) or 0) >= 0, "0 or more")
        for name in ("dropout", "label_smoothing", "modality_dropout", "momentum", "ema"):
            _require(self, name, 0 <= getattr(self, name) < 1, "0 or more and less than 1")
        _require(self, "l2", all(_is_scale(v) for v in self.l2.values()), "numbers of 0 or more")
        for part in self.l2:
            if part not in _PARTS:
                raise unknown("part of the network", part, _PARTS)
        _require(self, "seed", 0 <= self.seed < 2**63, "0 or more")
        for name in _LISTS:
            once = len(set(getattr(self, name))) == len(getattr(self, name))
            _require(self, name, once, "each feature once")

    def to_json(self) -> dict[str, Any]:
        """The config as JSON values; `from_json` reads it back equal."""
        values = dataclasses.asdict(self)
        return values | {name: list(getattr(self, name)) for name in _LISTS}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config that `to_json` wrote; what is left out has its default."""
        return build_options(cls, values, "a training config")

    @classmethod
    def read(cls, path: str | Path) -> "TrainConfig":
        """The config in a JSON file: a config alone, or the config.json of a run."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise MmfError(f"cannot read a config from {str(path)!r}: {error}.") from error
        if not isinstance(values, dict):
            raise MmfError(f"{str(path)!r} holds no JSON object; expected a training config.")
        return cls.from_json(values.get("config", values))


def build_options(kind: type[T], values: Mapping[str, Any], owner: str) -> T:
    """The options dataclass `kind` from a mapping; unknown keys and wrong types are errors.

    A list stands for a tuple, which JSON has not.
    """
    known = typing.get_type_hints(kind)
    for key in values:
        if key not in known:
            raise unknown(f"key of {owner}", key, known)
    lists = [k for k, v in values.items() if isinstance(v, list)]
    tuples = {k: tuple(values[k]) for k in lists if typing.get_origin(known[k]) is tuple}
    given = {**values, **tuples}
    check_types(kind, given)
    return kind(**given)


def check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Raise MmfError for the first value that is not of its field's declared type."""
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            expected = getattr(hints[name], "__name__", str(hints[name]))
            raise MmfError(f"{name} = {value!r}: expected {expected}.")


def _plain(name: str, values: Any) -> Any:
    try:
        return json.loads(json.dumps(values, default=os.fspath))
    except TypeError as error:
        raise MmfError(f"{name} = {values!r}: expected what JSON can hold ({error}).") from error


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


def _is_scale(value: Any) -> bool:
    return _fits(value, float) and value >= 0
