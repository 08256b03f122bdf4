"""What a run says of items and of media files."""

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.media_given import extract_as_trained
from mmf.commands.shell import STORE, numbers, plain

if TYPE_CHECKING:
    import pyarrow as pa

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
@click.option("--no-policy", is_flag=True, help="Of VIDEOS compute also what a policy leaves out.")
@click.option("--device", default="auto", show_default=True)
def predict(run: str, videos: tuple[str, ...], **options: Any) -> None:
    """Predict with RUN the items of a store, or media files, with the recipe it was trained on.

    \b
    mmf predict runs/mfb-1 --store features.mmf --split test --out predictions.csv
    mmf predict runs/mfb-1 clip.mp4
    mmf predict runs/mfb-1 clip.mp4 --timeline clip.vtt --window 2 --hop 1
    mmf predict runs/mfb-1 --with runs/concat-1 --window 5 --kaggle --out segments.csv

    VIDEOS are files and folders. Where RUN decides what it uses (--fusion policy), of these only
    what it asks for is decoded and computed; the scores are those of everything (--no-policy).

    Where RUN has thresholds (mmf evaluate RUN --choose-thresholds), a star marks what reaches its
    own, as the column `above` does in a file.
    """
    from mmf.fuse.inference.ensemble import Ensemble
    from mmf.fuse.inference.prediction import predictions
    from mmf.store import FeatureStore

    _check(videos, options)
    weights = numbers("--weights", options["weights"]) if options["weights"] else None
    ensemble = Ensemble([run, *options["others"]], weights=weights, device=options["device"])
    with ExitStack() as stack:
        place = options["store"] or ensemble.runs[0].config.store
        if videos:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmf-predict-")))
            if _asks(ensemble, options):
                _predict_as_asked(ensemble, videos, folder, options)
                return
            place = extract_as_trained(ensemble.specs.values(), videos, folder / STORE)
        store = FeatureStore(place)
        parts = _items(ensemble, store, options)
        if options["timeline"]:
            _write_timelines(ensemble, store, parts, options)
            return
        _show(predictions(ensemble, store, parts, top=options["top"]), options)


def _asks(ensemble: "Ensemble", options: Mapping[str, Any]) -> bool:
    """Whether a policy is asked: by one run, of whole videos."""
    alone, whole = ensemble.alone, options["window"] is None and not options["timeline"]
    return alone is not None and alone[1].policy is not None and whole and not options["no_policy"]


def _predict_as_asked(
    ensemble: "Ensemble", videos: Sequence[str], folder: Path, options: Mapping[str, Any]
) -> None:
    from mmf.commands.adaptive import Adaptive
    from mmf.commands.adaptive_report import Report
    from mmf.fuse.inference.prediction import tables

    began = time.perf_counter()
    adaptive = Adaptive(ensemble, videos, folder)
    report = Report(adaptive)
    _show(tables(ensemble, report.counting(adaptive.scored()), top=options["top"]), options)
    report.say(time.perf_counter() - began)


def _show(found: Iterable["pa.Table"], options: Mapping[str, Any]) -> None:
    """Write the predictions into a file, or here."""
    from mmf.fuse.inference.files import write_predictions

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
