"""What a Dask worker does with a bucket: it has a lane compute it, and tells what became of it.

The lane is a process of its own (`mmf.extract.lanes`), which lives as long as the worker's thread:
the worker itself loads no torch, answers its scheduler whatever a network does, and does not die
of what a lane dies of.
"""

import contextlib
import platform
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mmf import MmfError
from mmf.extract.lanes import Lanes, Work
from mmf.extract.pipeline import Task, Undone, VideoEnded
from mmf.extract.spent import Spent
from mmf.extract.stopping import Stop
from mmf.extract.suspects import blame, settle
from mmf.extract.tally import BucketEnded

NAMED = 20  # failures of a bucket that are named


class _Seat:
    """The lane of one thread of a worker, from one bucket to the next, and what it has done."""

    def __init__(self) -> None:
        self.lanes = Lanes([])
        self.stop = Stop()
        self.moved = 0  # videos and frames so far: whether it moves at all
        self.through = 0  # videos so far
        self.ended: dict[str, VideoEnded] = {}
        self.spent = Spent()

    def run(self, work: Work, tasks: Sequence[Task]) -> BucketEnded:
        """Compute a bucket, down to the last video that can be."""
        self.stop, self.ended, self.spent = Stop(), {}, Spent()
        whole = False

        def run(some: Sequence[Task]) -> list[Task]:
            return self.lanes.run(1, work, iter(some), self._take, self.stop)

        try:
            settle(tasks, run, partial(blame, work, self._take), self.stop)
            whole = not self.stop.requested
        except MmfError as error:
            return BucketEnded(refused=str(error), host=platform.node())
        finally:
            if not whole:  # what an error left is nothing for the next bucket
                self.lanes.end(kept=False)
        return self._counts()

    def _take(self, event: VideoEnded | Undone | Spent) -> None:
        match event:
            case Spent():
                self.spent += event
            case Undone():
                self.through -= 1
                self.ended.pop(event.ended.video_id, None)
            case VideoEnded():
                self.through += 1
                self.moved += 1 + event.media.frames
                self.ended[event.video_id] = event

    def _counts(self) -> BucketEnded:
        failed = [one for one in self.ended.values() if "failed" in one.status.values()]
        return BucketEnded(
            tried=len(self.ended),
            failed=len(failed),
            named=tuple((one.video_id, one.reason) for one in failed[:NAMED]),
            frames=sum(one.media.frames for one in self.ended.values()),
            media_seconds=sum(one.media.duration or 0.0 for one in self.ended.values()),
            spent=replace(self.spent, lanes=0),  # one lane, however many buckets it has
            host=platform.node(),
            stopped=bool(self.stop.requested),
        )


_seats: dict[int, _Seat] = {}  # by thread


def run_bucket(work: Work, tasks: Sequence[Task]) -> BucketEnded:
    """The task of a Dask worker: compute and commit these videos."""
    with contextlib.suppress(ValueError):  # tried without a worker
        _show_in_heartbeat()
    seat = _seats.setdefault(threading.get_ident(), _Seat())
    return seat.run(work, tasks)


def request_stop() -> None:
    """Let every lane of this worker commit what is finished, and end."""
    for seat in list(_seats.values()):
        seat.stop.request("SIGTERM")


def moved() -> int:
    """Grows with every video that a lane of this worker is through with."""
    return sum(seat.moved for seat in list(_seats.values()))


def through() -> int:
    """Videos that the lanes of this worker are through with."""
    return sum(seat.through for seat in list(_seats.values()))


def _show_in_heartbeat() -> None:
    from distributed import get_worker

    get_worker().metrics.setdefault("mmf_moved", _moved_of)
    get_worker().metrics.setdefault("mmf_through", _through_of)


def _moved_of(_worker: Any) -> int:
    return moved()


def _through_of(_worker: Any) -> int:
    return through()
