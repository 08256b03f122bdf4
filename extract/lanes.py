"""Lanes side by side: one in this process, or one single-threaded process per core.

A lane's process is exec'd with one end of a pipe. It asks for nothing: it is told the features,
then given videos, a further one whenever the decoder ended one; it tells what became of each. It
writes to the store by itself. It dies with the process that started it. Through with its work it
ends, or rests until there is more (`lanes_kept`): to start is to import torch, which takes seconds.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.extract.decoder.parent import Decoder
from mmf.extract.manifest import Input
from mmf.extract.media.urls import is_far
from mmf.extract.pipeline import AHEAD, Feature, Lane, Task, VideoEnded
from mmf.extract.recipe import build, spec
from mmf.extract.request import FeatureRequest
from mmf.extract.signals import Signal
from mmf.extract.spent import Spent
from mmf.extract.stopping import Stop, Stopped
from mmf.memory import memory_kept
from mmf.store import FeatureStore

OnEnded = Callable[[VideoEnded | Spent], None]
LONG_BYTES = 32 << 20  # a video that is worth a lane of its own
BYTES_AHEAD = 16 << 20  # of videos that wait in a lane: long ones are to wait for any lane
PATIENCE = 25.0  # seconds that a lane has to commit what is finished before it is killed
_PR_SET_PDEATHSIG = 1
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every lane of a job does."""

    store: Path
    requests: tuple[FeatureRequest, ...]
    device: str = "cpu"
    allow_partial: bool = False

    def decoder(self, signals: Sequence[Signal]) -> Decoder:
        """A decoder for these signals."""
        return Decoder(signals, allow_partial=self.allow_partial)


_resting: ContextVar[list["_Process"] | None] = ContextVar("resting", default=None)


@contextlib.contextmanager
def lanes_kept() -> Iterator[None]:
    """Within it, lanes that are through are taken by the next job on this thread."""
    if _resting.get() is not None:
        yield
        return
    resting: list[_Process] = []
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
    with memory_kept(), one_thread() if work.device == "cpu" else contextlib.nullcontext():
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
    """`count` lanes, each in a process of its own. Raises the error that ended a lane."""
    queue, resting = iter(tasks), _resting.get()
    lanes: dict[Connection, _Process] = {}
    try:
        for _ in range(count):
            lane = resting.pop() if resting else _Process()
            lanes[lane.pipe] = lane
            lane.begin(work)
            lane.feed(queue)
        told = False
        while lanes:
            if stop.requested and not told:
                for lane in lanes.values():
                    lane.process.terminate()
                told = True
            try:
                ready = wait(lanes, PATIENCE) if told else stop.wait(partial(wait, lanes))
            except Stopped:
                continue
            if not ready:
                break  # a lane hangs in its commit
            for pipe in ready:
                if _listen(lanes[pipe], queue, on_ended, told):  # type: ignore[index]
                    continue
                lane = lanes.pop(pipe)  # type: ignore[call-overload]
                if resting is None or told:
                    lane.close()
                else:
                    resting.append(lane)
    finally:
        _end(list(lanes.values()))


def _listen(lane: "_Process", queue: Iterator[Task], on_ended: OnEnded, told: bool) -> bool:
    """Act on one message; False when the lane is through. `told`: it was told to stop."""
    try:
        message = lane.pipe.recv()
    except (EOFError, ConnectionResetError):
        code = lane.process.wait()
        if told and code == -signal.SIGTERM:
            return False  # it had not begun
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise MmfError(
            f"an extraction lane died ({how}). What was committed stays; run the same command "
            "again, with fewer --workers if the machine ran out of memory."
        ) from None
    if isinstance(message, VideoEnded | Spent):
        on_ended(message)
    elif isinstance(message, BaseException):
        raise message
    elif message == "decoded":
        lane.held.popleft()
        lane.feed(queue)
    return message != "through"


def _end(lanes: list["_Process"]) -> None:
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


class _Process:
    """A lane's process, seen from the job."""

    def __init__(self) -> None:
        self.held: deque[int] = deque()  # bytes of each video that it has not decoded yet
        self.pipe, theirs = Pipe()
        with theirs:
            path = os.pathsep.join(entry for entry in sys.path if entry)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmf.extract.lanes", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path},
            )

    def begin(self, work: Work) -> None:
        """Say what is to be done with the videos that follow."""
        with contextlib.suppress(BrokenPipeError):  # it died: `_listen` finds out why
            self.pipe.send(work)

    def feed(self, queue: Iterator[Task]) -> None:
        """Further videos until it holds enough; None tells it that there are no more."""
        while len(self.held) < 2 or (len(self.held) < AHEAD and sum(self.held) < BYTES_AHEAD):
            task = next(queue, None)
            with contextlib.suppress(BrokenPipeError):  # it died: `_listen` finds out why
                self.pipe.send(task)
            if task is None:
                break
            self.held.append(bytes_of(task.source))

    def close(self) -> None:
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


class _Given:
    """The videos that come through the pipe."""

    def __init__(self, pipe: Connection, stop: Stop):
        self._pipe, self._stop = pipe, stop
        self._more = True

    def take(self, *, wait: bool) -> Task | None:
        while self._more and (wait or self._pipe.poll()):
            task = self._stop.wait(self._pipe.recv)
            if task is not None:
                return task
            self._more = False
        return None


def _main() -> None:
    pipe = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the job decides
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        sys.exit(1)
    with Stop(signals=(signal.SIGTERM,)) as stop, contextlib.suppress(BrokenPipeError):
        try:
            while work := _next(pipe, stop):
                _lane(pipe, work, stop)
                pipe.send("through")
        except (MmfError, OSError) as error:
            pipe.send(error)


def _next(pipe: Connection, stop: Stop) -> Work | None:
    """What is to be done next; None where nothing is, or where it is time to stop."""
    work: Work | None = None
    try:
        while work is None:  # the end of the videos before may have been told again and again
            work = stop.wait(pipe.recv)
    except EOFError:
        return None
    except Stopped:
        pipe.send("through")
        return None
    return work


def _lane(pipe: Connection, work: Work, stop: Stop) -> None:
    store = FeatureStore(work.store)
    features = []
    with one_thread():
        for request in work.requests:
            backbone = build(request, device=work.device)
            own = spec(request, backbone)
            features.append(Feature(spec=store.create_feature(own), backbone=backbone))

    def send(message: Any) -> None:
        pipe.send(message)

    lane = Lane(
        features,
        store.writer(),
        decoder=work.decoder,
        on_decoded=lambda: send("decoded"),
        on_ended=send,
    )
    with memory_kept(), one_thread():
        pipe.send(lane.run(_Given(pipe, stop), stop))


if __name__ == "__main__":
    _main()
