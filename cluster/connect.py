"""The Dask cluster of a profile: one that runs, or one that is started for a job and ends with it.

What is started here listens on this machine alone (local), or speaks TLS with certificates on both
sides (`cluster.batch`): those of the profile, or fresh ones of this job.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mmf import MmfError, from_extra
from mmf.cluster import batch, settings
from mmf.cluster.profile import Profile

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 60.0


class TryAgain(MmfError):
    """The cluster is gone or does nothing; nothing is lost, and the same command goes on."""

    exit_code = 75


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A cluster that a job may use."""

    client: "Client"
    scale: Callable[[int], Any] | None  # brings it back to so many workers, where we may
    workers: int  # that there should be; 0: as many as there are

    @property
    def dashboard(self) -> str:
        """Where Dask shows what its workers do; '' where it does not.

        Pictures need Bokeh where the scheduler runs; without it, a page of numbers.
        """
        try:
            info = self.client.scheduler_info(n_workers=0)
            if not info["services"].get("dashboard"):
                return ""
            link = str(self.client.dashboard_link)
            if link.endswith("/status") and not self.client.run_on_scheduler(find_spec, "bokeh"):
                link = link.removesuffix("/status") + "/info/main/workers.html"
        except OSError:  # a scheduler that has just gone; whoever works with it will say so
            return ""
        return link


@contextlib.contextmanager
def connected(profile: Profile, *, gpu: bool = False) -> Iterator[Connection]:
    """The cluster of a profile; raises TryAgain where none can be reached."""
    from distributed import Client

    settings.apply()
    for name in ("distributed", "tornado.application", "distributed.scheduler"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(_started(profile, gpu))
        try:
            client = Client(
                profile.scheduler if cluster is None else cluster,
                timeout=CONNECT_TIMEOUT,
                security=profile.security() if cluster is None else cluster.security,
                set_as_default=False,
            )
        except OSError as error:
            raise TryAgain(
                f"no scheduler answers at {profile.scheduler!r}: {error}. Start one, for example "
                "with `dask scheduler`, and run the same command again."
            ) from None
        stack.callback(_close, client)
        if cluster is None:
            settings.warn_of(client)
        yield Connection(
            client=client,
            scale=None if cluster is None else partial(batch.scale, profile, cluster),
            workers=_wanted(profile) if cluster is not None else profile.workers or 0,
        )


def _close(client: "Client") -> None:
    with contextlib.suppress(Exception):  # a cluster that is gone cannot be said good-bye to
        client.close(timeout=5)


def _wanted(profile: Profile) -> int:
    return profile.workers or len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _started(profile: Profile, gpu: bool) -> Iterator[Any]:
    """The cluster, where one is to be started; else None."""
    if profile.is_address:
        yield None
        return
    made = _start(profile, gpu)
    try:
        if profile.scheduler != "local":
            made.scale(_wanted(profile))
        yield made
    finally:
        _end(profile, made)


def _end(profile: Profile, made: Any) -> None:
    """Close a cluster, which may be broken, whatever comes between."""
    try:
        if profile.scheduler in batch.SYSTEMS:
            with contextlib.suppress(Exception):
                batch.close_workers(made)
    finally:
        with contextlib.suppress(Exception):
            made.close(timeout=10)
        for name in ("ca_file", "cert", "key"):  # a job's certificates go with it
            with contextlib.suppress(AttributeError, OSError):
                getattr(made, f"_job_{name}").close()


def _start(profile: Profile, gpu: bool) -> Any:
    """The cluster; MmfError where Dask cannot start it, or does not know what the profile says.

    TryAgain where what fails is the machine or the network.
    """
    try:
        if profile.scheduler == "local":
            return _local(profile, gpu)
        if profile.scheduler in batch.SYSTEMS:
            return batch.batch_cluster(profile, gpu)
        return _kubernetes(profile)
    except MmfError:
        raise
    except Exception as error:  # Dask's, those of clients of Kubernetes: they have no root
        chain = [error, *_causes(error)]
        # of the network or the machine; one of a file names it, and does not pass
        passes = any(isinstance(one, OSError) and one.filename is None for one in chain)
        see = f"; see [{profile.scheduler}] in the profile" if profile.options else ""
        raise (TryAgain if passes else MmfError)(
            f"scheduler {profile.scheduler!r}: Dask could not start its cluster: "
            f"{_said(chain)}{see}."
        ) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error


def _said(chain: Sequence[BaseException]) -> str:
    """The first line of each error, once."""
    lines = list[str]()
    for error in chain:
        line = (str(error).splitlines() or [""])[0].rstrip(".: ") or type(error).__name__
        if not any(line in other for other in lines):
            lines.append(line[:300])
    return ": ".join(lines)


def _local(profile: Profile, gpu: bool) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=1 if gpu and profile.workers is None else _wanted(profile),
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        resources={"GPU": 1} if gpu else None,
        silence_logs=logging.CRITICAL,
        **profile.options,
    )


def _kubernetes(profile: Profile) -> Any:
    made = from_extra("kubernetes", "dask_kubernetes.operator", "scheduler 'kubernetes'")
    return made.KubeCluster(**profile.options)
