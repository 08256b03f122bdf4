"""What there is, and whether it works here."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmf import __version__, unknown
from mmf.commands.shell import STORE, show_columns

if TYPE_CHECKING:
    from mmf import Registry
    from mmf.extract.backbones.overview import Choice


@click.command("list")
@click.argument("kind")
@click.argument("name", required=False)
def list_(kind: str, name: str | None) -> None:
    """List backbones, presets, fusions, aggregators, heads, losses, metrics or recipes.

    \b
    mmf list backbones
    mmf list fusions mfb

    Of a fusion, an aggregator or a head, NAME shows its equations and its options, which
    --fusion-option, --aggregate-option and --head-option set; of a loss or a metric what it is.
    """
    from mmf.fuse import LOSSES, METRICS
    from mmf.fuse.aggregators import AGGREGATORS
    from mmf.fuse.fusions import FUSIONS
    from mmf.fuse.heads import HEADS

    tables = {"fusions": FUSIONS, "aggregators": AGGREGATORS, "heads": HEADS}
    tables |= {"losses": LOSSES, "metrics": METRICS}
    if kind in tables and name is not None:
        _show_one(tables[kind], name)
    elif name is not None:
        raise unknown("kind that is shown by name", kind, list(tables))
    elif kind == "backbones":
        _list_backbones()
    elif kind == "presets":
        _list_presets()
    elif kind == "recipes":
        _list_recipes()
    elif kind in tables:
        table = tables[kind]
        parts = [
            [(name, (table.load(name).__doc__ or "").partition("\n")[0]) for name in names]
            for names in (table, table.offered())
        ]
        show_columns((kind, "what it is"), [part for part in parts if part])
    else:
        raise unknown("kind", kind, ["backbones", "presets", "recipes", *tables])


def _show_one(table: "Registry", name: str) -> None:
    from mmf.commands.options_shown import options_of, said_of

    found = table.load(name)
    click.echo(said_of(found) + "\n")
    if options := options_of(found):
        show_columns(("option", "default", "what it is"), [options])


def _list_backbones() -> None:
    from mmf.extract.backbones import BACKBONES
    from mmf.extract.backbones.overview import backbones, flows

    parts = [[(f"{m}={one.name}", one) for one in backbones(m)] for m in BACKBONES]
    parts.append([(f"flow={one.name}", one) for one in flows()])
    rows = [[_row(name, one) for name, one in part] for part in parts]
    show_columns(("backbone", "variants", "flow too", "pretrained weights"), rows)
    click.echo(
        "Ask for one with --backbone rgb=dinov2 or rgb=dinov2:large; `mmf weights` finds its "
        "weights.\nThe last four are optical flows, which any network with a yes can be fed with: "
        "\n--feature f=flow:resnet34,flow=gmflow:scale2 (modality flow, like hof and raw)."
    )


def _list_presets() -> None:
    from mmf.extract import PRESETS

    for name, one in PRESETS.items():
        click.echo(f"{name}: {one.source}")
        for modality, backbone in one.backbones.items():
            click.echo(f"  {modality}={backbone}")


def _list_recipes() -> None:
    from mmf.fuse import TrainConfig
    from mmf.fuse.recipes import RECIPES

    rows = []
    for name in RECIPES:
        make = RECIPES.load(name)
        said = (make.__doc__ or "").partition("\n")[0]
        rows.append((name, said, " ".join(make(TrainConfig()).rows)))
    show_columns(("recipe", "what it is", "rows"), [rows])
    click.echo("`mmf compare --recipe NAME` makes the table, `mmf train --recipe NAME:ROW` a row.")


def _row(name: str, one: "Choice") -> tuple[str, ...]:
    said = one.weights.rpartition("//")[2] if one.weights else ""
    if one.weights and one.weights.startswith("https://"):
        said = one.weights.rpartition("/")[2]
    if not one.weights:
        said = "as each has" if one.needs_weights else "needs none"
    said = one.fault or (f"{said} (package {one.package})" if one.package else said)
    return name, " ".join(one.variants), "yes" if one.takes_flow else "", said


@click.command()
def doctor() -> None:
    """Check this installation: decode a clip, run a backbone, write and read a store.

    \b
    mmf doctor
    """
    from importlib.metadata import version

    from mmf.extract import FeatureRequest
    from mmf.extract import extract as run_job
    from mmf.extract.sample_set import make_sample_set
    from mmf.store import FeatureStore
    from mmf.store.verify import verify as check

    click.echo(f"mmf {__version__}, Python {sys.version.split()[0]}")
    for name in ("av", "torch", "torchvision", "torchaudio", "zarr", "pyarrow", "numpy"):
        click.echo(f"  {name} {version(name)}")
    with tempfile.TemporaryDirectory(prefix="mmf-doctor-") as folder:
        clips = make_sample_set(Path(folder) / "clips", clips=1)
        asked = [("rgb", "resnet18", "random:0"), ("audio", "logmel", "pretrained")]
        requests = [FeatureRequest(name=m, modality=m, backbone=b, weights=w) for m, b, w in asked]
        store = FeatureStore.create(Path(folder) / STORE)
        result = run_job(clips, store, requests)
        store.refresh()
        (video,) = store.state("rgb")
        rows = {m: store.read(m, video).values.shape for m, _, _ in asked}
        problems = check(store.path)
    click.echo(f"decoded {result.frames} frames; rows {rows}; store {problems or 'whole'}")
    _say_devices()
    click.echo("all is well")


def _say_devices() -> None:
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    click.echo(f"cores {torch.get_num_threads()}, GPU {gpu}")
