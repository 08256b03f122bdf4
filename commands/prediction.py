"""What a run says of items and of media files."""

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from mmf import MmfError
from mmf.commands.shell import STORE, plain


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
@click.option("--with", "others", multiple=True, metavar="RUN", help="Average with it; repeatable.")
@click.option("--weights", help="For example 2,1: of RUN and of those --with.  [default: alike]")
@click.option("--device", default="auto", show_default=True)
def predict(run: str, videos: tuple[str, ...], **options: Any) -> None:
    """Predict with RUN the items of a store, or media files, with the recipe it was trained on.

    \b
    mmf predict runs/mfb-1 --store features.mmf --split test --out predictions.csv
    mmf predict runs/mfb-1 clip.mp4
    """
    from mmf.fuse.inference.ensemble import Ensemble
    from mmf.fuse.inference.files import write_predictions
    from mmf.fuse.inference.prediction import items_of, predictions
    from mmf.store import FeatureStore

    if videos and (options["store"] or options["split"]):
        raise MmfError("give videos, or a store and a split; not both.")
    weights = _numbers("--weights", options["weights"]) if options["weights"] else None
    ensemble = Ensemble([run, *options["others"]], weights=weights, device=options["device"])
    with ExitStack() as stack:
        place = options["store"] or ensemble.runs[0].config.store
        if videos:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmf-predict-"))
            place = _extract_as_trained(ensemble.specs.values(), videos, Path(folder) / STORE)
        store = FeatureStore(place)
        items = items_of(store, ensemble.runs[0], options["split"])
        found = predictions(ensemble, store, [items], top=options["top"])
        if options["out"]:
            number = write_predictions(found, options["out"], kaggle=options["kaggle"])
            click.echo(f"{options['out']}: {number} items")
            return
        for row in (row for part in found for row in part.to_pylist()):
            pairs = zip(row["classes"] or (), row["scores"] or (), strict=True)
            best = ", ".join(f"{c} {s:.4f}" for c, s in pairs)
            click.echo(plain(f"{row['item']}: {best or row['reason']}"))


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise MmfError(f"{option} {text!r}: expected numbers between commas.") from error


def _extract_as_trained(specs: Iterable[Any], videos: Sequence[str], store: Path) -> Path:
    """Extract media files into a store with the very recipes of these features."""
    import pyarrow as pa

    from mmf.extract import JobOptions, Manifest, request_from_spec
    from mmf.extract import extract as run_job
    from mmf.store import FeatureStore

    requests = [request_from_spec(spec) for spec in specs]
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
