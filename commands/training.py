"""Train a fusion model."""

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from mmf import MmfError
from mmf.commands.shell import EVERY_SECONDS, STORE


@click.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--store", help=f"The feature store.  [default: {STORE}]")
@click.option("--out", help="The run's folder.  [default: runs/FUSION-N]")
@click.option("--fusion", help="`mmf list fusions`.  [default: concat]")
@click.option("--features", help="For example rgb,audio.  [default: all of the store]")
@click.option("--aggregate", help="`mmf list aggregators`.  [default: mean]")
@click.option("--head", help="`mmf list heads`.  [default: logistic]")
@click.option("--loss", help="auto, bce or ce.")
@click.option("--label-smoothing", type=float, help="The share of a label that says nothing.")
@click.option("--task", help="auto, single or multi.")
@click.option("--label-set", help="The labels to learn.  [default: default]")
@click.option("--split-set", help="The split.  [default: the one called as the label set]")
@click.option("--epochs", type=int, help="[default: 100, or as many as --steps take]")
@click.option("--steps", type=int, help="Steps at most.")
@click.option("--eval-every", type=int, metavar="STEPS", help="[default: an epoch]")
@click.option("--eval-videos", type=int, help="Validate on so many, drawn once.  [default: all]")
@click.option("--batch-size", type=int)
@click.option("--lr", type=float)
@click.option("--weight-decay", type=float)
@click.option("--dropout", type=float)
@click.option("--patience", type=int, help="Validations without a better one before it stops.")
@click.option("--normalise", help="standardise, l2, l2_joint or none; of each row.")
@click.option("--optimiser", help="adamw, adam or sgd.  [default: adamw]")
@click.option("--schedule", help="constant, staircase, milestones or cosine.  [default: constant]")
@click.option("--sample", help="even, frames or sequence: which rows training sees.")
@click.option("--balance/--no-balance", default=None, help="Every class as often as the others.")
@click.option("--aggregate-option", multiple=True, metavar="KEY=VALUE", help="e.g. clusters=8")
@click.option("--fusion-option", multiple=True, metavar="KEY=VALUE", help="e.g. match=total")
@click.option("--head-option", multiple=True, metavar="KEY=VALUE", help="e.g. mixtures=4")
@click.option("--text", metavar="BERT", help="For token ids: bert:base, bert:large or a folder.")
@click.option("--text-option", multiple=True, metavar="KEY=VALUE", help="e.g. learn=nothing")
@click.option("--zero", help="Features whose rows are made zeros, e.g. rgb: an ablation.")
@click.option(
    "--set",
    "others",
    multiple=True,
    metavar="KEY=VALUE",
    help="Anything else in config.json, e.g. ema=0.9997",
)
@click.option("--recipe", metavar="NAME[:ROW]", help="A paper's settings: `mmf list recipes`.")
@click.option("--seed", type=int)
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--precision", help="fp32 or bf16.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
def train(config: str | None, recipe: str | None, resume: bool, **options: Any) -> None:
    """Train a fusion model on the features of a store; CONFIG is a run's config.json to repeat.

    \b
    mmf train --fusion mfb
    mmf train --features rgb,audio --fusion concat --head moe --out runs/both
    mmf train --recipe mfb_netvlad:mfb --store yt8m.mmf
    mmf train --steps 250000 --eval-every 10000 --set ema=0.9997
    torchrun --nproc-per-node 2 -m mmf.cli train --fusion mfb
    """
    from mmf.fuse import TrainConfig
    from mmf.fuse import train as run_training

    given = {k: v for k, v in options.items() if v not in (None, ())}
    for name in ("features", "zero"):
        if name in given:
            given[name] = tuple(f for f in given[name].split(",") if f)
    for part in ("aggregate", "fusion", "head", "text"):
        if pairs := given.pop(f"{part}_option", ()):
            given[f"{part}_options"] = _values(f"--{part}-option", pairs)
    given |= _values("--set", given.pop("others", ()))
    if resume and not config and "out" in given:
        config = str(Path(given["out"]) / "config.json")
    base = TrainConfig.read(config) if config else TrainConfig()
    if recipe and not config:
        from mmf.fuse.recipes.contract import check_runs, recipe_row

        named = TrainConfig(store=given.get("store", STORE), features=given.pop("features", ()))
        base = recipe_row(recipe, named, given.get("steps")).config
    asked = TrainConfig.from_json(base.to_json() | given)
    if recipe and not config:
        check_runs(asked)
    live = _Live(str(Path(asked.out).parent) if asked.out else "runs")
    run = run_training(asked, live.row, on_step=live.step, resume=resume)
    if os.environ.get("RANK", "0") == "0":  # the others of torchrun have said nothing either
        live.clear()
        click.echo(f"{run}: {_best(run)}; next: mmf evaluate {shlex.quote(str(run))}")


def _values(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE options; a value that is JSON (a number, true) is that, any other is text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise MmfError(f"{option} {pair!r}: expected KEY=VALUE.")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


class _Live:
    """What `mmf train` shows: a line that is written over on a terminal, now and then elsewhere."""

    def __init__(self, folder: str):
        self._terminal = sys.stderr.isatty()
        self._curves = find_spec("tensorboard") is not None
        self._folder = folder  # of runs
        self._said, self._measured = time.monotonic(), ""

    def row(self, row: Mapping[str, Any]) -> None:
        """An evaluation."""
        numbers = [f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float)]
        self._measured = " · ".join(numbers)
        self._line(f"epoch {row['epoch']} · step {row['step']} · {self._measured}", 0.0)

    def step(self, told: Mapping[str, Any]) -> None:
        """A step of the training."""
        if self._curves:
            self.clear()
            click.echo(f"mmf: curves: tensorboard --logdir {shlex.quote(self._folder)}", err=True)
            self._curves = False
        parts = [
            f"epoch {told['epoch']}",
            f"step {told['step']}",
            f"loss {told['loss']:.4f}",
            self._measured,
            f"{told['items_per_second']:,.0f} items/s",
            f"{told['waiting']:.0%} waiting for data",
        ]
        self._line(" · ".join(p for p in parts if p), 0.2)

    def clear(self) -> None:
        """Leave an empty line to write on."""
        if self._terminal:
            click.echo("\r\x1b[K", err=True, nl=False)

    def _line(self, text: str, seconds: float) -> None:
        if time.monotonic() - self._said < (seconds if self._terminal else EVERY_SECONDS):
            return
        self._said = time.monotonic()
        if self._terminal:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        else:
            click.echo(text, err=True)


def _best(path: Path) -> str:
    from mmf.fuse.run import Run
    from mmf.fuse.training.loop import MAIN_METRIC

    run = Run.open(path)
    best, name = run.best(), MAIN_METRIC[run.task]
    last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    return (
        f"{last['epoch']} epochs, best validation {name} "
        f"{best[f'val_{name}']:.4f} in epoch {best['epoch']}, step {best['step']}"
    )
