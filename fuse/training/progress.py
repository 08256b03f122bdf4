"""What is said of a training while it runs: to callbacks, to TensorBoard, to Weights & Biases.

TensorBoard's files lie in ``RUN/tensorboard`` wherever its package is installed; Weights & Biases
are told where the config names a project.
"""

import hashlib
import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from mmf import MmfError
from mmf.fuse.run import Run
from mmf.fuse.training.distributed import World
from mmf.fuse.training.meter import Meter
from mmf.fuse.training.resume import State
from mmf.fuse.training.step import Learned

Progress = Callable[[Mapping[str, Any]], None]
Scalars = Callable[[int, Mapping[str, float]], None]
_SECONDS = 1.0  # between the points of steps in a curve


class Show:
    """Tells all that want to hear."""

    def __init__(self, rows: list[Progress], steps: list[Progress], scalars: list[Scalars]):
        self._rows, self._steps, self._scalars = rows, steps, scalars
        self._drawn = 0.0

    def row(self, row: Mapping[str, Any], rates: Mapping[str, float]) -> None:
        """The row of an evaluation, and how fast the training went until it."""
        for tell in self._rows:
            tell(row)
        for scalars in self._scalars:
            numbers = {k: v for k, v in row.items() if isinstance(v, float)}
            scalars(row["step"], numbers | dict(rates))

    def step(self, state: State, learned: Learned, meter: Meter) -> None:
        """What came of a step."""
        meter.count(learned.items)
        for tell in self._steps:
            told = {"epoch": state.epoch + 1, "step": state.step, "loss": learned.loss}
            tell(told | meter.read())
        if self._scalars and time.monotonic() - self._drawn > _SECONDS:
            for scalars in self._scalars:
                scalars(state.step, {"loss": learned.loss, "gradient_norm": learned.norm})
            self._drawn = time.monotonic()


@contextmanager
def shown(
    run: Run, state: State, progress: Progress | None, on_step: Progress | None, world: World
) -> Iterator[Show]:
    """A `Show` for as long as a training runs; it says nothing in processes but the first."""
    if not world.first:
        yield Show([], [], [])
        return
    with ExitStack() as stack:
        scalars = []
        if importlib.util.find_spec("tensorboard") is not None:
            scalars.append(stack.enter_context(_tensorboard(run, state.step)))
        if run.config.wandb:
            scalars.append(stack.enter_context(_wandb(run)))
        yield Show([progress] if progress else [], [on_step] if on_step else [], scalars)


def check_wandb(project: str) -> None:
    """Raise MmfError where a project is named and the package is not there."""
    if project and importlib.util.find_spec("wandb") is None:
        raise MmfError(
            f"the scalars were to go to the project {project!r} of Weights & Biases, whose package "
            "is not installed. `pip install wandb`, or leave the project out."
        )


@contextmanager
def _tensorboard(run: Run, step: int) -> Iterator[Scalars]:
    from torch.utils.tensorboard import SummaryWriter  # the package is there

    # what a killed run wrote after its last checkpoint is written again
    writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1)

    def draw(at: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, at)

    try:
        yield draw
    finally:
        writer.close()


@contextmanager
def _wandb(run: Run) -> Iterator[Scalars]:
    wandb = importlib.import_module("wandb")
    which = hashlib.sha256(f"{run.path.resolve()} {run.digest}".encode()).hexdigest()[:16]
    session = wandb.init(
        project=run.config.wandb,
        dir=str(run.path),
        name=run.path.name,
        id=which,
        resume="allow",
        config=run.config.to_json(),
    )
    try:
        yield lambda at, values: session.log(dict(values), step=at)
    finally:
        session.finish()
