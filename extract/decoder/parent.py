"""The decoder as its user sees it: files are submitted, what becomes of them is told.

A file that crashes, hangs or swells the process costs that file and no other: the process is ended
and another goes on, which tries that file once more: it may have suffered by one before it.
"""

import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmf import MmfError
from mmf.extract.decoder.events import Ended, Event, Failed, Restarted, Sample
from mmf.extract.decoder.process import Process, json_line
from mmf.extract.decoder.staging import Staged, Staging
from mmf.extract.media.opening import DEFAULT_LIMITS, Limits, Unusable
from mmf.extract.media.urls import is_far, shown
from mmf.extract.signals import Cues, Signal, Waves, to_json
from mmf.store.track import Media

RECYCLE_AFTER = 500  # files; libraries leak a little
AHEAD = 64  # files the process knows of before it needs them
START_TIMEOUT = 120.0  # seconds for the process to import and answer
STARTS = 3  # of the process in a row, before it is said that it does not start
ATTEMPTS = 2  # of a file that crashes, hangs or swells the process
OUT_OF_CPU = f"signal_{signal.SIGXCPU.value}"  # the process's own limit, behind the deadline

# the seconds of a file, and of each signal the rows wanted, as (first, end)
Some = tuple[float, Sequence[Sequence[tuple[int, int]]]]


@dataclass(kw_only=True)
class _Job:
    key: str
    path: str
    captions: str | None
    size: int | None
    sha256: str | None
    some: Some | None
    fetched: dict[str, Staged] = field(default_factory=dict)  # by URL
    attempts: int = 0
    waited: float = 0.0  # seconds that we waited for its rows
    duration: float = 0.0  # seconds of media, as far as we know

    @property
    def shown(self) -> str:
        """The path as text that every table takes."""
        return shown(self.path).encode("utf-8", "backslashreplace").decode()

    @property
    def is_here(self) -> bool:
        """Whether all that was to be fetched has come."""
        return all(staged.there for staged in self.fetched.values())

    @property
    def command(self) -> bytes:
        here = {url: staged.path() for url, staged in self.fetched.items()}
        path, captions = (name and here.get(name, name) for name in (self.path, self.captions))
        return json_line([path, captions, self.size, self.sha256, self.some])


class Decoder:
    """Decodes the files submitted, in order, and gives their rows as events.

    The events of a file come together and in order of time for each signal; files do not
    interleave. One thread submits and takes the events: on Linux the process dies with the thread
    that started it. With `plan` nothing is decoded, and files end with the rows that they will have
    (`mmf.extract.media.row_counts`): foreseen by headers or, `exactly`, told by every packet.
    """

    def __init__(
        self,
        signals: Sequence[Signal],
        *,
        limits: Limits = DEFAULT_LIMITS,
        allow_partial: bool = False,
        plan: bool = False,
        exactly: bool = False,
    ):
        arrays = [signal.sound if isinstance(signal, Cues) else signal for signal in signals]
        self._shapes = [(_dtype(one), one.row_shape) if one else (None, ()) for one in arrays]
        largest = max((d.itemsize * int(np.prod(s)) for d, s in self._shapes if d), default=0)
        self._ring_bytes = max(limits.ring_bytes, 4 * largest, 4096) // 64 * 64
        self._options = {
            "signals": [to_json(signal) for signal in signals],
            "limits": asdict(limits),
            "allow_partial": allow_partial,
            "plan": plan,
            "exactly": exactly,
        }
        self._limits = limits
        self.starting_cpu_seconds = 0.0  # of its processes, before they were ready
        self._failed_starts = 0
        self._ended_cpu_seconds = 0.0  # of its processes that are gone
        self._process: Process | None = None
        self._staging: Staging | None = None  # where some file is at a URL
        self._queue: deque[_Job] = deque()  # not yet told to the process
        self._told: deque[_Job] = deque()  # told and not ended; the first is being decoded
        self._behind: int | None = None  # the ring's position behind the sample given last

    @property
    def cpu_seconds(self) -> float:
        """Of its processes, beside their start."""
        now = self._process.cpu_seconds if self._process is not None else 0.0
        return self._ended_cpu_seconds + now - self.starting_cpu_seconds

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Files submitted and not yet ended."""
        return len(self._queue) + len(self._told)

    @property
    def process_id(self) -> int | None:
        """Of the process that decodes now; None where there is none."""
        return None if self._process is None else self._process.process.pid

    def submit(
        self,
        key: str,
        path: str,
        *,
        captions: str | None = None,
        size: int | None = None,
        sha256: str | None = None,
        some: Some | None = None,
    ) -> None:
        """Queues a file. `captions` names its caption file; `size`, `sha256` must be the file's.

        With `some`, these rows alone are given, under their numbers (`media.some_rows`).

        Files at URLs are fetched from now on, in order, while others are decoded.
        """
        job = _Job(key=key, path=path, captions=captions, size=size, sha256=sha256, some=some)
        for url, of_size in ((path, size), (captions, None)):
            if url is not None and is_far(url):
                self._staging = self._staging or Staging(self._limits.staged_bytes)
                job.fetched[url] = self._staging.fetch(url, of_size)
        self._queue.append(job)
        self._tell()

    def events(self) -> Iterator[Event]:
        """What becomes of the files, until every one submitted has ended.

        Raises MmfError where the decoder's process cannot be started.
        """
        while self.pending:
            self._release()
            failed = self._not_fetched()
            self._tell()
            event = failed or self._next_event()
            if event is not None:
                yield event
        self._release()

    def close(self) -> None:
        """Ends the process; what is pending is forgotten."""
        if self._process is not None:
            self._end_process(self._process)
        self._queue.clear()
        self._told.clear()
        if self._staging is not None:
            self._staging.close()
            self._staging = None

    def _end_process(self, process: Process) -> str:
        """What it said on its error output at last."""
        self._ended_cpu_seconds += process.cpu_seconds
        self._process = None
        return process.kill()

    def _not_fetched(self) -> Failed | None:
        """Waits for the next file where none is being decoded; what it failed of."""
        if self._told or not self._queue:
            return None
        job = self._queue[0]
        try:
            for staged in job.fetched.values():
                staged.path()
        except Unusable as error:
            self._end(self._queue)
            return _failed(job, error.reason, error.stage, str(error), Media(path=job.shown))
        return None

    def _end(self, queue: deque[_Job]) -> None:
        """The first file of a queue is through: what was fetched of it goes."""
        for staged in queue.popleft().fetched.values():
            staged.release()

    def _tell(self) -> None:
        if self._process is not None and self._process.told >= RECYCLE_AFTER and not self._told:
            self._end_process(self._process)
        if self._process is None:
            if not (self._queue and self._queue[0].is_here):
                return
            self._process = Process(self._options, self._ring_bytes)
            self._behind = None
        while (
            self._queue
            and self._queue[0].is_here
            and len(self._told) < AHEAD
            and self._process.told < RECYCLE_AFTER
        ):
            job = self._queue.popleft()
            self._told.append(job)
            self._process.tell(job.command)

    def _release(self) -> None:
        if self._behind is not None and self._process is not None:
            self._process.ring.release(self._behind)
        self._behind = None

    def _next_event(self) -> Event | None:
        if self._process is None or not self._told:
            return None
        child, job = self._process, self._told[0]
        allowed = self._limits.deadline(job.duration)
        started, was_ready = time.monotonic(), child.ready
        message = child.listen(allowed - job.waited if was_ready else START_TIMEOUT)
        if message is not None and message[0] == "ready":
            self.starting_cpu_seconds += message[1]
            self._failed_starts = 0
        if was_ready:
            job.waited += time.monotonic() - started
        if message is None:
            return self._lost(job, child)
        return self._understood(job, child, message)

    def _understood(self, job: _Job, child: Process, message: list[Any]) -> Event | None:
        kind, *values = message
        if kind == "row":
            signal, row, at, behind = values[0], values[1], values[3], values[4]
            job.duration = max(job.duration, values[2])
            payload = child.ring.view(at, *self._shapes[signal])
            self._behind = behind
            return Sample(key=job.key, signal=signal, row=row, time=values[2], payload=payload)
        if kind == "text":
            signal, row, seconds, text = values
            return Sample(key=job.key, signal=signal, row=row, time=seconds, payload=text)
        if kind == "opened":
            job.duration = values[0] or 0.0
        elif kind == "done":
            self._end(self._told)
            rows, missing, facts = values
            media = Media(path=job.shown, **facts)
            return Ended(key=job.key, media=media, rows=tuple(rows), missing=dict(missing))
        elif kind == "failed":
            reason, stage, text, facts = values
            media = Media(path=job.shown, **facts)
            return self._failed_or_swelled(job, child, reason, stage, text, media)
        return None

    def _failed_or_swelled(
        self, job: _Job, child: Process, reason: str, stage: str, text: str, media: Media
    ) -> Event:
        """The file failed; where of memory, others may have filled the process before it."""
        failed = _failed(job, reason, stage, text, media)
        if reason == "limit_memory":
            self._end_process(child)
            return self._again_or(job, failed)
        self._end(self._told)
        return failed

    def _lost(self, job: _Job, child: Process) -> Event | None:
        """The process died or was too slow."""
        hung = child.process.poll() is None and not child.closed
        reason = "timeout" if hung else child.cause_of_death()
        message = self._end_process(child)
        if not child.ready:
            self._not_started(f"({reason}). {message}".strip())
            return None
        if reason == OUT_OF_CPU:
            hung, reason = True, "timeout"
        if hung:
            message = "decoding took longer than the time limit for a file of its length."
        message = message or f"the decoder's process ended with {reason}."
        media = Media(path=job.shown)
        return self._again_or(job, _failed(job, reason, "decode", message, media))

    def _not_started(self, how: str) -> None:
        """Somebody may have killed it before it was ready; that it never starts is our fault."""
        self._failed_starts += 1
        if self._failed_starts >= STARTS:
            raise MmfError(f"the decoder's process does not start {how}")
        self._queue.extendleft(reversed(self._told))
        self._told.clear()

    def _again_or(self, job: _Job, failed: Failed) -> Event:
        """The process is gone; this file, or the ones after it, go to another."""
        job.attempts += 1
        job.waited = job.duration = 0.0
        again = job.attempts < ATTEMPTS
        if not again:
            self._end(self._told)
        self._queue.extendleft(reversed(self._told))
        self._told.clear()
        return Restarted(key=job.key) if again else failed


def _failed(job: _Job, reason: str, stage: str, message: str, media: Media) -> Failed:
    return Failed(key=job.key, reason=reason, stage=stage, message=message, media=media)


def _dtype(signal: Signal) -> np.dtype:
    return np.dtype(np.float32 if isinstance(signal, Waves) else np.uint8)
