"""One training of a comparison in a process of its own: told a config by a pipe, tells what came.

Started by `worker` as ``python -m mmf.fuse.compare.training_process PIPE PARENT``. Two never train
one run at once: the later one waits, and finds it finished or goes on with it.
"""

import contextlib
import errno
import fcntl
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from mmf import MmfError
from mmf.fuse.compare.running import trained
from mmf.fuse.compare.worker import MOVED, Ended, Training
from mmf.fuse.training.loop import Interrupted
from mmf.lifeline import end_with

_TELL = 1.0  # seconds between two signs of life, and two looks at a lock


def main() -> None:
    """Train what comes by the pipe."""
    pipe = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the driver decides
    end_with(int(sys.argv[2]))
    training: Training = pipe.recv()
    torch.set_num_threads(training.threads)
    moved = _teller(pipe)
    try:
        with _alone(Path(training.config.out), moved):
            found = vars(trained(training.config, moved))
        pipe.send(Ended(best={name: found[name] for name in ("metric", "value", "loss", "step")}))
    except Interrupted:
        pipe.send(Ended(stopped=True))
    except (MmfError, torch.OutOfMemoryError) as error:
        pipe.send(Ended(failure=str(error)))
    except OSError as error:  # of the store or the folder: the whole comparison's matter
        pipe.send(error)


def _teller(pipe: Connection) -> Callable[[], None]:
    """What tells that there is movement, at most once in a while."""
    told = 0.0

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told > _TELL:
            told = time.monotonic()
            pipe.send(MOVED)

    return tell


@contextlib.contextmanager
def _alone(run: Path, moved: Callable[[], None]) -> Iterator[None]:
    """Within it no other process trains this run, as far as the file system can tell."""
    cell, comparison = run.parent.name, run.parents[2]
    place = comparison / "locks" / f"{cell}-{run.name}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as file:
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    break  # a file system without locks
            moved()
            time.sleep(_TELL)
        yield


if __name__ == "__main__":
    main()
