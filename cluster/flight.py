"""Pieces of work on their way to the workers of a cluster.

Each comes back with what it gave, or is lost with its worker and is its sender's again.
"""

import contextlib
import queue
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mmf.cluster.connect import TryAgain

if TYPE_CHECKING:
    from distributed import Client, Future

_ANSWER = 10.0  # seconds for a result of a few hundred bytes

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Landed(Generic[T, R]):
    """A piece of work that came to an end, and what it gave; None: it was lost with its worker."""

    one: T
    result: R | None


class Flight(Generic[T, R]):
    """What was handed out and is not back yet."""

    def __init__(self, client: "Client", *, gpu: bool):
        self._client = client
        self._resources = {"GPU": 1} if gpu else None
        self._name, self._number = f"mmf-{uuid.uuid4().hex[:12]}", 0
        self._up: dict[str, tuple[T, Future]] = {}
        self._down: queue.SimpleQueue[Future] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._up)

    def send(self, one: T, run: Callable[..., R], *arguments: Any) -> None:
        """Have a worker run this piece of work."""
        self._number += 1
        future = self._client.submit(
            *(run, *arguments),
            key=f"{self._name}-{self._number}",  # a new one each time: Dask knows old ones as done
            pure=False,
            resources=self._resources,
        )
        self._up[future.key] = one, future
        future.add_done_callback(self._down.put)

    def next(self, timeout: float | None) -> "Future":
        """One that is back within so many seconds, or is there; raises queue.Empty."""
        return self._down.get(block=timeout is not None, timeout=timeout)

    def land(self, future: "Future") -> Landed[T, R] | None:
        """What came of it; None where nobody waits for it any more.

        The future holds the result on its worker until it is released. A worker that dies with it
        loses it, and Dask would compute it anew before it answers: it is lost, too. Raises what the
        work raised, and TryAgain where the scheduler is gone.
        """
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        if future.key not in self._up:
            return None
        one, _ = self._up.pop(future.key)
        try:
            if future.status == "finished":
                return Landed(one=one, result=future.result(timeout=_ANSWER))
            error = None if future.status == "cancelled" else future.exception(timeout=_ANSWER)
        except (TimeoutError, KilledWorker, NoValidWorkerError):
            with contextlib.suppress(Exception):  # of a scheduler that may be gone
                future.cancel()
            return Landed(one=one, result=None)
        except CancelledError:
            error = None
        if isinstance(error, KilledWorker | NoValidWorkerError):
            return Landed(one=one, result=None)
        raise error or TryAgain(
            "the scheduler is gone; what was finished is kept. Run the same command again: it "
            "goes on from here."
        )

    def cancel_waiting(self) -> None:
        """Let no worker begin what none has begun."""
        begun = {key for keys in self._client.processing().values() for key in keys}
        for key, (_, future) in list(self._up.items()):
            if future.status == "pending" and key not in begun:
                del self._up[key]
                future.cancel()

    def forget(self) -> None:
        """Wait for none of it any more."""
        for _, future in self._up.values():
            with contextlib.suppress(Exception):  # of a scheduler that may be gone
                future.release()
        self._up.clear()
