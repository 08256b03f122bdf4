"""Trial `killed`: SIGKILL of any process of a job on a cluster, at any moment.

A scheduler, two workers with their nannies and the driver run as processes of their own, as on a
cluster; whichever is gone is started again, as a user or a batch system would. One after another is
killed: decoders, lanes, workers, nannies, the scheduler, the driver. In the end the store must be
whole and hold what an undisturbed job has made, to the last bit.
"""

import random
import shutil
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from mmf.chaos.jobs import (
    DEADLINE,
    PAUSE,
    VIDEOS,
    Tended,
    below,
    command,
    faults_of,
    kill_one,
    make_reference,
    make_source,
    role,
)
from mmf.chaos.trial import Found, Setting

# how often each is killed: without its scheduler a cluster must begin anew, which takes seconds
ROLES = {"decoder": 8, "lane": 8, "worker": 6, "nanny": 3, "driver": 3, "scheduler": 1}
WORKERS = 2
SMALL, FULL = 50, 1000


def killed(folder: Path, setting: Setting) -> Found:
    """Kill until there were enough; as many jobs as that takes."""
    kills = SMALL if setting.small else FULL
    found, rng, roles = Found(), random.Random(setting.seed), Counter[str]()
    source = make_source(folder)
    reference = make_reference(source, folder / "reference.mmf")
    jobs = 0
    while found.n < kills and not found.faults:
        store = folder / f"{jobs}.mmf"
        commands = _commands(source, store, folder / f"cluster-{jobs}")
        logs = folder / f"logs-{jobs}"
        with Tended(commands, logs, ends=frozenset({"driver"})) as cluster:
            roles += _disturb(cluster, kills - found.n, rng, found)
            found.faults += cluster.faults()
        found.n, jobs = roles.total(), jobs + 1
        found.faults += faults_of(store, reference, f"job {jobs}")
        if not found.faults:
            shutil.rmtree(store)
    each = ", ".join(f"{n} {role}" for role, n in roles.most_common())
    found.said = f"{each}; {jobs} jobs of {VIDEOS} videos"
    return found


def _disturb(cluster: Tended, most: int, rng: random.Random, found: Found) -> Counter[str]:
    """Kill until the job is done; then it was disturbed enough."""
    roles, quiet_since = Counter[str](), time.monotonic()
    chosen: str | None = None
    while not cluster.is_done():
        if chosen is None and roles.total() < most:
            chosen = rng.choices(list(ROLES), list(ROLES.values()))[0]
        time.sleep(rng.uniform(*PAUSE))
        if chosen is not None and kill_one(_of(chosen, cluster), rng):  # else there is none yet
            roles[chosen] += 1
            chosen, quiet_since = None, time.monotonic()
        if time.monotonic() - quiet_since > DEADLINE:
            found.faults.append(f"the job hangs: {cluster.said('driver')}")
            break
    return roles


def _commands(source: Path, store: Path, folder: Path) -> dict[str, list[str]]:
    """The processes of the job and of the cluster on which it runs."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-m"]
    profile = folder / "cluster.toml"
    profile.write_text("[cluster]\nbucket_seconds = 1\nno_workers_timeout = 60\n")
    commands = {
        "scheduler": [
            *(*dask, "distributed.cli.dask_scheduler", "--host", "127.0.0.1"),
            *("--port", str(port), "--no-dashboard"),
        ],
        "driver": command(source, store, "--scheduler", address, "--profile", str(profile)),
    }
    for i in range(WORKERS):
        commands[f"nanny {i}"] = [*dask, "distributed.cli.dask_worker", address]
        commands[f"nanny {i}"] += ["--nthreads", "1", "--no-dashboard"]
        commands[f"nanny {i}"] += ["--memory-limit", "0", "--death-timeout", "60"]
        commands[f"nanny {i}"] += ["--local-directory", str(folder / f"scratch-{i}")]
    return commands


def _of(wanted: str, cluster: Tended) -> list[psutil.Process]:
    """The processes of this role that are there."""
    if wanted in ("driver", "scheduler", "nanny"):
        names = [name for name in cluster.running if name.partition(" ")[0] == wanted]
        return [psutil.Process(cluster.running[name].pid) for name in names]
    nannies = [p for name, p in cluster.running.items() if name.startswith("nanny")]
    return [one for nanny in nannies for one in below(nanny.pid) if role(one) == wanted]
