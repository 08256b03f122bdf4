"""The training loop: one straight function.

The order of the items is a pure function of (seed, epoch), and all other chance of what it is for
(`training.chance`). So a run that was killed and resumed has, on a CPU with the same number of
threads, the very weights of one that was not; and a step has the same items whatever the number of
processes.
"""

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.fuse.config import TrainConfig
from mmf.fuse.evaluation.measure import measure
from mmf.fuse.run import Run
from mmf.fuse.training import checkpoint
from mmf.fuse.training.distributed import World, joined
from mmf.fuse.training.meter import Meter
from mmf.fuse.training.plan import some
from mmf.fuse.training.progress import Progress, shown
from mmf.fuse.training.resume import Saver, State
from mmf.fuse.training.start import begun, held_out, prepared, resumed, training_loader
from mmf.fuse.training.step import Learned, Learning, learn, products
from mmf.memory import memory_kept
from mmf.store import Batch, FeatureStore
from mmf.store.items import Items
from mmf.store.loader import Loader

MAIN_METRIC = {"single": "accuracy", "multi": "gap@20"}  # chooses the best weights; ties by loss


class Interrupted(MmfError):
    """SIGTERM came; a checkpoint is written, and the run can be resumed."""

    exit_code = 75  # EX_TEMPFAIL


class NonFinite(MmfError, ArithmeticError):
    """The loss or its gradient is NaN or infinite."""


def train(
    config: TrainConfig,
    progress: Progress | None = None,
    *,
    on_step: Progress | None = None,
    resume: bool = False,
) -> Path:
    """Train as the config says; the folder of the run.

    `progress` is called after each evaluation with its row of metrics.jsonl; `on_step` after each
    step with the loss, items per second and the share of the time that waited for data. With
    `resume`, the run in `config.out` goes on from its newest checkpoint; the config must be the one
    it was begun with. Under torchrun every process takes its part of each batch.
    Raises MmfError where there is nothing to learn from, NonFinite, or Interrupted on SIGTERM.
    """
    with joined() as world, sigterm() as stop, memory_kept():
        store = FeatureStore(config.store)
        run, plan = (resumed if resume else begun)(config, store, world)
        what = prepared(run, plan, store, world)
        loader = training_loader(store, plan, run.config, world, by_video=what.network.by_video)
        if not resume and world.first:
            run.write(plan, what.network.parameter_counts())
        saver = Saver(run, what.network, what.optimiser, what.average, writes=world.first)
        state = saver.restore()
        evaluate = _evaluation(what, store, held_out(plan, config))
        batches = batches_of(loader, state, what, meter := Meter())
        said = shown(run, state, progress, on_step, world)
        with closing(batches), said as show, products(what.network):
            while True:
                if _is_due(state, what):
                    rates = meter.read()
                    show.row(_add_row(state, what, saver, world.from_first(evaluate)), rates)
                    meter.start()
                if _is_finished(state, what):
                    break
                _enter(state, what, saver)
                learned = learn(what, next(batches), state, stop)
                _go_on(state, learned, what, saver)
                show.step(state, learned, meter)
        saver.save(state)
    return run.path


def batches_of(
    loader: Loader, state: State, what: Learning, meter: Meter
) -> Generator[Iterator[Batch], None, None]:
    """This process's parts of each step, from where the training stands on, for ever."""
    epoch, done, parts = state.epoch, state.batch, what.run.config.parts
    while True:
        with closing(loader.epoch(epoch, start_batch=done * parts)) as coming:
            waited_for = meter.waiting(coming)
            for _ in range(done, what.course.epoch_steps):
                yield islice(waited_for, parts)
        epoch, done = epoch + 1, 0


def _evaluation(what: Learning, store: FeatureStore, items: Items) -> Callable[[], dict[str, Any]]:
    """What measures the network, or its average, on these items."""
    names = [MAIN_METRIC[what.run.task]]
    return partial(measure, what.average.network, store, items, what.run, names=names)


def _go_on(state: State, learned: Learned, what: Learning, saver: Saver) -> None:
    """Count the step; where the training stops at it, NonFinite or Interrupted, and a checkpoint.

    A step that is not finite has changed nothing and does not count.
    """
    if not learned.finite:
        saver.save(state)
        raise _non_finite(what.run, state, learned, what.world)
    state.step += 1
    state.batch += 1
    state.loss_sum += learned.loss * learned.items
    state.loss_items += learned.items
    if state.batch == what.course.epoch_steps:
        state.epoch, state.batch = state.epoch + 1, 0
    if learned.stopping:
        saver.save(state)
        raise _interrupted(what.run, state)
    saver.save_if_due(state)


def _is_due(state: State, what: Learning) -> bool:
    """Whether it is time to evaluate: every so many steps, or after an epoch, and at the end."""
    if state.step == 0 or (state.history and state.history[-1]["step"] == state.step):
        return False
    if state.step >= what.course.steps:
        return True
    every = what.run.config.eval_every
    return state.step % every == 0 if every else state.batch == 0


def _is_finished(state: State, what: Learning) -> bool:
    best = state.best
    if best is not None and what.network.policy is None:  # stages are as long as they are
        since = sum(row["step"] > best["step"] for row in state.history)
        if since >= what.run.config.patience:
            return True
    return state.step >= what.course.steps


def _enter(state: State, what: Learning, saver: Saver) -> None:
    """What comes before the first step of a stage, from the step's number and what is saved alone.

    A run that goes on from there does it once more, and finds what it found before.
    """
    stage = what.stage(state.step)
    if stage is None:
        return
    if stage.begins:
        what.optimiser.forget()
    if stage.first_to_count:
        state.best = None
    if stage.takes_best and state.best is not None:
        saver.take_best()


def _add_row(
    state: State, what: Learning, saver: Saver, measured: Mapping[str, float]
) -> dict[str, Any]:
    """Add the evaluation's row to the history; keep the network where it is the best so far."""
    main, stage = MAIN_METRIC[what.run.task], what.stage(state.step - 1)
    row = {
        "epoch": state.epoch + (state.batch > 0),  # the one that it is in, from 1
        "step": state.step,
        "train_loss": state.loss_sum / max(state.loss_items, 1),
        "val_loss": measured["loss"],
        f"val_{main}": measured[main],
        **({} if stage is None else {"stage": stage.name}),
        **{f"val_{name}": value for name, value in measured.items() if name.startswith("used_")},
    }
    policy = what.network.policy
    if policy is not None and policy.counts_costs:
        row["val_cost"] = policy.cost_of({m: measured[f"used_{m}"] for m in policy.modalities})
    state.history.append(row)
    state.loss_sum, state.loss_items = 0.0, 0
    if state.best is None or _rank(row, main) > _rank(state.best, main):
        state.best = row
        saver.keep_best()
    saver.write_metrics(state)
    return row


def _rank(row: Mapping[str, Any], main: str) -> tuple[float, float]:
    """How well an evaluation's weights do; with what they cost, where that is to count."""
    if "val_cost" in row:
        return -(row["val_loss"] + row["val_cost"]), row[f"val_{main}"]
    return row[f"val_{main}"], -row["val_loss"]


def _non_finite(run: Run, state: State, learned: Learned, world: World) -> NonFinite:
    """The error, with all that repeats the step: the checkpoint before it is written."""
    mine = [item.id for part in learned.given for item in part]
    ids = [i for of_process in world.gathered(mine) for i in of_process]
    place = run.path / "nonfinite.json"
    again = f"mmf train {run.path}/config.json --out {run.path} --resume"
    if world.first:
        found = {
            "epoch": state.epoch + 1,
            "step": state.step + 1,
            "items": ids,
            "loss": str(learned.loss),
            "gradient_norm": str(learned.norm),
            "processes": world.size,
            "replay": again,
        }
        checkpoint.write_json(place, found)
    return NonFinite(
        f"loss {learned.loss:g}, gradient norm {learned.norm:g} in epoch {state.epoch + 1}, step "
        f"{state.step + 1}, on the items {some(ids)}; all are listed in {str(place)!r}. "
        "The weights were not changed by this step. Look at these items' features, or lower --lr; "
        f"`{again}` repeats this very step."
    )


def _interrupted(run: Run, state: State) -> Interrupted:
    return Interrupted(
        f"stopped by a signal after step {state.step}; the checkpoint is written. "
        f"Continue with `mmf train {run.path}/config.json --out {run.path} --resume`."
    )


@contextmanager
def sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the loop can stop between two steps."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
