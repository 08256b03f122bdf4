"""Looks after a cluster while a job waits for it: no wait is for ever, and none is silent."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mmf import MmfError
from mmf.cluster.connect import Connection, TryAgain
from mmf.cluster.profile import Profile

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two questions to the scheduler
SCALE_AFTER = 60.0  # seconds with too few workers, before they are asked for again
ANSWER = 10.0  # seconds that the scheduler has for an answer
STILL_AFTER = 60.0  # seconds in which a busy worker has not moved, before that is said
REFUSALS = 5  # beyond which workers that cannot be sent away, or come back, end the job


@dataclass(frozen=True, kw_only=True)
class ClusterStarted:
    """Said once, when a job has its cluster."""

    dashboard: str  # see `Connection.dashboard`


@dataclass(frozen=True, kw_only=True)
class ClusterSeen:
    """How a cluster is, as its scheduler said a moment ago; workers by their addresses."""

    workers: int  # that can do this work
    through: Mapping[str, int] = field(default_factory=dict)  # videos that each is through with
    still: Mapping[str, float] = field(default_factory=dict)  # seconds; busy ones that do not move


class Stop(Protocol):
    """A wish to stop, whoever has it."""

    @property
    def requested(self) -> str:
        """Why; "" where nobody has it."""


class Watch:
    """How many workers there are, whether anything moves, and who was refused."""

    def __init__(self, connection: Connection, profile: Profile, *, gpu: bool):
        self._client: Client = connection.client
        self._connection, self._profile, self._gpu = connection, profile, gpu
        self.workers = self.most = 0  # that can do this work: now, and at most so far
        self._asked = self._with_workers = self._with_all = self._moved = time.monotonic()
        self._seen: dict[str, int] = {}
        self._since: dict[str, float] = {}  # when each worker last moved, or had nothing to do
        self._news: ClusterSeen | None = None
        self._refused: dict[str, list[str]] = {}  # host → reasons
        self._in_vain = 0  # refusals since something got done

    def wait_for_workers(self, stop: Stop) -> None:
        """Return when one is there; TryAgain where none comes."""
        self._with_workers = self._moved = time.monotonic()
        while not stop.requested:
            self._ask()
            if self.workers:
                return
            self._check_workers()
            time.sleep(0.2)

    def look(self, *, busy: bool) -> None:
        """Ask the scheduler now and then; raises TryAgain where waiting is no use."""
        now = time.monotonic()
        if not busy:
            self._moved = now
        if now - self._asked < EVERY:
            return
        if not self.running():
            raise TryAgain(
                "the scheduler does not answer any more. What was committed is safe; run the same "
                "command again."
            )
        self._ask()
        self._check_workers()
        if now - self._moved > self._profile.stall_timeout:
            raise TryAgain(
                f"nothing has moved for {self._profile.stall_timeout:.0f} s on {self.workers} "
                "workers, though there is work. What was committed is safe; look at the workers' "
                "logs, then run the same command again."
            )

    def running(self) -> bool:
        """Whether the scheduler can still be asked."""
        return str(self._client.status) in ("running", "connecting")

    def moved(self) -> None:
        """Something got done."""
        self._moved, self._in_vain = time.monotonic(), 0

    def news(self) -> ClusterSeen | None:
        """How the cluster is, where it was asked since the last call."""
        news, self._news = self._news, None
        return news

    def refuse(self, future: "Future", host: str, why: str) -> None:
        """The worker that has this result cannot do this work; it is sent away, and named."""
        reasons = self._refused.setdefault(host, [])
        reasons.append(why)
        self._in_vain += 1
        logger.error("a worker on %s is refused: %s", host, why)
        there = self._client.who_has([future]).get(future.key, ()) if host else ()
        future.release()  # else Dask copies it to another worker first
        if there:
            self._client.retire_workers(list(there), close_workers=True, remove=True)
        self._ask()
        # those that are sent away may come back, started anew by whoever keeps their number
        in_vain = self._in_vain >= self.most + REFUSALS
        if not self.workers or in_vain or (not there and len(reasons) >= REFUSALS):
            raise MmfError(f"no worker is left that can do this: on {host}, {why}")

    def _ask(self) -> None:
        """How many workers there are, and how far they have come."""
        self._asked = time.monotonic()
        try:
            found = self._client.sync(self._client.scheduler.identity, callback_timeout=ANSWER)
        except (OSError, TimeoutError):
            return  # silence is not movement: the stall's clock goes on
        workers: dict[str, Any] = found["workers"]
        able = {a: w for a, w in workers.items() if not self._gpu or w["resources"].get("GPU")}
        self.workers, now = len(able), time.monotonic()
        self.most = max(self.most, self.workers)
        if able:
            self._with_workers = now
        if len(able) >= self._wanted:
            self._with_all = now
        seen = {a: int(w["metrics"].get("mmf_moved", 0)) for a, w in able.items()}
        if any(n > self._seen.get(a, 0) for a, n in seen.items()):
            self._moved = now
        self._news = ClusterSeen(
            workers=len(able),
            through={a: int(w["metrics"].get("mmf_through", 0)) for a, w in able.items()},
            still=self._still(able, seen, now),
        )
        self._seen = seen
        self._bring_back(now)

    def _still(
        self, able: Mapping[str, Any], seen: Mapping[str, int], now: float
    ) -> dict[str, float]:
        """For how long busy workers have not moved, where that is long."""
        for address, moved in seen.items():
            busy = able[address]["metrics"].get("task_counts", {}).get("executing")
            if not busy or moved != self._seen.get(address):
                self._since[address] = now
        self._since = {a: self._since.get(a, now) for a in seen}
        return {a: now - t for a, t in self._since.items() if now - t > STILL_AFTER}

    @property
    def _wanted(self) -> int:
        return max(0, self._connection.workers - sum(map(len, self._refused.values())))

    def _bring_back(self, now: float) -> None:
        """Dask forgets workers that die too fast; where they are ours, ask for them again."""
        if self._connection.scale is None or now - self._with_all < SCALE_AFTER:
            return
        logger.warning("%d workers of %d are there; asking again", self.workers, self._wanted)
        self._connection.scale(self._wanted)
        self._with_all = now

    def _check_workers(self) -> None:
        if time.monotonic() - self._with_workers <= self._profile.no_workers_timeout:
            return
        what = "worker that offers GPU=1 (dask worker --resources GPU=1)" if self._gpu else "worker"
        raise TryAgain(
            f"no {what} has been there for {self._profile.no_workers_timeout:.0f} s. Start some, "
            "then run the same command again."
        )
