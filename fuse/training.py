"""The training loop: one straight function.

The order of the items is a pure function of (seed, epoch); all other chance comes from generators
whose states are in the checkpoint. So a run that was killed and resumed has, on a CPU with the same
number of threads, the very weights of one that was not.
"""

import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmf import MmfError
from mmf.fuse import LOSSES, checkpoint
from mmf.fuse.config import TrainConfig
from mmf.fuse.data import choose_device, feature_rows, inputs
from mmf.fuse.evaluation import measure
from mmf.fuse.network import Network
from mmf.fuse.plan import Plan, make_plan, some
from mmf.fuse.resume import Saver, State
from mmf.fuse.run import Run, next_free
from mmf.store import Batch, FeatureStore
from mmf.store.loader import Loader

MAIN_METRIC = {"single": "accuracy", "multi": "gap@20"}  # chooses the best epoch; ties by the loss
_MAY_DIFFER = ("out", "store", "device")  # between the config of a run and of its resumption
Progress = Callable[[Mapping[str, Any]], None]


class Interrupted(MmfError):
    """SIGTERM came; a checkpoint is written, and the run can be resumed."""

    exit_code = 75  # EX_TEMPFAIL


class NonFinite(MmfError, ArithmeticError):
    """The loss or its gradient is NaN or infinite."""


def train(config: TrainConfig, progress: Progress | None = None, *, resume: bool = False) -> Path:
    """Train as the config says; the folder of the run.

    `progress` is called after each epoch with its row of metrics.jsonl. With `resume`, the run in
    `config.out` goes on from its newest checkpoint; the config must be the one it was begun with.
    Raises MmfError where there is nothing to learn from, NonFinite, or Interrupted on SIGTERM.
    """
    store, device = FeatureStore(config.store), choose_device(config.device)
    run, plan = _resumed(config, store) if resume else _begun(config, store)
    torch.manual_seed(config.seed)
    network = run.network().to(device)
    if not resume:
        run.write(plan, network.parameter_counts())
    optimiser = _optimiser(network, config)
    saver = Saver(run, network, optimiser)
    state = saver.restore()
    if state.step == 0:
        _standardise(network, store, plan, config)
    loader = _loader(store, plan, config)
    with _sigterm() as stop:
        while not _finished(state, config):
            for batch in loader.epoch(state.epoch, start_batch=state.batch):
                loss, norm = _learn(network, optimiser, batch, run)
                if not math.isfinite(loss + norm):
                    raise _non_finite(run, state, batch, loss, norm)
                optimiser.step()
                state.batch += 1
                state.step += 1
                state.loss_sum += loss * len(batch)
                state.loss_items += len(batch)
                if stop.is_set():
                    saver.save(state)
                    raise _interrupted(run, state)
                saver.save_if_due(state)
            row = _close_epoch(state, run, measure(network, store, plan.items["val"], run))
            if row is state.best:
                saver.keep_best()
            saver.write_metrics(state)
            if progress is not None:
                progress(row)
        saver.save(state)
    return run.path


def _learn(
    network: Network, optimiser: torch.optim.Optimizer, batch: Batch, run: Run
) -> tuple[float, float]:
    """Gradients of one batch, clipped; its loss and the length of the whole gradient."""
    device = next(network.parameters()).device
    network.train()
    one = inputs(batch, run.specs, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=run.config.precision == "bf16"):
        logits = network(one.features, one.masks)
    loss: Tensor = LOSSES.load(run.loss)(logits, one.labels, one.rated)
    optimiser.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), run.config.clip_norm)
    return loss.item(), norm.item()


def _loader(store: FeatureStore, plan: Plan, config: TrainConfig) -> Loader:
    return Loader(
        store=store,
        items=plan.items["train"],
        features=tuple(plan.specs),
        classes=len(plan.classes),
        max_steps=config.max_steps,
        threads=2,
        batch_size=config.batch_size,
        seed=config.seed,
    )


def _close_epoch(state: State, run: Run, measured: Mapping[str, float]) -> dict[str, Any]:
    """Add the epoch's row to the history, and make it the best if it is."""
    main = MAIN_METRIC[run.task]
    state.epoch += 1
    row = {
        "epoch": state.epoch,
        "step": state.step,
        "train_loss": state.loss_sum / max(state.loss_items, 1),
        "val_loss": measured["loss"],
        f"val_{main}": measured[main],
    }
    state.history.append(row)
    state.batch, state.loss_sum, state.loss_items = 0, 0.0, 0
    rank = (row[f"val_{main}"], -row["val_loss"])
    if state.best is None or rank > (state.best[f"val_{main}"], -state.best["val_loss"]):
        state.best = row
    return row


def _finished(state: State, config: TrainConfig) -> bool:
    if state.best is not None and state.epoch - state.best["epoch"] >= config.patience:
        return True
    return state.epoch >= config.epochs


def _begun(config: TrainConfig, store: FeatureStore) -> tuple[Run, Plan]:
    plan = make_plan(store, config, {})
    path = Path(config.out) if config.out else next_free(config.fusion)
    if path.exists():
        raise MmfError(
            f"run {str(path)!r} exists. Choose another --out, or continue it with --resume."
        )
    return Run.of(path, config, store, plan), plan


def _resumed(config: TrainConfig, store: FeatureStore) -> tuple[Run, Plan]:
    if not config.out:
        raise MmfError("which run goes on? Name it with --out.")
    run = Run.open(config.out)
    asked = dataclasses.replace(config, features=config.features or run.config.features)
    for name in asked.to_json():
        old, new = getattr(run.config, name), getattr(asked, name)
        if old != new and name not in _MAY_DIFFER:
            raise MmfError(
                f"run {config.out!r} was begun with {name} {old!r}; this asks for {new!r}. "
                "Resume with the run's own config.json, or choose another --out."
            )
    run.check_features(store)
    plan = make_plan(store, asked, run.assigned)
    if plan.digest() != run.digest:
        raise MmfError(
            f"the items or labels of store {str(store.path)!r} are not those that run "
            f"{config.out!r} was begun with, so it cannot go on. Begin another with --out."
        )
    return run, plan


def _optimiser(network: Network, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; biases and other vectors do not decay."""
    parameters = list(network.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.lr,
    )


def _standardise(network: Network, store: FeatureStore, plan: Plan, config: TrainConfig) -> None:
    """Take means and deviations from the training items, and from no others."""
    if config.normalise == "standardise":
        for name, spec in plan.specs.items():
            rows = feature_rows(store, plan.items["train"], spec, config.max_steps)
            network.standardise(name, rows)


def _non_finite(run: Run, state: State, batch: Batch, loss: float, norm: float) -> NonFinite:
    ids = [item.id for item in batch.items]
    place = run.path / "nonfinite.json"
    found = {"epoch": state.epoch + 1, "step": state.step + 1, "items": ids}
    checkpoint.write_json(place, {**found, "loss": str(loss), "gradient_norm": str(norm)})
    return NonFinite(
        f"loss {loss:g}, gradient norm {norm:g} in epoch {state.epoch + 1}, step {state.step + 1}, "
        f"on the items {some(ids)}; all are listed in {str(place)!r}. The weights were not changed "
        "by this step. Look at these items' features, or lower --lr."
    )


def _interrupted(run: Run, state: State) -> Interrupted:
    return Interrupted(
        f"stopped by a signal after step {state.step}; the checkpoint is written. "
        f"Continue with `mmf train {run.path}/config.json --out {run.path} --resume`."
    )


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
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
