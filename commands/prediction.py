"""What a run says of items and of media files."""

import tempfile
from collections.abc import Sequence
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
