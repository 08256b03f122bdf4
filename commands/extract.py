"""`mmf extract`: media in, features in a store."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.shell import EVERY_SECONDS, STORE, console

if TYPE_CHECKING:
    from mmf.extract import FeatureRequest, JobResult, Manifest
    from mmf.store import FeatureStore

MANY_VIDEOS = 1000  # from here on, features without weights must be asked for by name


def _say_embedded(
    requests: Sequence["FeatureRequest"], manifest: "Manifest", options: Mapping[str, Any]
) -> None:
    """Say once that features need no weights; over many videos that must be meant."""
    from mmf.extract import preset

    embedded = preset("embedded")
    backbones = [v.partition("=")[0] for v in options["backbone"]]
    fallen = [m for m in options["modality"] if m not in backbones]
    if not fallen or options["preset"]:
        return
    names = ", ".join(f"{m}={embedded[m]}" for m in fallen)
    if len(manifest) > MANY_VIDEOS:
        raise MmfError(
            f"{len(manifest)} videos, and the backbones are the small embedded ones ({names}). "
            "Say that you mean it (--preset embedded), or name others: "
            "`mmf list backbones` (--backbone rgb=resnet34)."
        )
    click.echo(
        f"mmf: using the small embedded backbones, which need no weights ({names}). Stronger ones "
        "with pretrained weights: --backbone rgb=resnet34; all: `mmf list backbones`.",
        err=True,
    )


def _keep_manifest(store: "FeatureStore", manifest: "Manifest") -> None:
    """What the source says of labels, splits and groups goes to the store's catalog."""
    rows = [
        {k: v for k, v in row.items() if k not in _OWN_COLUMNS and not isinstance(v, (list, bytes))}
        for row in manifest.table.to_pylist()
    ]
    if any(len(row) > 1 for row in rows):
        store.catalog.add_videos(rows)
    if manifest.labels:
        there = store.items() if "default" in store.label_sets else []
        known = {i.video_id if i.start is None else (i.video_id, i.start, i.end) for i in there}
        fresh = {k: v for k, v in manifest.labels.items() if k not in known}
        if fresh:  # labels that `mmf label` has set stand
            store.label(fresh)
    if manifest.split:
        by_video: dict[str, str] = {}
        for key, split in manifest.split.items():
            video = key if isinstance(key, str) else key[0]
            if by_video.setdefault(video, split) != split:
                raise MmfError(
                    f"video {video!r} is in {by_video[video]!r} and in {split!r}; a video stays on "
                    "one side. Mend the manifest's column 'split'."
                )
        store.catalog.add_splits("default", by_video)
    for name, splits in manifest.named_splits.items():
        store.catalog.add_splits(name, splits)


_OWN_COLUMNS = ("path", "start", "end", "captions", "labels", "split", "size", "sha256")


@click.command()
@click.argument("source", default=".")
@click.option("--store", default=STORE, show_default=True, help="The feature store to fill.")
@click.option("--modality", multiple=True, help="rgb, clip, flow, audio or text; repeatable.")
@click.option("--backbone", multiple=True, metavar="MODALITY=NAME[:VARIANT]")
@click.option("--preset", help="The backbones where --backbone names none.  [default: embedded]")
@click.option("--weights", multiple=True, metavar="MODALITY=pretrained|PATH|random:SEED")
@click.option("--name", multiple=True, metavar="MODALITY=FEATURE", help="The feature's name.")
@click.option(
    "--feature",
    multiple=True,
    metavar="NAME=MODALITY:BACKBONE[,key=value…]",
    help="The general form, for several of one modality from one decode.",
)
@click.option("--fps", type=float, help="Rows per second.  [default: 1]")
@click.option("--window", type=float, help="Seconds of sound under a row.  [default: 0.96]")
@click.option("--hop", type=float, help="Seconds from row to row, instead of --fps.")
@click.option("--audio-track", "track", metavar="lang=LANG|N|all", help="Which sound.")
@click.option("--segments", type=int, help="Rows at the middles of N equal parts.")
@click.option("--views", metavar="NTxNS", help="NT clips, NS (1 or 3) crops of each.")
@click.option("--sample", type=click.Choice(["grid", "keyframes"]), help="When pictures are taken.")
@click.option("--decode", type=click.Choice(["exact", "fast"]), help="fast skips frames.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="fp32", type=click.Choice(["fp32", "bf16", "fp16"]))
@click.option("--batch-size", default="auto", metavar="auto|N", help="Rows per forward pass.")
@click.option("--dtype", default="float16", type=click.Choice(["float16", "float32", "uint8"]))
@click.option("--workers", type=int, help="Lanes.  [default: one per core, one on a GPU]")
@click.option("--shard", metavar="i/n", help="Only the i-th of n parts (from 0) of the videos.")
@click.option("--retry", type=click.Choice(["failed"]), help="Try the failed videos again.")
@click.option("--allow-partial", is_flag=True, help="Take files that end too early.")
@click.option("--max-failure-rate", default=0.05, show_default=True, type=float)
@click.option("--replace", is_flag=True, help="Begin features of another recipe anew.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def extract(source: str, store: str, **options: Any) -> int:
    """Extract features of the videos in SOURCE: a folder, a file, or a manifest.

    A manifest is a .csv, .jsonl or .parquet with video_id,path and optionally
    start,end,captions,labels,split,size,sha256 and columns of your own.

    \b
    mmf extract clips --modality rgb --modality audio
    mmf extract clips --modality rgb --backbone rgb=resnet34 --weights rgb=resnet34.safetensors
    """
    from mmf.extract import JobOptions, read_manifest
    from mmf.extract import extract as run_job
    from mmf.extract.shorthand import requests_of
    from mmf.store import FeatureStore

    if options["batch_size"] != "auto" and not options["batch_size"].isdigit():
        raise MmfError(f"--batch-size {options['batch_size']!r}: expected auto or a number.")
    requests, manifest = requests_of(options), read_manifest(source)
    _say_embedded(requests, manifest, options)
    job = JobOptions(
        workers=options["workers"],
        device=options["device"],
        retry_failed=options["retry"] == "failed",
        allow_partial=options["allow_partial"],
        max_failure_rate=options["max_failure_rate"],
        replace=options["replace"],
        dry_run=options["dry_run"],
        shard=_shard(options["shard"]),
    )
    if options["dry_run"]:
        result = run_job(manifest, store, requests, job)
        click.echo(f"{result.inputs} videos; {result.todo} have something to do. Nothing was done.")
        return 0
    with _Progress() as progress:
        result = run_job(manifest, FeatureStore.create(store), requests, job, progress)
    _keep_manifest(FeatureStore(store), manifest)
    _report_job(result, store)
    return result.exit_code


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    i, slash, n = text.partition("/")
    if not (slash and i.isdigit() and n.isdigit()):
        raise MmfError(f"--shard {text!r}: expected i/n, for example 0/4 for the first of four.")
    return int(i), int(n)


class _Progress:
    """What `mmf extract` shows while it runs: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} videos"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._total = self._ended = self._failed = self._frames = 0
        self._media_seconds = 0.0
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> "_Progress":
        self._bar.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._bar.__exit__(*exc)

    def __call__(self, event: Any) -> None:
        if hasattr(event, "todo"):
            self._total = event.todo
            self._begun = self._said = time.monotonic()
            self._task = self._bar.add_task("", total=event.todo, detail="")
            return
        self._ended += 1
        self._failed += "failed" in event.status.values()
        self._frames += event.media.frames
        self._media_seconds += event.media.duration or 0.0
        self._bar.update(self._task, completed=self._ended, detail=self._detail())
        if "failed" in event.status.values():
            self._bar.console.print(f"failed: {event.video_id!r}: {event.reason}", highlight=False)
        now = time.monotonic()
        if self._bar.disable and now - self._said > EVERY_SECONDS:
            self._said = now
            left = (now - self._begun) / self._ended * (self._total - self._ended)
            line = f"{self._ended}/{self._total} videos · {self._detail()} · {left:.0f} s left"
            click.echo(line, err=True)

    def _detail(self) -> str:
        seconds = max(time.monotonic() - self._begun, 1e-3)
        return (
            f"{self._frames} frames · {self._media_seconds / seconds:.1f} media s/s · "
            f"{self._failed} failed"
        )


def _report_job(result: "JobResult", store: str) -> None:
    for feature, n in result.counts.items():
        missing = f" + {n.missing} left" if n.missing else ""
        click.echo(
            f"{feature}: {result.inputs} videos = {n.done} done + {n.failed} failed + "
            f"{n.skipped} skipped{missing}"
        )
    rate = (
        f", {result.frames} frames, {result.media_seconds:.0f} s of media" if result.tried else ""
    )
    click.echo(f"{store}: {result.tried} videos tried in {result.seconds:.1f} s{rate}")
    if any(n.failed for n in result.counts.values()):
        click.echo(f"why videos failed: mmf status {shlex.quote(store)} --failures")
    if result.stopped:
        click.echo(f"stopped by {result.stopped}; the same command goes on from here", err=True)
