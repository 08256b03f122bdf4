"""How a training starts: as a run of its own, or where another start of it has stopped."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from pyarrow.compute import count_distinct

from mmf import MmfError
from mmf.fuse.config import TrainConfig
from mmf.fuse.data import feature_rows
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.fusions.contract import StepFusion
from mmf.fuse.network import Network
from mmf.fuse.run import Run, next_free
from mmf.fuse.splits import some_videos
from mmf.fuse.training import checkpoint
from mmf.fuse.training.distributed import World
from mmf.fuse.training.optimiser import Average, make_optimiser
from mmf.fuse.training.plan import Plan, make_plan
from mmf.fuse.training.pretrained import take_runs
from mmf.fuse.training.progress import check_wandb
from mmf.fuse.training.sampling import rows_to_read
from mmf.fuse.training.schedule import Course, make_schedule
from mmf.fuse.training.step import Learning
from mmf.store import FeatureStore
from mmf.store.items import Items
from mmf.store.loader import Loader

_EPOCHS = 100  # where neither epochs nor steps are given, and the network has no number of its own
_MAY_DIFFER = ("out", "store", "device", "parts", "wandb")  # from the config it was begun with


def begun(config: TrainConfig, store: FeatureStore, world: World) -> tuple[Run, Plan]:
    """A run that is not there yet, and its plan; nothing of it is written."""
    check_wandb(config.wandb)
    make_schedule(config)
    _check_parts(config, world)
    plan = make_plan(store, config)
    if _is_positional(config):
        config = replace(config, max_steps=min(config.max_steps, _longest(store, plan)))

    def begin() -> Run:
        path = Path(config.out) if config.out else next_free(config.fusion)
        if path.exists():
            raise MmfError(
                f"run {str(path)!r} exists. Choose another --out, or continue it with --resume."
            )
        return Run.of(path, config, store, plan)

    return world.from_first(begin), plan


def resumed(config: TrainConfig, store: FeatureStore, world: World) -> tuple[Run, Plan]:
    """The run in `config.out`, and its plan, if it can go on with this config."""
    if not config.out:
        raise MmfError("which run goes on? Name it with --out.")
    _check_parts(config, world)
    run = Run.open(config.out)
    asked = replace(config, features=config.features or run.config.features)
    if _is_positional(run.config):
        asked = replace(asked, max_steps=min(asked.max_steps, run.config.max_steps))
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
    return replace(run, config=asked), plan


def _is_positional(config: TrainConfig) -> bool:
    kind = FUSIONS.load(config.fusion)
    return issubclass(kind, StepFusion) and kind.positional


def _longest(store: FeatureStore, plan: Plan) -> int:
    """The most rows of any feature in a training item, or in the video that it is a part of.

    A network with weights for every step is as long as that and no longer: of a longer item
    `max_steps` rows are read, evenly spaced, as always.
    """
    videos = plan.items["train"].video_ids
    features = [store.stored(name) for name in plan.specs]
    places = [(feature, feature.positions(videos)) for feature in features]
    return max(int(feature.rows[at[at >= 0]].max(initial=1)) for feature, at in places)


def prepared(run: Run, plan: Plan, store: FeatureStore, world: World) -> Learning:
    """What the steps of a run change, before the first of them or a checkpoint's restoring."""
    config = run.config
    torch.manual_seed(config.seed)
    network = run.network().to(world.device(config.device))
    if checkpoint.newest(run.checkpoints) is None:
        _begin(network, store, plan, run)
    items = plan.items["train"]
    number = count_distinct(items.video_ids).as_py() if network.by_video else len(items)
    epoch_steps = math.ceil(number / config.batch_size)
    own = network.policy.epochs if network.policy else _EPOCHS
    epochs = config.epochs or (own if config.steps is None else math.inf)
    what = Learning(
        run=run,
        world=world,
        network=network,
        average=Average(network, config.ema),
        optimiser=make_optimiser(network, config),
        schedule=make_schedule(config),
        course=Course(
            batch_size=config.batch_size,
            epoch_steps=epoch_steps,
            steps=int(min(config.steps or math.inf, epochs * epoch_steps)),
            warmup=config.warmup,
        ),
    )
    what.stage(0)  # which there must be
    return what


def training_loader(
    store: FeatureStore, plan: Plan, config: TrainConfig, world: World, *, by_video: bool
) -> Loader:
    """The reader of this process's parts of each step."""
    return Loader(
        store=store,
        items=plan.items["train"],
        features=tuple(plan.specs),
        classes=len(plan.classes),
        max_steps=rows_to_read(config),
        threads=2,
        batch_size=config.batch_size // (world.size * config.parts),
        balance=config.balance,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        by_video=by_video,
    )


def held_out(plan: Plan, config: TrainConfig) -> Items:
    """The items that the training is measured on."""
    if config.eval_videos is None:
        return plan.items["val"]
    return some_videos(plan.items["val"], config.eval_videos, config.seed)


def _begin(network: Network, store: FeatureStore, plan: Plan, run: Run) -> None:
    """What a network has before its first step: of the training items, of runs, as published."""
    if run.config.normalise == "standardise":
        for name, spec in plan.specs.items():
            rows = feature_rows(store, plan.items["train"], spec, run.config.max_steps)
            network.standardise(name, rows)
    take_runs(network, run)
    network.start()


def _check_parts(config: TrainConfig, world: World) -> None:
    if config.batch_size % (world.size * config.parts):
        raise MmfError(
            f"a batch of {config.batch_size} items cannot be divided evenly among {world.size} "
            f"processes with {config.parts} parts each. Choose a --batch-size that is a multiple "
            f"of {world.size * config.parts}."
        )
