"""Stage two: train, evaluate, predict."""

import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.shell import EVERY_SECONDS, STORE, plain, show_table

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--store", help=f"The feature store.  [default: {STORE}]")
@click.option("--out", help="The run's folder.  [default: runs/FUSION-N]")
@click.option("--fusion", help="`mmf list fusions`.  [default: concat]")
@click.option("--features", help="For example rgb,audio.  [default: all of the store]")
@click.option("--aggregate", help="`mmf list aggregators`.  [default: mean]")
@click.option("--head", help="logistic or moe.  [default: logistic]")
@click.option("--loss", help="auto, bce or ce.")
@click.option("--task", help="auto, single or multi.")
@click.option("--label-set", help="The labels to learn.  [default: default]")
@click.option("--split-set", help="The split.  [default: the one called as the label set]")
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--lr", type=float)
@click.option("--weight-decay", type=float)
@click.option("--dropout", type=float)
@click.option("--patience", type=int, help="Epochs without a better validation before it stops.")
@click.option("--normalise", help="standardise, l2 or none; of each row.")
@click.option("--fusion-option", multiple=True, metavar="KEY=VALUE", help="e.g. match=total")
@click.option("--head-option", multiple=True, metavar="KEY=VALUE", help="e.g. mixtures=4")
@click.option("--seed", type=int)
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--precision", help="fp32 or bf16.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
def train(config: str | None, resume: bool, **options: Any) -> None:
    """Train a fusion model on the features of a store; CONFIG is a run's config.json to repeat.

    \b
    mmf train --fusion mfb
    mmf train --features rgb,audio --fusion concat --head moe --out runs/both
    """
    from dataclasses import replace

    from mmf.fuse import TrainConfig
    from mmf.fuse import train as run_training

    given = {k: v for k, v in options.items() if v not in (None, ())}
    if "features" in given:
        given["features"] = tuple(f for f in given["features"].split(",") if f)
    for part in ("fusion", "head"):
        if pairs := given.pop(f"{part}_option", ()):
            given[f"{part}_options"] = _values(f"--{part}-option", pairs)
    if resume and not config and "out" in given:
        config = str(Path(given["out"]) / "config.json")
    base = TrainConfig.read(config) if config else TrainConfig()
    run = run_training(replace(base, **given), _show_epoch(), resume=resume)
    click.echo(f"{run}: {_best_epoch(run)}; next: mmf evaluate {shlex.quote(str(run))}")


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


def _show_epoch() -> Callable[[Mapping[str, Any]], None]:
    """What `mmf train` shows after an epoch: a line that is written over on a terminal."""
    terminal, said = sys.stderr.isatty(), time.monotonic()

    def show(row: Mapping[str, Any]) -> None:
        nonlocal said
        line = " · ".join(f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float))
        if terminal:
            click.echo(f"\r\x1b[Kepoch {row['epoch']} · {line}", err=True, nl=False)
        elif time.monotonic() - said > EVERY_SECONDS:
            click.echo(f"epoch {row['epoch']} · {line}", err=True)
            said = time.monotonic()

    return show


def _best_epoch(run: Path) -> str:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metric = next(k for k in rows[0] if k.startswith("val_") and k != "val_loss")
    best = max(rows, key=lambda row: (row[metric], -row["val_loss"]))
    name = metric.removeprefix("val_")
    return f"{len(rows)} epochs, best validation {name} {best[metric]:.4f} in epoch {best['epoch']}"


@click.command()
@click.argument("run", type=click.Path())
@click.option("--store", help="Another store.  [default: the one the run was trained on]")
@click.option("--split", default="test", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def evaluate(run: str, store: str | None, split: str, device: str, as_json: bool) -> None:
    """Measure RUN on a split of its store.

    \b
    mmf evaluate runs/mfb-1 --split test
    """
    from mmf.fuse import evaluate as measure

    found = measure(run, store, split, device=device)
    if as_json:
        click.echo(json.dumps(found))
        return
    numbers = [(k, f"{v:.4f}" if isinstance(v, float) else str(v)) for k, v in found.items()]
    show_table(["metric", f"{split} of {run}"], [list(row) for row in numbers])


@click.command()
@click.argument("run", type=click.Path())
@click.argument("videos", nargs=-1, type=click.Path())
@click.option(
    "--store", help="A store with the run's features.  [default, without VIDEOS: its own]"
)
@click.option("--split", help="Only the items of this split.")
@click.option("--out", type=click.Path(), help="FILE.csv or FILE.parquet.  [default: a table here]")
@click.option("--top", default=20, show_default=True, help="Classes for each item.")
@click.option("--kaggle", is_flag=True, help="YouTube-8M's VideoId,LabelConfidencePairs.")
@click.option("--device", default="auto", show_default=True)
def predict(run: str, videos: tuple[str, ...], **options: Any) -> None:
    """Predict with RUN the items of a store, or media files, with the recipe it was trained on.

    \b
    mmf predict runs/mfb-1 --store features.mmf --split test --out predictions.csv
    mmf predict runs/mfb-1 clip.mp4
    """
    from mmf.fuse import predict as score
    from mmf.fuse import write_predictions
    from mmf.fuse.run import Run

    chosen = {"top": options["top"], "device": options["device"]}
    if videos:
        if options["store"] or options["split"]:
            raise MmfError("give videos, or a store and a split; not both.")
        with tempfile.TemporaryDirectory(prefix="mmf-predict-") as folder:
            store = _extract_as_trained(run, videos, Path(folder) / STORE)
            found = score(run, store, **chosen)
    else:
        place = options["store"] or Run.open(run).config.store
        found = score(run, place, options["split"], **chosen)
    if options["out"]:
        write_predictions(found, options["out"], kaggle=options["kaggle"])
        click.echo(f"{options['out']}: {len(found)} items")
        return
    for row in found.to_pylist():
        pairs = zip(row["classes"] or (), row["scores"] or (), strict=True)
        best = ", ".join(f"{c} {s:.4f}" for c, s in pairs)
        click.echo(plain(f"{row['item']}: {best or row['reason']}"))


def _extract_as_trained(run: str, videos: Sequence[str], store: Path) -> Path:
    """Extract media files into a store with the very recipes of a run's features."""
    import pyarrow as pa

    from mmf.extract import JobOptions, Manifest, request_from_spec
    from mmf.extract import extract as run_job
    from mmf.fuse.run import Run
    from mmf.store import FeatureStore

    requests = [request_from_spec(spec) for spec in Run.open(run).specs.values()]
    table = pa.table(
        {"video_id": list(videos), "path": pa.array([str(v).encode() for v in videos], pa.binary())}
    )
    manifest = Manifest(source="the command line", table=table, first=tuple(range(len(videos))))
    result = run_job(manifest, store, requests, JobOptions(max_failure_rate=1.0))
    for row in FeatureStore(store).failures().to_pylist():
        click.echo(f"mmf: {row['video_id']!r} failed: {row['reason']} ({row['message']})", err=True)
    if result.failed == len(videos):
        raise MmfError("none of the videos could be used.")
    return store
