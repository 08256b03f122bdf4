"""How a job goes, drawn by TensorBoard while it runs: ``STORE/tensorboard``, a folder for each job.

Written where TensorBoard's package is installed and the store is a folder of this machine; by the
package itself, without torch, which a driver does not load. A job that ends within `FIRST` seconds
is not worth the two that this takes.
"""

import importlib.util
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmf.cluster.watch import ClusterSeen
from mmf.extract.tally import CurvesBegun, Event, Progress, Through
from mmf.store.files import ORIGIN, Files

FOLDER = "tensorboard"
FIRST = 20.0  # seconds before the first point
_EVERY = 5.0  # seconds between two points


@contextmanager
def drawn(files: Files, progress: Progress) -> Iterator[Progress]:
    """A progress that also draws; it is `progress` itself where nothing can be drawn."""
    far = (files.root / ORIGIN).exists()
    if far or importlib.util.find_spec("tensorboard") is None:
        yield progress
        return
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    curves = _Curves(str(files.root / FOLDER / name), progress)
    try:
        yield curves
    finally:
        curves.close()


class _Curves:
    """Points over the number of videos that are through; what it hears, it tells."""

    def __init__(self, folder: str, progress: Progress):
        self._folder, self._progress = folder, progress
        self._through, self._workers = Through(), 0
        self._writer: Any = None
        self._begun = time.monotonic()
        self._next = self._begun + FIRST
        self._last = self._begun, 0.0, 0  # when, and what was through then

    def __call__(self, event: Event) -> None:
        self._progress(event)
        self._through.count(event)
        if isinstance(event, ClusterSeen):
            self._workers = event.workers
        if time.monotonic() >= self._next:
            self._draw()

    def close(self) -> None:
        if self._writer is not None:
            self._draw()
            self._writer.close()

    def _draw(self) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._writer is None:
            self._writer = EventFileWriter(self._folder)
            self._progress(CurvesBegun(folder=os.path.dirname(self._folder)))
        now, n = time.monotonic(), self._through
        since, media_seconds, videos = self._last
        values = {
            "videos": n.tried,
            "failed": n.failed,
            "frames": n.frames,
            "media_seconds_per_second": (n.media_seconds - media_seconds) / max(now - since, 1e-3),
            "videos_per_second": (n.tried - videos) / max(now - since, 1e-3),
        }
        if self._workers:
            values["workers"] = self._workers
        points = [
            summary_pb2.Summary.Value(tag=f"extract/{name}", simple_value=value)
            for name, value in values.items()
        ]
        summary = summary_pb2.Summary(value=points)
        self._writer.add_event(
            event_pb2.Event(wall_time=time.time(), step=n.tried, summary=summary)
        )
        self._writer.flush()
        self._last, self._next = (now, n.media_seconds, n.tried), now + _EVERY
