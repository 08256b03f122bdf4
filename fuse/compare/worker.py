"""What a Dask worker does with a training: it has a process of its own train, and tells its end.

The worker loads no torch and answers its scheduler whatever a training does. A training that nobody
waits for any more, because its driver is gone, is told to write its checkpoint and end.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import Any

from mmf import MmfError
from mmf.fuse.config import TrainConfig

MOVED = "moved"
LEAVING = 20.0  # seconds that a training has for its checkpoint, when it is to stop
_LOOK = 0.5  # seconds between two looks at a wish to stop
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run to be trained, as it would be where the comparison was asked for."""

    config: TrainConfig
    folder: str  # where relative paths begin
    threads: int  # the very weights depend on how many there are


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a training; a few hundred bytes."""

    best: Mapping[str, Any] = field(default_factory=dict)  # of its validation
    failure: str = ""  # why it cannot be trained
    died: str = ""  # of what its process died; it may be tried again
    stopped: bool = False  # before its end


class _Lives:
    """What this worker's trainings do."""

    stops = 0  # how often they were told to end: a worker outlives many drivers
    moved = through = 0


def run_training(training: Training) -> Ended:
    """The task of a Dask worker: this run, to its end."""
    with contextlib.suppress(ValueError):  # tried without a worker
        _show_in_heartbeat()
    ours, theirs = Pipe()
    with theirs:
        told = map(str, (theirs.fileno(), os.getpid()))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mmf.fuse.compare.training_process", *told],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=_folder(training.folder),
            env={
                **os.environ,
                **dict.fromkeys(_THREADS, str(training.threads)),
                "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            },
        )
    with ours:
        try:
            ours.send(training)
            return _listened(ours, process)
        except (EOFError, ConnectionError):
            return Ended(died=f"its process ended with code {process.wait()}")
        finally:
            process.kill()
            process.wait()
            _Lives.through += 1


def request_stop() -> None:
    """Let the trainings of this worker write their checkpoints, and end."""
    _Lives.stops += 1


def _listened(pipe: Any, process: "subprocess.Popen[bytes]") -> Ended:
    """What the process tells at last; raises the OSError that ended it."""
    deadline, stops = 0.0, _Lives.stops
    while True:
        if pipe.poll(_LOOK):
            message = pipe.recv()
            if isinstance(message, BaseException):
                raise message
            if message != MOVED:
                return message
            _Lives.moved += 1
        if not deadline and (_Lives.stops != stops or _is_unwanted()):
            process.terminate()
            deadline = time.monotonic() + LEAVING
        if deadline and time.monotonic() > deadline:
            return Ended(stopped=True)


def _is_unwanted() -> bool:
    """Whether the driver is gone, or waits for something else by now."""
    from distributed import get_worker

    try:
        worker = get_worker()
        task = worker.state.tasks.get(worker.get_current_task())
    except ValueError:  # tried without a worker
        return False
    return task is None or task.state == "cancelled"


def _folder(path: str) -> str:
    if not os.path.isdir(path):
        raise MmfError(
            f"this worker has no folder {path!r}: a comparison on a cluster needs its folder and "
            "its store where every worker sees them under the same path."
        )
    return path


def _show_in_heartbeat() -> None:
    from distributed import get_worker

    worker = get_worker()
    worker.metrics.setdefault("mmf_moved", _moved_of)
    worker.metrics.setdefault("mmf_through", _through_of)


def _moved_of(_worker: Any) -> int:
    return _Lives.moved + _Lives.through


def _through_of(_worker: Any) -> int:
    return _Lives.through
