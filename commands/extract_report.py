"""What `mmf extract` says: before it begins, while it runs, and at its end."""

import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mmf.commands.shell import EVERY_SECONDS, console, in_bytes

if TYPE_CHECKING:
    from mmf.cluster.watch import ClusterSeen
    from mmf.extract import FeatureRequest, JobOptions, JobResult, Manifest


def report_plan(
    manifest: "Manifest",
    store: str,
    requests: Sequence["FeatureRequest"],
    job: "JobOptions",
    measured: int,
) -> None:
    """Print what the job would do, and with `measured` videos tried, what it would take."""
    from mmf.extract import measure, plan
    from mmf.extract.media.urls import is_far

    far = sum(is_far(one.path) for one in manifest.inputs())
    if far:
        click.echo(f"mmf: {far} videos at URLs are fetched, to look at their headers", err=True)
    planned = plan(manifest, store, requests, job)
    click.echo(
        f"{planned.inputs} videos; {planned.todo} have something to do: by their headers "
        f"{in_bytes(planned.size_bytes)}, {planned.media_seconds:.0f} s, {planned.frames} frames"
    )
    streams = ", ".join(f"{name} in {videos}" for name, videos in planned.streams.items())
    click.echo(f"streams: {streams}")
    if planned.unusable:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(planned.unusable.items()))
        click.echo(f"cannot be opened: {reasons}")
    for feature in planned.features:
        shape = "x".join(map(str, feature.spec.shape))
        click.echo(
            f"{feature.spec.name}: {feature.rows} rows of {shape} {feature.spec.dtype} = "
            f"{in_bytes(feature.bytes)} from {feature.videos} videos"
            + (f", and what is heard in {feature.heard} of them" if feature.heard else "")
        )
    if measured and planned.todo:
        found = measure(planned, manifest, requests, job, videos=measured)
        decoding, forward = found.decoder_cpu_seconds / 3600, found.forward_cpu_seconds / 3600
        click.echo(
            f"measured on {found.measured} videos, {found.rows} rows: "
            f"{decoding + forward:.2g} CPU-hours (decoding {decoding:.2g}, forward {forward:.2g}), "
            f"{found.gpu_seconds / 3600:.2g} GPU-hours, {found.bytes / 1e12:.2g} TB; "
            f"{found.limit} limits. "
            f"About {_in_hours(found.seconds)} on this machine, beside the start"
        )
    click.echo("Nothing was done.")


def _in_hours(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


class Progress:
    """What `mmf extract` shows while it runs: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        from mmf.extract.tally import Through

        self._bar = Bar(
            TextColumn("{task.completed:.0f}/{task.total:.0f} videos"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._total, self._through = 0, Through()
        self._cluster = ""  # what is to be said of it
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        self._bar.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._bar.__exit__(*exc)

    def __call__(self, event: Any) -> None:
        """Take in what a job tells: that it begins, or that a video ended."""
        if hasattr(event, "todo"):
            self._total = event.todo
            self._begun = self._said = time.monotonic()
            self._task = self._bar.add_task("", total=event.todo, detail="")
            return
        named: list[tuple[str, str]] = []
        if hasattr(event, "dashboard"):
            if event.dashboard:
                click.echo(f"mmf: what the cluster does: {event.dashboard}", err=True)
            return
        if hasattr(event, "folder"):
            where = shlex.quote(event.folder)
            self._bar.console.print(f"mmf: curves: tensorboard --logdir {where}", markup=False)
            return
        if hasattr(event, "still"):
            self._cluster = _said_of(event)
        self._through.count(event)
        if hasattr(event, "named"):  # a bucket
            named += event.named
        elif "failed" in getattr(event, "status", {}).values():
            named.append((event.video_id, event.reason))
        ended = self._through.tried
        self._bar.update(self._task, completed=ended, detail=self._detail())
        for video_id, reason in named:
            self._bar.console.print(f"failed: {video_id!r}: {reason}", highlight=False)
        now = time.monotonic()
        if self._bar.disable and now - self._said > EVERY_SECONDS:
            self._said = now
            left = (now - self._begun) / max(ended, 1) * (self._total - ended)
            line = f"{ended}/{self._total} videos · {self._detail()} · {left:.0f} s left"
            click.echo(line, err=True)

    def _detail(self) -> str:
        seconds, n = max(time.monotonic() - self._begun, 1e-3), self._through
        return (
            f"{n.frames} frames · {n.media_seconds / seconds:.1f} media s/s · "
            f"{n.failed} failed{self._cluster}"
        )


def _said_of(cluster: "ClusterSeen") -> str:
    """How many workers there are, how evenly they work, and which one hangs."""
    said = " · 1 worker" if cluster.workers == 1 else f" · {cluster.workers} workers"
    least, most = min(cluster.through.values(), default=0), max(cluster.through.values(), default=0)
    if cluster.workers > 1 and most:
        said += f" ({least} to {most} videos each)"
    if cluster.still:
        worst = max(cluster.still, key=lambda address: cluster.still[address])
        others = f" and {len(cluster.still) - 1} others" if len(cluster.still) > 1 else ""
        said += f" · {worst}{others} not moving for {cluster.still[worst]:.0f} s"
    return said


def report_job(result: "JobResult", store: str) -> None:
    """Print what became of a job."""
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
    if result.frames or result.spent.forward_all.rows:
        click.echo(_costs_of(result))
        click.echo(_line_of(result))
    if any(n.failed for n in result.counts.values()):
        click.echo(f"why videos failed: mmf status {shlex.quote(store)} --failures")
    if result.stopped:
        click.echo(f"stopped by {result.stopped}; the same command goes on from here", err=True)


def _line_of(result: "JobResult") -> str:
    """How fast each side was, and which one the other waited for."""
    spent, forward = result.spent, result.spent.forward_all
    seconds = spent.seconds / spent.lanes
    lanes = "1 lane" if spent.lanes == 1 else f"{spent.lanes} lanes"
    decoded = f"{result.frames / seconds:.0f} frames/s"
    if not result.frames:
        decoded = f"{result.media_seconds / seconds:.0f} s of media/s"
    return (
        f"decode {decoded}, forward {forward.rows / seconds:.0f} "
        f"rows/s in {lanes}: {forward.seconds / spent.seconds:.0%} of the time forward, "
        f"{spent.waited / spent.seconds:.0%} waiting for the decoder; {spent.limit} limits"
    )


def _costs_of(result: "JobResult") -> str:
    """Milliseconds of a second of media, and of a row of each feature, in one lane."""
    spent, media = result.spent, result.media_seconds
    parts = [f"decoding {_ms(spent.decoder_cpu_seconds, media)} a second of media"] if media else []
    parts += [
        f"{name} {_ms(one.seconds, one.rows)} a row"
        for name, one in spent.forward.items()
        if one.rows
    ]
    return f"it takes {', '.join(parts)}"


def _ms(seconds: float, of: float) -> str:
    return f"{1e3 * seconds / of:.3g} ms"
