"""SIGKILL of any process of a job on a cluster, at any moment.

A scheduler, two workers with their nannies and the driver run as processes of their own, as on a
cluster; whichever is gone is started again, as a user or a batch system would. One after another is
killed: decoders, lanes, workers, nannies, the scheduler, the driver. In the end the store must be
whole and hold what an undisturbed job has made, to the last bit.
"""

import contextlib
import csv
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from mmf.chaos.trial import Found, Setting
from mmf.cluster.settings import environment
from mmf.extract.sample_set import make_sample_set
from mmf.store import FeatureStore
from mmf.store.verify import verify

# how often each is killed: without its scheduler a cluster must begin anew, which takes seconds
ROLES = {"decoder": 8, "lane": 8, "worker": 6, "nanny": 3, "driver": 3, "scheduler": 1}
WORKERS = 2
PAUSE = (0.05, 0.8)  # seconds between two kills
FILES, VIDEOS = 12, 240  # each file stands for several videos
DEADLINE = 300.0  # seconds without a kill and without an end: a hang, which is a fault
_MARKS = {"decoder": "mmf.extract.decoder.child", "lane": "mmf.extract.lane_process"}


def killed(folder: Path, setting: Setting) -> Found:
    """Kill until there were enough; as many jobs as that takes."""
    kills = 50 if setting.small else 1000
    found, rng, roles = Found(), random.Random(setting.seed), Counter[str]()
    source = _source(folder)
    reference = _reference(source, folder / "reference.mmf")
    jobs = 0
    while found.n < kills and not found.faults:
        store = folder / f"{jobs}.mmf"
        with _Cluster(source, store, folder / f"logs-{jobs}") as cluster:
            roles += _disturb(cluster, kills - found.n, rng, found)
        found.n, jobs = roles.total(), jobs + 1
        found.faults += _faults(store, reference, f"job {jobs}")
        if not found.faults:
            shutil.rmtree(store)
    each = ", ".join(f"{n} {role}" for role, n in roles.most_common())
    found.said = f"{each}; {jobs} jobs of {VIDEOS} videos"
    return found


def _source(folder: Path) -> Path:
    """A manifest in which many videos share few files."""
    clips = sorted(make_sample_set(folder / "clips", clips=FILES, seed=1).rglob("*.mp4"))
    path = folder / "manifest.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("video_id", "path"))
        rows.writerows((f"v{i:04}", clips[i % FILES]) for i in range(VIDEOS))
    return path


def _command(source: Path, store: Path) -> list[str]:
    words = ["extract", str(source), "--store", str(store), "--preset", "embedded"]
    return [sys.executable, "-m", "mmf.cli", *words, "--modality", "rgb", "--modality", "audio"]


def _reference(source: Path, store: Path) -> str:
    subprocess.run(_command(source, store), check=True, capture_output=True)
    return FeatureStore(store).content_hash()


def _disturb(cluster: "_Cluster", most: int, rng: random.Random, found: Found) -> Counter[str]:
    """Kill until the job is done; then it was disturbed enough."""
    roles, quiet_since = Counter[str](), time.monotonic()
    chosen: str | None = None
    while not cluster.is_done():
        if chosen is None and roles.total() < most:
            chosen = rng.choices(list(ROLES), list(ROLES.values()))[0]
        time.sleep(rng.uniform(*PAUSE))
        if chosen is not None and cluster.kill(chosen, rng):  # else there is none yet
            roles[chosen] += 1
            chosen, quiet_since = None, time.monotonic()
        if time.monotonic() - quiet_since > DEADLINE:
            found.faults.append(f"the job hangs: {cluster.said()}")
            break
    if code := cluster.wrong_code:
        found.faults.append(f"the driver ended with {code}: {cluster.said()}")
    return roles


def _faults(store: Path, reference: str, job: str) -> list[str]:
    found = [f"{job}: {problem.path} {problem.what}" for problem in verify(store)]
    opened = FeatureStore(store)
    blamed = opened.failures().to_pylist()
    found += [f"{job}: {one['video_id']} blamed: {one['reason']}" for one in blamed]
    for feature in ("rgb", "audio"):
        if lost := VIDEOS - len(opened.state(feature)):
            found.append(f"{job}: {lost} videos lost of {feature}")
    if not found and opened.content_hash() != reference:
        found.append(f"{job}: other content than an undisturbed job's")
    return found


class _Cluster:
    """The processes, each started again when it is gone."""

    def __init__(self, source: Path, store: Path, logs: Path):
        logs.mkdir()
        self.wrong_code = 0
        self._logs = logs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-m"]
        profile = logs / "cluster.toml"
        profile.write_text("[cluster]\nbucket_seconds = 1\nno_workers_timeout = 60\n")
        here = ["--scheduler", address, "--profile", str(profile)]
        self._commands = {
            "scheduler": [
                *(*dask, "distributed.cli.dask_scheduler", "--host", "127.0.0.1"),
                *("--port", str(port), "--no-dashboard"),
            ],
            "driver": [*_command(source, store), *here],
        }
        for i in range(WORKERS):
            self._commands[f"nanny {i}"] = [*dask, "distributed.cli.dask_worker", address]
            self._commands[f"nanny {i}"] += ["--nthreads", "1", "--no-dashboard"]
            self._commands[f"nanny {i}"] += ["--memory-limit", "0", "--death-timeout", "60"]
            self._commands[f"nanny {i}"] += ["--local-directory", str(logs / f"scratch-{i}")]
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "_Cluster":
        self._tend()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                for below in psutil.Process(process.pid).children(recursive=True):
                    _kill(below)
            process.kill()
            process.wait()

    def is_done(self) -> bool:
        """Whether the driver has come to its end; until then all that is gone is started again."""
        self._tend()
        code = self._running["driver"].poll()
        if code == 0:
            return True
        if code is not None and code not in (75, -signal.SIGKILL):
            self.wrong_code = code
            return True
        return False

    def _tend(self) -> None:
        for name, command in self._commands.items():
            process = self._running.get(name)
            code = None if process is None else process.poll()
            if process is not None and code is None:
                continue
            if name == "driver" and code not in (None, 75, -signal.SIGKILL):
                continue
            with open(self._logs / f"{name}.log", "ab") as log:
                self._running[name] = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environment()},
                )

    def kill(self, role: str, rng: random.Random) -> bool:
        """Kill one process of this role; False where there is none."""
        there = list(self._of(role))
        return bool(there) and _kill(rng.choice(there))

    def _of(self, role: str) -> Iterator[psutil.Process]:
        for name, process in self._running.items():
            if name.partition(" ")[0] == role:
                yield psutil.Process(process.pid)
            if not name.startswith("nanny") or role in ("nanny", "driver", "scheduler"):
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                for below in psutil.Process(process.pid).children(recursive=True):
                    if _role(below) == role:
                        yield below

    def said(self) -> str:
        """The last line of the driver."""
        lines = (self._logs / "driver.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _role(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline())
        for role, mark in _MARKS.items():
            if mark in words:
                return role
        if "multiprocessing.spawn" in words and "spawn_main" in words:
            return "worker"
    return ""


def _kill(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
        return True
    return False
