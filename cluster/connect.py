"""The Dask cluster of a profile: one that runs, or one that is started for a job and ends with it.

What is started here listens on this machine alone (local), or speaks TLS with certificates on both
sides (slurm, pbs): those of the profile, or fresh ones of this job.
"""

import contextlib
import importlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mmf import MmfError
from mmf.cluster import settings
from mmf.cluster.profile import Profile

if TYPE_CHECKING:
    from distributed import Client, Security

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 60.0
_JOB_QUEUES = {"slurm": ("SLURMCluster", "sbatch"), "pbs": ("PBSCluster", "qsub")}


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
                security=_security(profile) if cluster is None else cluster.security,
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
            scale=None if cluster is None else partial(_scale, profile, cluster),
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
    if profile.scheduler == "local":
        made = _local(profile, gpu)
    elif profile.scheduler in _JOB_QUEUES:
        made = _job_queue(profile, gpu)
    else:
        made = _kubernetes(profile)
    try:
        if profile.scheduler != "local":
            made.scale(_wanted(profile))
        yield made
    finally:
        with contextlib.suppress(Exception):  # on the way out of a cluster that may be broken
            made.close(timeout=10)
        for name in ("ca_file", "cert", "key"):  # a job's certificates go with it
            with contextlib.suppress(AttributeError, OSError):
                getattr(made, f"_job_{name}").close()


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


def _job_queue(profile: Profile, gpu: bool) -> Any:
    """SLURM or PBS: a job per worker, which ends with its worker; the watch asks for another.

    Without a nanny, and in the place of the job's shell, a worker hears the queue's SIGTERM itself,
    and has its lane commit what is finished.
    """
    import dask

    made = _imported("dask_jobqueue", "jobqueue", profile)
    kind, submit = _JOB_QUEUES[profile.scheduler]
    if shutil.which(submit) is None:  # Dask would only log it, and wait
        raise MmfError(
            f"scheduler {profile.scheduler!r}: there is no {submit!r} on this machine. Run this "
            "where jobs can be submitted."
        )
    dask.config.set({"distributed.deploy.lost-worker-timeout": "15s"})  # else none is brought back
    options: dict[str, Any] = {
        "cores": 1,
        "processes": 1,
        "memory": "4GiB",
        "job_name": "mmf",
        "nanny": False,
        "python": f"exec {sys.executable}",
        "shared_temp_directory": os.getcwd(),  # where workers find the job's certificates
        **profile.options,
    }
    arguments = ["--no-dashboard", *(["--resources", "GPU=1"] if gpu else [])]
    arguments += _lifetime(str(options.get("walltime", "")))
    options["worker_extra_args"] = [*arguments, *options.get("worker_extra_args", [])]
    of_scheduler = options.get("scheduler_options", {})  # its dashboard asks nobody who they are
    options["scheduler_options"] = {"dashboard_address": "127.0.0.1:0", **of_scheduler}
    variables = (f"export {k}={shlex.quote(v)}" for k, v in settings.environment().items())
    options["job_script_prologue"] = [*variables, *options.get("job_script_prologue", [])]
    if profile.scheduler == "slurm":  # what is in the store is what goes on, no job does
        directives = options.get("job_extra_directives", [])
        options["job_extra_directives"] = ["--no-requeue", *directives]
    security = _security(profile)
    cluster = getattr(made, kind)(
        protocol="tls://", security=True if security is None else security, **options
    )
    if profile.scheduler == "slurm":
        _ask_slurm(cluster.job_script())
    return cluster


def _ask_slurm(script: str) -> None:
    """Say at once what it has against a worker's job, of which Dask alone would only wait.

    It may be something that passes (a node that is down), so the job goes on.
    """
    try:
        line = ["sbatch", "--test-only"]
        asked = subprocess.run(line, input=script, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return
    if asked.returncode:
        said = " ".join(asked.stderr.split()) or f"exit code {asked.returncode}"
        logger.warning(
            "SLURM would not take a worker's job now: %s. If that does not pass, stop here and "
            "mend [slurm] of the profile",
            said,
        )


def _scale(profile: Profile, cluster: Any, count: int) -> None:
    """Bring a cluster to so many workers; Dask does not notice a job that ends before its worker.

    Those that wait in the queue keep their places.
    """
    if profile.scheduler == "slurm":
        line = ["squeue", "--me", "-h", "-o", "%A"]
        found = subprocess.run(line, capture_output=True, text=True, timeout=60)
        there = {str(w["name"]) for w in cluster.scheduler_info["workers"].values()}
        for name, job in list(cluster.workers.items()) if found.returncode == 0 else ():
            if str(name) not in there and job.job_id and job.job_id not in found.stdout.split():
                cluster.workers.pop(name, None)  # then it is one that is to be opened
    cluster.scale(count)


def _lifetime(walltime: str) -> list[str]:
    """Workers end some minutes before the queue ends them, not all at once."""
    lifetime = _seconds(walltime) - 300
    return ["--lifetime", f"{lifetime}s", "--lifetime-stagger", "4m"] if lifetime > 600 else []


def _seconds(walltime: str) -> int:
    """[H:]M:S, M, or with SLURM's days D-H[:M[:S]]; 0 where it is none of these."""
    days, dash, clock = walltime.rpartition("-")
    parts = clock.split(":")
    if len(parts) > 3 or not all(part.isdecimal() for part in [*parts, *([days] if dash else [])]):
        return 0
    first, second, third = (*map(int, parts), *[0] * (3 - len(parts)))
    if dash:
        return 86400 * int(days) + 3600 * first + 60 * second + third
    if len(parts) == 3:
        return 3600 * first + 60 * second + third
    return 60 * first + second


def _kubernetes(profile: Profile) -> Any:
    made = _imported("dask_kubernetes.operator", "kubernetes", profile)
    return made.KubeCluster(**profile.options)


def _imported(module: str, extra: str, profile: Profile) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MmfError(
            f"scheduler {profile.scheduler!r} needs {error.name}, which is not installed: "
            f"pip install 'mmf-video[{extra}]'."
        ) from None


def _security(profile: Profile) -> "Security | None":
    if not profile.tls:
        return None
    from distributed import Security

    for name, path in profile.tls.items():
        if not os.path.isfile(path):
            raise MmfError(f"cluster: [tls] {name} = {path!r}: there is no such file.")
    sides = {f"tls_{side}_{key}": profile.tls[key] for key in ("cert", "key") for side in _SIDES}
    return Security(tls_ca_file=profile.tls["ca"], require_encryption=True, **sides)


_SIDES = ("client", "scheduler", "worker")
