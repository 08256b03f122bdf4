"""The driver: hands out buckets of videos, a few at a time, and keeps the books.

A bucket is as many videos as take about a minute, at the pace that was measured. It comes back with
counts, or it is lost with its worker and handed out again: no video is blamed for that. A worker
whose networks compute something else is refused by name, and its bucket goes to another. When the
scheduler is gone, no worker is there or nothing moves, the job ends and says so (exit code 75).
"""

import contextlib
import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mmf.cluster.connect import Connection, TryAgain
from mmf.cluster.flight import Flight
from mmf.cluster.profile import Profile
from mmf.cluster.watch import ClusterSeen, Watch
from mmf.extract.cluster.worker import request_stop, run_bucket
from mmf.extract.lanes import Work
from mmf.extract.media.urls import is_far
from mmf.extract.pipeline import BUCKET_VIDEOS, Task
from mmf.extract.spent import Spent
from mmf.extract.stopping import Stop, Stopped
from mmf.extract.tally import BucketEnded

if TYPE_CHECKING:
    from distributed import Future

logger = logging.getLogger(__name__)

FIRST_VIDEOS = 8  # of a bucket, before the pace is known
LOSSES = 20  # of one bucket with its worker, before it cannot be chance
LEAVING = 22.0  # seconds that lanes have to commit what is finished, when the job is to stop
_LOOK = 1.0  # seconds between two looks at everything else

Runner = Callable[[Work, Sequence[Task]], BucketEnded]


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    tasks: tuple[Task, ...]
    begun: float = 0.0
    losses: int = 0


class Driver:
    """One piece of work, spread over a cluster."""

    def __init__(
        self,
        connection: Connection,
        profile: Profile,
        work: Work,
        on_ended: Callable[[BucketEnded | Spent | ClusterSeen], None],
        stop: Stop,
        run: Runner = run_bucket,
    ):
        self._client, self._profile = connection.client, profile
        self._work, self._on_ended, self._stop, self._run = work, on_ended, stop, run
        self._watch = Watch(connection, profile, gpu=work.device == "cuda")
        self._flight: Flight[_Bucket, BucketEnded] = Flight(self._client, gpu=work.device == "cuda")
        self._again: deque[_Bucket] = deque()
        self._pace = 0.0  # seconds of a worker for a video
        self._left = 0

    def run(self, tasks: Iterator[Task], total: int) -> None:
        """Hand out all of it; raises what ends the job."""
        self._left = total
        self._watch.wait_for_workers(self._stop)
        try:
            while self._fill(tasks) or self._flight:
                self._look()
                if self._stop.requested:
                    self._leave()
                    return
        finally:
            self._on_ended(Spent(lanes=self._watch.most))
            self._flight.forget()

    def _fill(self, tasks: Iterator[Task]) -> bool:
        """Keep twice as many buckets on their way as there are workers."""
        while len(self._flight) < 2 * max(1, self._watch.workers):
            bucket = self._again.popleft() if self._again else self._next(tasks)
            if bucket is None:
                return False
            self._send(bucket)
        return True

    def _next(self, tasks: Iterator[Task]) -> _Bucket | None:
        found = tuple(map(_absolute, islice(tasks, self._size())))
        self._left -= len(found)
        return _Bucket(tasks=found) if found else None

    def _size(self) -> int:
        """Videos of the next bucket: about a minute's, and at the end each worker's share."""
        size = FIRST_VIDEOS
        if self._pace:
            size = int(self._profile.bucket_seconds / self._pace)
        share = -(-self._left // (2 * max(1, self._watch.workers)))
        return max(1, min(size, BUCKET_VIDEOS, share))

    def _send(self, bucket: _Bucket) -> None:
        begun = replace(bucket, begun=time.monotonic())
        self._flight.send(begun, self._run, self._work, bucket.tasks)

    def _look(self) -> None:
        """Take what is done within a moment, and look after the cluster."""
        with contextlib.suppress(queue.Empty, Stopped):
            self._take(self._stop.wait(partial(self._flight.next, _LOOK)))
            while True:
                self._take(self._flight.next(None))
        self._watch.look(busy=bool(self._flight))
        if news := self._watch.news():
            self._on_ended(news)

    def _take(self, future: "Future") -> None:
        if (landed := self._flight.land(future)) is None:
            return
        if landed.result is None:
            self._lost(landed.one)
        else:
            self._count(landed.one, landed.result, future)

    def _count(self, bucket: _Bucket, ended: BucketEnded, future: "Future") -> None:
        if ended.refused:
            self._watch.refuse(future, ended.host, ended.refused)
            self._again.append(bucket)
            return
        self._watch.moved()
        seconds = ended.spent.seconds or (time.monotonic() - bucket.begun) / 2
        if ended.tried:
            pace = max(seconds / ended.tried, 1e-4)
            self._pace = pace if not self._pace else 0.7 * self._pace + 0.3 * pace
        self._on_ended(ended)
        future.release()

    def _lost(self, bucket: _Bucket) -> None:
        """Hand out again what was lost with its worker."""
        if bucket.losses + 1 >= LOSSES:
            raise TryAgain(
                f"a bucket of {len(bucket.tasks)} videos was lost with its worker {LOSSES} times, "
                f"the first of them {bucket.tasks[0].source.video_id!r}. Workers die here; see "
                "their logs, then run the same command again."
            )
        logger.info("a bucket of %d videos was lost with its worker", len(bucket.tasks))
        self._again.append(replace(bucket, losses=bucket.losses + 1))

    def _leave(self) -> None:
        """Let lanes commit what is finished, count it, and go."""
        deadline = time.monotonic() + LEAVING
        with contextlib.suppress(Exception):  # of a scheduler that may be gone
            self._flight.cancel_waiting()
            self._client.run(request_stop, wait=False)
        while self._flight and time.monotonic() < deadline and self._watch.running():
            try:
                self._take(self._flight.next(_LOOK))
            except queue.Empty:
                continue
            except TryAgain:
                return


def _absolute(task: Task) -> Task:
    """A worker may have another current folder."""
    source = task.source
    if is_far(source.path):
        return task
    path = os.path.abspath(source.path)
    captions = source.captions
    if captions and not is_far(captions):
        captions = os.path.abspath(captions)
    return replace(task, source=replace(source, path=path, captions=captions))
