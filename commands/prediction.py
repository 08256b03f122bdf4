"""What a run says of items and of media files."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.shell import STORE, numbers, plain

if TYPE_CHECKING:
    from mmf.fuse.inference.ensemble import Ensemble
    from mmf.store import FeatureStore
    from mmf.store.items import Items

_WINDOW = 5.0  # seconds, YouTube-8M's segments
_THRESHOLD = 0.5  # of a class, where a video may have several


@click.command()
@click.argument("run", type=click.Path())
@click.argument("videos", nargs=-1, type=click.Path())
@click.option(
    "--store", help="A store with the run's features.  [default, without VIDEOS: its own]"
)
@click.option("--split", help="Only the items of this split.")
@click.option("--out", type=click.Path(), help="FILE.csv or FILE.parquet.  [default: a table here]")
@click.option(
    "--top",
    default=20,
    type=click.IntRange(min=1),
    show_default=True,
    help="Classes for each item.",
)
@click.option("--kaggle", is_flag=True, help="YouTube-8M's CSV, of videos or of segments.")
@click.option("--window", type=float, help="Seconds: predict windows of the videos, not items.")
@click.option("--hop", type=float, help="Seconds from window to window.  [default: --window]")
@click.option(
    "--timeline",
    type=click.Path(),
    help="Scores over time: FILE.vtt, FILE.json or a folder, by a --window of 5 unless given.",
)
@click.option("--with", "others", multiple=True, metavar="RUN", help="Average with it; repeatable.")
@click.option("--weights", help="For example 2,1: of RUN and of those --with.  [default: alike]")
@click.option("--device", default="auto", show_default=True)
def predict(run: str, videos: tuple[str, ...], **options: Any) -> None:
    """Predict with RUN the items of a store, or media files, with the recipe it was trained on.

    \b
    mmf predict runs/mfb-1 --store features.mmf --split test --out predictions.csv
    mmf predict runs/mfb-1 clip.mp4
    mmf predict runs/mfb-1 clip.mp4 --timeline clip.vtt --window 2 --hop 1
    mmf predict runs/mfb-1 --with runs/concat-1 --window 5 --kaggle --out segments.csv

    Where RUN has thresholds (mmf evaluate RUN --choose-thresholds), a star marks what reaches its
    own, as the column `above` does in a file.
    """
    from mmf.fuse.inference.ensemble import Ensemble
    from mmf.fuse.inference.files import write_predictions
    from mmf.fuse.inference.prediction import predictions
    from mmf.store import FeatureStore

    _check(videos, options)
    weights = numbers("--weights", options["weights"]) if options["weights"] else None
    ensemble = Ensemble([run, *options["others"]], weights=weights, device=options["device"])
    with ExitStack() as stack:
        place = options["store"] or ensemble.runs[0].config.store
        if videos:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmf-predict-"))
            place = _extract_as_trained(ensemble.specs.values(), videos, Path(folder) / STORE)
        store = FeatureStore(place)
        parts = _items(ensemble, store, options)
        if options["timeline"]:
            _write_timelines(ensemble, store, parts, options)
            return
        found = predictions(ensemble, store, parts, top=options["top"])
        if options["out"]:
            number = write_predictions(found, options["out"], kaggle=options["kaggle"])
            click.echo(f"{options['out']}: {number} items")
            return
        for row in (row for part in found for row in part.to_pylist()):
            pairs = zip(row["classes"] or (), row["scores"] or (), strict=True)
            reached = row.get("above") or [False] * len(row["classes"] or ())
            each = zip(pairs, reached, strict=True)
            best = ", ".join(f"{c} {s:.4f}{'*' if above else ''}" for (c, s), above in each)
            click.echo(plain(f"{row['item']}: {best or row['reason']}"))


def _check(videos: Sequence[str], options: Mapping[str, Any]) -> None:
    if videos and (options["store"] or options["split"]):
        raise MmfError("give videos, or a store and a split; not both.")
    if options["out"] and options["timeline"]:
        raise MmfError("give --out or --timeline; not both.")
    if options["hop"] is not None and options["window"] is None:
        raise MmfError("--hop is from window to window: give --window too.")


def _items(
    ensemble: "Ensemble", store: "FeatureStore", options: Mapping[str, Any]
) -> Iterable["Items"]:
    """What is to be predicted: items as they are labelled, or windows of their videos."""
    from mmf.fuse.inference.prediction import items_of
    from mmf.fuse.inference.windows import windows

    items = items_of(store, ensemble.runs[0], options["split"])
    seconds = options["window"]
    if options["timeline"] and seconds is None:
        seconds = _WINDOW
    if seconds is None:
        return [items]
    features = tuple(ensemble.specs)
    return windows(store, features, items.video_ids, window=seconds, hop=options["hop"])


def _write_timelines(
    ensemble: "Ensemble",
    store: "FeatureStore",
    parts: Iterable["Items"],
    options: Mapping[str, Any],
) -> None:
    from mmf.fuse.inference.prediction import thresholds_of
    from mmf.fuse.inference.timeline import timelines, write_timelines

    found = timelines(ensemble, store, parts)
    thresholds: Any = thresholds_of(ensemble)
    if thresholds is None and ensemble.task == "multi":
        thresholds = _THRESHOLD
    number = write_timelines(found, options["timeline"], top=options["top"], thresholds=thresholds)
    click.echo(f"{options['timeline']}: {number} videos")


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
