"""One run of a comparison: trained, or gone on with, or found finished.

Beside what every run has, its folder then holds

done.json    written when it is finished: its best validation
speed.jsonl  a line for each evaluation: seconds that an epoch takes, without the evaluations
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmf.fuse.config import TrainConfig
from mmf.fuse.run import Run
from mmf.fuse.training.checkpoint import write_json
from mmf.fuse.training.loop import MAIN_METRIC, train

_DONE, _SPEED = "done.json", "speed.jsonl"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished run, by what chooses among settings."""

    path: Path
    metric: str  # the task's main one
    value: float  # of its best validation
    loss: float
    step: int


class Here:
    """Trains a run when it is asked for, in this process."""

    def ahead(self, configs: Iterable[TrainConfig]) -> None:
        """These will be asked for."""

    def __call__(self, config: TrainConfig) -> Trained:
        """What comes of a run; raises MmfError where it cannot be trained."""
        return trained(config)


def trained(config: TrainConfig, moved: Callable[[], None] = lambda: None) -> Trained:
    """Train the run in `config.out` to its end, from where an earlier start of it stopped.

    `moved` is called after each step.
    """
    if (there := finished(config)) is not None:
        return there
    path = Path(config.out)
    if path.exists() and not (path / "config.json").exists():
        shutil.rmtree(path)  # a kill came before its first file
    speed = _Speed(path, moved)
    train(config, speed.row, on_step=speed.step, resume=path.exists())
    write_json(path / _DONE, found := _best(path))
    return Trained(path=path, **found)


def finished(config: TrainConfig) -> Trained | None:
    """The run in `config.out`, where it was trained to its end."""
    path = Path(config.out)
    if not (path / _DONE).exists():
        return None
    return Trained(path=path, **json.loads((path / _DONE).read_text(encoding="utf-8")))


def history(path: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl."""
    return _lines(path / "metrics.jsonl")


def epoch_seconds(path: Path) -> list[float]:
    """What an epoch of the run took, measured between its evaluations."""
    items = json.loads((path / "config.json").read_text(encoding="utf-8"))["data"]["items"]["train"]
    return [items / row["items_per_second"] for row in _lines(path / _SPEED)]


def bytes_on_disk(path: Path) -> int:
    """All files of a run: checkpoints (the last two, with the optimiser's state), logs, config."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class _Speed:
    """Writes down how fast a training goes."""

    def __init__(self, path: Path, moved: Callable[[], None]):
        self._place, self._moved = path / _SPEED, moved
        self._rate = 0.0

    def step(self, told: Mapping[str, Any]) -> None:
        """The rate since the last evaluation."""
        self._rate = told["items_per_second"]
        self._moved()

    def row(self, row: Mapping[str, Any]) -> None:
        """An evaluation is done; what was learned until it had this rate."""
        if self._rate:
            with self._place.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": row["step"], "items_per_second": self._rate}) + "\n")


def _best(path: Path) -> dict[str, Any]:
    run = Run.open(path)
    metric, best = MAIN_METRIC[run.task], run.best()
    return {
        "metric": metric,
        "value": best[f"val_{metric}"],
        "loss": best["val_loss"],
        "step": best["step"],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, but for a last one that a kill cut off."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
