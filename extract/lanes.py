"""Lanes side by side: one in this process, or one single-threaded process per core.

A lane's process is exec'd with one end of a pipe (`lane_process`). It asks for nothing: it is told
the features, then given videos, a further one whenever the decoder ended one; it tells what became
of each. It writes to the store by itself. It dies with the thread that started it. Through with its
work it ends, or rests until there is more (`lanes_kept`): to start is to import torch, which takes
seconds.

A lane that dies takes nothing along but what it had not committed. That is tried again, in ever
smaller groups (`suspects`).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from mmf.extract.decoder.parent import Decoder
from mmf.extract.manifest import Input
from mmf.extract.media.urls import is_far
from mmf.extract.pipeline import AHEAD, Feature, Lane, Task, Undone, VideoEnded
from mmf.extract.request import FeatureRequest
from mmf.extract.signals import Signal
from mmf.extract.spent import Spent
from mmf.extract.stopping import Stop, Stopped
from mmf.extract.suspects import LaneDied, blame, settle
from mmf.memory import memory_kept
from mmf.store import FeatureStore

OnEnded = Callable[[VideoEnded | Undone | Spent], None]
LONG_BYTES = 32 << 20  # a video that is worth a lane of its own
BYTES_AHEAD = 16 << 20  # of videos that wait in a lane: long ones are to wait for any lane
PATIENCE = 20.0  # seconds that a lane has to commit what is finished before it is killed
_LOOK = 1.0  # seconds between two looks at a wish to stop that came without a signal
THROUGH = "through"
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every lane of a job does."""

    store: str  # its path, or its URL
    requests: tuple[FeatureRequest, ...]
    device: str = "cpu"
    allow_partial: bool = False
    canary: bool = False  # compare the rows of a known clip with those of the first to begin

    def decoder(self, signals: Sequence[Signal]) -> Decoder:
        """A decoder for these signals."""
        return Decoder(signals, allow_partial=self.allow_partial)


class Decoded:
    """A lane tells that its decoder is through with one more video."""


class Committed:
    """A lane tells that what it told of is in the store."""


_resting: ContextVar[list["LaneProcess"] | None] = ContextVar("resting", default=None)


@contextlib.contextmanager
def lanes_kept() -> Iterator[None]:
    """Within it, lanes that are through are taken by the next job on this thread."""
    if _resting.get() is not None:
        yield
        return
    resting: list[LaneProcess] = []
    token = _resting.set(resting)
    try:
        yield
    finally:
        _resting.reset(token)
        for lane in resting:
            lane.close()


class _Listed:
    def __init__(self, tasks: Iterable[Task]):
        self._tasks = iter(tasks)

    def take(self, *, wait: bool) -> Task | None:
        return next(self._tasks, None)


def run_here(
    work: Work,
    features: Sequence[Feature],
    tasks: Iterable[Task],
    on_ended: OnEnded,
    stop: Stop,
) -> None:
    """One lane in this process; on a CPU with one thread, as in a process of its own."""
    writer = FeatureStore(work.store).writer()
    lane = Lane(features, writer, decoder=work.decoder, on_ended=on_ended)
    thread: AbstractContextManager[None] = contextlib.nullcontext()
    if work.device == "cpu":
        thread = one_thread()
    with memory_kept(), thread:
        on_ended(lane.run(_Listed(tasks), stop))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch and OpenCV, where they are loaded, compute with one thread."""
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    before = torch and torch.get_num_threads(), cv2 and cv2.getNumThreads()
    try:
        if torch:
            torch.set_num_threads(1)
        if cv2:
            cv2.setNumThreads(1)
        yield
    finally:
        if torch:
            torch.set_num_threads(before[0])
        if cv2:
            cv2.setNumThreads(before[1])


def run_processes(
    count: int,
    work: Work,
    tasks: Iterable[Task],
    on_ended: OnEnded,
    stop: Stop,
) -> None:
    """`count` lanes, each in a process of its own; what a lane dies of comes at the end, apart.

    Raises the error that ended a lane.
    """
    resting = _resting.get()
    lanes = Lanes([] if resting is None else resting)
    try:
        suspects = lanes.run(count, work, iter(tasks), on_ended, stop)

        def run(some: Sequence[Task]) -> list[Task]:
            return lanes.run(1, work, iter(some), on_ended, stop)

        settle(suspects, run, partial(blame, work, on_ended), stop)
    finally:
        lanes.end(kept=resting is not None)


class Lanes:
    """Processes that work side by side on one piece of work after another."""

    def __init__(self, resting: list["LaneProcess"]):
        self._resting = resting  # those that are through
        self._working: dict[Connection, LaneProcess] = {}

    def run(
        self, count: int, work: Work, queue: Iterator[Task], on_ended: OnEnded, stop: Stop
    ) -> list[Task]:
        """Do the work in `count` processes; what was lost with those that died is given back.

        Raises the error that ended a lane.
        """
        for _ in range(count):
            self._begin(work, queue)
        deadline, lost = 0.0, list[Task]()  # a deadline where they were told to stop
        while self._working:
            if stop.requested and not deadline:
                self._tell_all()
                deadline = time.monotonic() + PATIENCE
            try:
                ready = self._ready(stop, deadline)
            except Stopped:
                continue
            if deadline and time.monotonic() > deadline:
                break  # a lane hangs in its commit
            for pipe in ready:
                lane = self._working[pipe]
                try:
                    if lane.listen(queue, on_ended, told=bool(deadline)):
                        continue
                except LaneDied:
                    lost += lane.lose(on_ended)
                    self._working.pop(pipe).close()
                    if lane.open and not deadline:  # else there was nothing left to do
                        self._begin(work, queue)
                    continue
                self._resting.append(self._working.pop(pipe))
        return lost

    def end(self, *, kept: bool) -> None:
        """Let lanes that still work commit what is finished; those that rest may stay."""
        _end(list(self._working.values()))
        self._working.clear()
        if not kept:
            for lane in self._resting:
                lane.close()
            self._resting.clear()

    def _begin(self, work: Work, queue: Iterator[Task]) -> None:
        while self._resting:
            lane = self._resting.pop()
            if lane.process.poll() is None:
                break
            lane.close()
        else:
            lane = LaneProcess()
        self._working[lane.pipe] = lane
        lane.begin(work)
        lane.feed(queue)

    def _ready(self, stop: Stop, deadline: float) -> list[Any]:
        """The lanes that have something to say, within a moment; Stopped where that is wished."""
        if deadline:
            return wait(self._working, max(0.0, deadline - time.monotonic()))
        return stop.wait(partial(wait, self._working, _LOOK))

    def _tell_all(self) -> None:
        for lane in self._working.values():
            lane.process.terminate()


def _end(lanes: list["LaneProcess"]) -> None:
    """Let the lanes that are left commit what is finished; kill those that do not end."""
    for lane in lanes:
        lane.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for lane in lanes:
        try:
            lane.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            lane.process.kill()
        lane.close()


class LaneProcess:
    """A lane's process, seen from the job."""

    def __init__(self) -> None:
        self.held: deque[int] = deque()  # bytes of each video that it has not decoded yet
        self.open: dict[str, Task] = {}  # what it was given and has not committed
        self._ended: dict[str, VideoEnded] = {}  # of that, what it is through with
        self.pipe, theirs = Pipe()
        with theirs:
            path = os.pathsep.join(entry for entry in sys.path if entry)
            told = map(str, (theirs.fileno(), os.getpid()))
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmf.extract.lane_process", *told],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path},
            )

    def begin(self, work: Work) -> None:
        """Say what is to be done with the videos that follow."""
        with contextlib.suppress(BrokenPipeError):  # it died: `listen` finds out why
            self.pipe.send(work)

    def feed(self, queue: Iterator[Task]) -> None:
        """Further videos until it holds enough; None tells it that there are no more."""
        while len(self.held) < 2 or (len(self.held) < AHEAD and sum(self.held) < BYTES_AHEAD):
            task = next(queue, None)
            if task is not None:
                self.open[task.source.video_id] = task
                self.held.append(bytes_of(task.source))
            with contextlib.suppress(BrokenPipeError):  # it died: `listen` finds out why
                self.pipe.send(task)
            if task is None:
                break

    def listen(self, queue: Iterator[Task], on_ended: OnEnded, *, told: bool) -> bool:
        """Act on one message; False when it is through. `told`: it was told to stop.

        Raises the error that it ended with, or LaneDied.
        """
        try:
            message: Any = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            code = self.process.wait()
            if told and code == -signal.SIGTERM:
                return False  # it had not begun
            raise LaneDied(code) from None
        match message:
            case VideoEnded():
                self._ended[message.video_id] = message
                on_ended(message)
            case Spent():
                on_ended(message)
            case Decoded():
                self.held.popleft()
                self.feed(queue)
            case Committed():
                for video_id in self._ended:
                    del self.open[video_id]
                self._ended.clear()
            case BaseException():
                raise message
        return message != THROUGH

    def lose(self, on_ended: OnEnded) -> list[Task]:
        """What was not committed when it died."""
        for ended in self._ended.values():
            on_ended(Undone(ended=ended))
        return list(self.open.values())

    def close(self) -> None:
        """End it, where it has nothing to do."""
        self.pipe.close()
        self.process.wait()


def bytes_of(source: Input) -> int:
    """How large a file is, or should be; one at a URL of which nothing is said counts as long."""
    if source.size:
        return source.size
    if is_far(source.path):
        return LONG_BYTES
    try:
        return os.stat(source.path).st_size
    except (OSError, ValueError):  # the decoder says what is wrong
        return 0
