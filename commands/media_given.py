"""Media files that a command names, and a run's features of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmf import MmfError

if TYPE_CHECKING:
    from mmf.extract import JobResult, Manifest
    from mmf.store import FeatureSpec


def manifest_of(videos: Sequence[str]) -> "Manifest":
    """The files that are named, and those in the folders that are."""
    import numpy as np
    import pyarrow as pa

    from mmf.extract import Manifest

    paths = list(dict.fromkeys(path for video in videos for path in _files(video)))
    table = pa.table(
        {
            "video_id": [os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths],
            "path": pa.array([os.fsencode(path) for path in paths], pa.binary()),
        }
    )
    return Manifest(source="the command line", table=table, first=np.arange(len(paths)))


def _files(video: str) -> Iterator[str]:
    from mmf.extract import read_manifest

    if not os.path.isdir(video):
        yield video
        return
    yield from (one.path for one in read_manifest(video).inputs())


def extract_as_trained(specs: Iterable["FeatureSpec"], videos: Sequence[str], store: Path) -> Path:
    """Extract media files into a store with the very recipes of these features."""
    from mmf.extract import JobOptions, request_from_spec
    from mmf.extract import extract as run_job

    requests = [request_from_spec(spec) for spec in specs]
    manifest = manifest_of(videos)
    result = run_job(manifest, store, requests, JobOptions(max_failure_rate=1.0))
    say_failures(store)
    check_ended(result, len(manifest))
    return store


def check_ended(result: "JobResult", videos: int) -> None:
    """Raise where a job was told to stop, or none of its videos could be used."""
    if result.stopped:
        raise Stopped(result)
    if result.failed == videos:
        raise MmfError("none of the videos could be used.")


class Stopped(MmfError):
    """What was to be predicted was not extracted to its end."""

    def __init__(self, result: "JobResult"):
        super().__init__(f"stopped by {result.stopped}; nothing was predicted. Run it again.")
        self.exit_code = result.exit_code


def say_failures(store: Path) -> None:
    """Say on stderr which videos of a store could not be used, and why."""
    from mmf.store import FeatureStore

    found = FeatureStore(store).failures().to_pylist()
    columns = ("video_id", "reason", "message")
    for video, reason, message in dict.fromkeys(tuple(row[c] for c in columns) for row in found):
        click.echo(f"mmf: {video!r} failed: {reason} ({message})", err=True)
