"""Where a training stands, and how it is saved so that it can go on exactly from there."""

import json
import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.fuse.training import checkpoint
from mmf.fuse.training.optimiser import Average, Optimiser

_SECONDS = 30.0  # between two checkpoints, or longer: writing takes 5 % of the time at most
_SHARE = 0.05


@dataclass(kw_only=True)
class State:
    """Where a training stands."""

    epoch: int = 0  # epochs done
    batch: int = 0  # steps done of the next epoch
    step: int = 0  # steps done in all
    loss_sum: float = 0.0  # since the last evaluation, times items
    loss_items: int = 0
    best: dict[str, Any] | None = None  # the row of `history` that did best
    history: list[dict[str, Any]] = field(default_factory=list)  # a row per evaluation


class Saver:
    """Writes a training's checkpoints, and reads the newest one back."""

    def __init__(
        self,
        run: Run,
        network: Network,
        optimiser: Optimiser,
        average: Average,
        *,
        writes: bool = True,
    ):
        self._run = run
        self._folder = run.checkpoints
        self._network = network
        self._optimiser = optimiser
        self._average = average
        self._writes = writes  # or another process does
        self._best: Mapping[str, Tensor] = {}
        self._due = time.monotonic() + _SECONDS

    def restore(self) -> State:
        """Take up the newest checkpoint; the state of a fresh start where there is none."""
        found = checkpoint.newest(self._folder)
        if found is None:
            return State()
        path, values = found
        self._network.load_state_dict(checkpoint.load_tensors(path, "network"))
        self._best = checkpoint.load_tensors(path, "best")
        if self._average.decay:
            self._average.network.load_state_dict(checkpoint.load_tensors(path, "average"))
        self._optimiser.load(checkpoint.load_tensors(path, "optimiser"))
        _set_generators(values["generators"], checkpoint.load_tensors(path, "generators"))
        return State(**{name: values[name] for name in asdict(State())})

    def keep_best(self) -> None:
        """Remember the network, or the average, as it is now: it did best so far."""
        kept = self._average.network.state_dict()
        self._best = {k: v.detach().cpu().clone() for k, v in kept.items()}

    def take_best(self) -> None:
        """Make the network, and the average, what did best so far."""
        self._network.load_state_dict(self._best)
        if self._average.decay:
            self._average.network.load_state_dict(self._best)

    def save(self, state: State) -> None:
        """Write a checkpoint now."""
        if not self._writes:
            return
        started = time.monotonic()
        generators, generator_tensors = _generators()
        tensors = {
            "network": self._network.state_dict(),
            "best": self._best,
            "optimiser": self._optimiser.state(),
            "generators": generator_tensors,
        }
        if self._average.decay:
            tensors["average"] = self._average.network.state_dict()
        values = {**asdict(state), "generators": generators}
        checkpoint.save(self._folder, state.step, tensors, values)
        took = time.monotonic() - started
        self._due = time.monotonic() + max(_SECONDS, took / _SHARE)

    def save_if_due(self, state: State) -> None:
        """Write a checkpoint if the last one is old enough."""
        if time.monotonic() >= self._due:
            self.save(state)

    def write_metrics(self, state: State) -> None:
        """Write metrics.jsonl from the history."""
        if not self._writes:
            return
        text = "".join(json.dumps(row) + "\n" for row in state.history)
        checkpoint.write_text(self._run.path / "metrics.jsonl", text)


def _generators() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The states of all random generators, as JSON values and as tensors."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    values = {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
    }
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return values, tensors


def _set_generators(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    version, numbers, gauss = values["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = values["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{i}"], i)
