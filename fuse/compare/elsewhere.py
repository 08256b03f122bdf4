"""The trainings of a comparison on a Dask cluster, side by side.

Each run is trained in its own folder, as it would be here (`worker`), by as many threads: the same
numbers come of it. A run that was lost with its worker is handed out again and goes on from its
checkpoint. When the scheduler is gone, no worker is there or nothing moves, the comparison ends and
says so (exit code 75); the same command goes on.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mmf import MmfError
from mmf.cluster.connect import Connection, TryAgain
from mmf.cluster.flight import Flight
from mmf.cluster.profile import Profile
from mmf.cluster.watch import Watch
from mmf.fuse.compare.running import Trained, finished
from mmf.fuse.compare.worker import LEAVING, Ended, Training, request_stop, run_training
from mmf.fuse.config import TrainConfig
from mmf.fuse.training.loop import Interrupted, sigterm

if TYPE_CHECKING:
    from distributed import Future

LOSSES = 5  # of one training with its worker or its process, before it cannot be chance
_LOOK = 1.0  # seconds between two looks at everything else


class _Wish:
    """SIGTERM, as the watch asks for it."""

    def __init__(self, event: threading.Event):
        self._event = event

    @property
    def requested(self) -> str:
        return "SIGTERM" if self._event.is_set() else ""


@dataclass(frozen=True, kw_only=True)
class _Try:
    training: Training
    losses: int = 0


class Elsewhere:
    """Trains runs on a cluster, ahead of their being asked for."""

    def __init__(
        self,
        connection: Connection,
        profile: Profile,
        *,
        gpu: bool = False,
        tell: Callable[[str], None] = lambda sentence: None,
    ):
        self._client, self._tell = connection.client, tell
        self._watch = Watch(connection, profile, gpu=gpu)
        self._ended: dict[str, Ended] = {}  # by folder
        self._waiting: deque[_Try] = deque()
        self._flight: Flight[_Try, Ended] = Flight(self._client, gpu=gpu)

    def __call__(self, config: TrainConfig) -> Trained:
        """What came of a run; raises MmfError where it cannot be trained."""
        if (there := finished(config)) is not None:
            return there
        if str(config.out) not in self._ended:
            self.ahead([config])
        ended = self._ended[str(config.out)]
        if ended.failure:
            raise MmfError(ended.failure)
        return Trained(path=Path(config.out), **ended.best)

    def ahead(self, configs: Iterable[TrainConfig]) -> None:
        """Train all of these that nobody has trained; those that fail are told of when asked for.

        Raises TryAgain where the cluster is no use, Interrupted on SIGTERM.
        """
        folder, threads = str(Path.cwd()), torch.get_num_threads()
        self._waiting.extend(
            _Try(training=Training(config=config, folder=folder, threads=threads))
            for config in configs
            if str(config.out) not in self._ended and finished(config) is None
        )
        if not self._waiting:
            return
        with sigterm() as stop, self._left():
            self._watch.wait_for_workers(_Wish(stop))
            while self._waiting or self._flight:
                self._fill()
                self._look()
                if stop.is_set():
                    raise Interrupted(
                        "stopped by a signal; what is trained is kept, and the same command goes "
                        "on from here."
                    )

    def _fill(self) -> None:
        """Keep twice as many trainings on their way as there are workers."""
        while self._waiting and len(self._flight) < 2 * max(1, self._watch.workers):
            one = self._waiting.popleft()
            self._flight.send(one, run_training, one.training)

    def _look(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._take(self._flight.next(_LOOK))
        self._watch.look(busy=bool(self._flight))

    def _take(self, future: "Future") -> None:
        if (landed := self._flight.land(future)) is None:
            return
        one, ended = landed.one, landed.result
        if ended is None:
            self._again(one, "its worker died")
            return
        future.release()
        self._watch.moved()
        if ended.died:
            self._again(one, ended.died)
        elif ended.stopped:  # by a driver before this one, which the worker took for gone
            self._waiting.append(one)
        else:
            self._keep(one.training.config, ended)

    def _keep(self, config: TrainConfig, ended: Ended) -> None:
        self._ended[str(config.out)] = ended
        left = len(self._waiting) + len(self._flight)
        what = f"cannot be trained: {ended.failure}" if ended.failure else "is trained"
        self._tell(f"{config.out} {what}; {left} left, {self._watch.workers} workers")

    def _again(self, one: _Try, why: str) -> None:
        """Hand out a training that was lost; it goes on from its checkpoint."""
        if one.losses + 1 >= LOSSES:
            raise TryAgain(
                f"training {one.training.config.out!r} was lost {LOSSES} times, at last because "
                f"{why}. See the logs of the workers, then run the same command again."
            )
        self._waiting.append(replace(one, losses=one.losses + 1))

    @contextmanager
    def _left(self) -> Iterator[None]:
        """At its end nothing is left on the cluster; what trains there writes its checkpoint."""
        try:
            yield
        finally:
            if self._flight and self._watch.running():
                self._leave()
            self._flight.forget()
            self._waiting.clear()

    def _leave(self) -> None:
        deadline = time.monotonic() + LEAVING
        with contextlib.suppress(Exception):  # of a scheduler that may be gone
            self._flight.cancel_waiting()
            self._client.run(request_stop, wait=False)
        while time.monotonic() < deadline and self._watch.running():
            with contextlib.suppress(Exception):
                if not any(self._client.processing().values()):
                    return
            time.sleep(0.2)
