"""Workers as jobs of a batch system, SLURM or PBS: a job per worker, which ends with its worker.

They speak TLS with certificates on both sides: those of the profile, or fresh ones of this job.
"""

import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from typing import Any

from mmf import MmfError, from_extra
from mmf.cluster import settings
from mmf.cluster.profile import Profile

logger = logging.getLogger(__name__)

_CLOSING = 3.0  # seconds
# Dask's class, the command that takes a job, and what keeps a job from being run again by itself:
# what is in the store is what goes on, no job does
SYSTEMS = {
    "slurm": ("SLURMCluster", "sbatch", "--no-requeue"),
    "pbs": ("PBSCluster", "qsub", "-r n"),
}


def batch_cluster(profile: Profile, gpu: bool) -> Any:
    """One whose workers the watch asks for again when their jobs have ended.

    Without a nanny, and in the place of the job's shell, a worker hears the queue's SIGTERM itself,
    and has its lane commit what is finished.
    """
    import dask

    made = from_extra("jobqueue", "dask_jobqueue", f"scheduler {profile.scheduler!r}")
    kind, submit, once = SYSTEMS[profile.scheduler]
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
    arguments += _lifetime(profile.scheduler, str(options.get("walltime", "")))
    options["worker_extra_args"] = [*arguments, *options.get("worker_extra_args", [])]
    of_scheduler = options.get("scheduler_options", {})  # its dashboard asks nobody who they are
    options["scheduler_options"] = {"dashboard_address": "127.0.0.1:0", **of_scheduler}
    variables = (f"export {k}={shlex.quote(v)}" for k, v in settings.environment().items())
    options["job_script_prologue"] = [*variables, *options.get("job_script_prologue", [])]
    options["job_extra_directives"] = [once, *options.get("job_extra_directives", [])]
    security = profile.security()
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


def scale(profile: Profile, cluster: Any, count: int) -> None:
    """Bring any cluster to so many workers; Dask does not notice a job that ends before its worker.

    Those that wait in the queue keep their places.
    """
    queued = _queued(profile.scheduler)
    if queued is not None:
        there = {str(w["name"]) for w in cluster.scheduler_info["workers"].values()}
        for name, job in list(cluster.workers.items()):
            if str(name) not in there and job.job_id and job.job_id not in queued:
                cluster.workers.pop(name, None)  # then it is one that is to be opened
    cluster.scale(count)


def close_workers(cluster: Any) -> None:
    """Let workers that have nothing to do end before their jobs are cancelled, in some seconds.

    Dask would do both at once, and a worker that hears SIGTERM while it closes waits for itself
    until it is killed, in SLURM for half a minute.
    """
    scheduler = cluster.scheduler
    cluster.sync(
        scheduler.retire_workers,
        workers=list(scheduler.workers),
        close_workers=True,
        remove=False,
        callback_timeout=_CLOSING,
    )
    deadline = time.monotonic() + _CLOSING
    while scheduler.workers and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)  # the last steps of one that has said good-bye


def _queued(scheduler: str) -> set[str] | None:
    """The numbers of jobs that wait or run; None where no batch system says them."""
    if scheduler == "slurm":
        line = ["squeue", "--me", "-h", "-o", "%A"]
    elif scheduler == "pbs":
        line = ["qstat"]  # of everybody: the job's owner may not be who the environment says
    else:
        return None
    try:
        found = subprocess.run(line, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode:
        return None
    rows = [line.split() for line in found.stdout.splitlines()]
    if scheduler == "slurm":
        return {row[0] for row in rows if row}
    ended = ("C", "F", "X")
    return {r[0].partition(".")[0] for r in rows if r and r[0][0].isdigit() and r[-2] not in ended}


def _lifetime(system: str, walltime: str) -> list[str]:
    """Workers end some minutes before the queue ends them, not all at once."""
    lifetime = _seconds(system, walltime) - 300
    return ["--lifetime", f"{lifetime}s", "--lifetime-stagger", "4m"] if lifetime > 600 else []


def _seconds(system: str, walltime: str) -> int:
    """[H:]M:S; M of SLURM and S of PBS; with SLURM's days D-H[:M[:S]]; 0 where it is none."""
    if system == "pbs" and walltime.isdecimal():
        return int(walltime)
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
