"""Jobs of `mmf extract` as processes, each started again when it is gone, and what must hold after.

Any of their processes may be killed at any moment. In the end the store must be whole and hold what
an undisturbed job has made, each video once, to the last bit.
"""

import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from mmf.cluster.settings import environment
from mmf.extract.sample_set import make_sample_set
from mmf.store import FeatureStore
from mmf.store.verify import verify

FILES, VIDEOS = 12, 240  # each content is that of several videos
FEATURES = ("rgb", "audio")
PAUSE = (0.05, 0.8)  # seconds between two kills
DEADLINE = 300.0  # seconds without a kill and without an end: a hang, which is a fault
AGAIN = (75, -signal.SIGKILL)  # how a job ends that is to be started again
_MARKS = {"decoder": "mmf.extract.decoder.child", "lane": "mmf.extract.lane_process"}


def make_source(folder: Path) -> Path:
    """A manifest of videos in files of their own, few of which differ."""
    clips = sorted(make_sample_set(folder / "clips", clips=FILES, seed=1).rglob("*.mp4"))
    (folder / "files").mkdir()
    path = folder / "manifest.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("video_id", "path"))
        for i in range(VIDEOS):
            rows.writerow((f"v{i:04}", video := folder / "files" / f"{i:04}.mp4"))
            shutil.copyfile(clips[i % FILES], video)
    return path


def command(source: Path, store: Path, *words: str, module: str = "mmf.cli") -> list[str]:
    """`mmf extract` of the source into the store; `module` may stand in for the command line."""
    line = ["extract", str(source), "--store", str(store), "--preset", "embedded"]
    line += [word for feature in FEATURES for word in ("--modality", feature)]
    return [sys.executable, "-m", module, *line, *words]


def make_reference(source: Path, store: Path) -> str:
    """The content hash of a store that an undisturbed job makes."""
    subprocess.run(command(source, store), check=True, capture_output=True)
    return FeatureStore(store).content_hash()


def faults_of(store: Path, reference: str, job: str) -> list[str]:
    """What is lost, doubled, torn or blamed in a store whose jobs are done."""
    found = [f"{job}: {problem.path} {problem.what}" for problem in verify(store)]
    opened = FeatureStore(store)
    blamed = opened.failures().to_pylist()
    found += [f"{job}: {one['video_id']} blamed: {one['reason']}" for one in blamed]
    for feature in FEATURES:
        times = Counter(opened.stored(feature).outcomes["video_id"].to_pylist())
        if lost := VIDEOS - len(times):
            found.append(f"{job}: {lost} videos lost of {feature}")
        found += [f"{job}: {v} is there {n} times of {feature}" for v, n in times.items() if n > 1]
    if not found and opened.content_hash() != reference:
        found.append(f"{job}: other content than an undisturbed job's")
    return found


class Tended:
    """Processes by name, each started again when it is gone; `ends`: those that come to an end."""

    def __init__(self, commands: Mapping[str, list[str]], logs: Path, *, ends: frozenset[str]):
        logs.mkdir()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ended: dict[str, int] = {}  # with which code
        self._commands, self._logs, self._ends = commands, logs, ends

    def __enter__(self) -> "Tended":
        self.tend()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            if process.poll() is None:  # else its number may be another's by now
                for one in below(process.pid):
                    kill(one)
            process.kill()
            process.wait()

    def is_done(self) -> bool:
        """Whether all that come to an end have; until then all else is started again."""
        self.tend()
        return self.ended.keys() == self._ends

    def tend(self) -> None:
        """Start what is not there."""
        for name, line in self._commands.items():
            process = self.running.get(name)
            code = None if process is None else process.poll()
            if name in self.ended or (process is not None and code is None):
                continue
            if name in self._ends and code is not None and code not in AGAIN:
                self.ended[name] = code
                continue
            with open(self._logs / f"{name}.log", "ab") as log:
                self.running[name] = subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environment()},
                )

    def faults(self) -> list[str]:
        """What ended with another code than 0."""
        wrong = {name: code for name, code in self.ended.items() if code}
        return [f"{name} ended with {code}: {self.said(name)}" for name, code in wrong.items()]

    def said(self, name: str) -> str:
        """The last line of one."""
        path = self._logs / f"{name}.log"
        return path.read_text(errors="replace").strip().rpartition("\n")[2]


def below(pid: int) -> Iterator[psutil.Process]:
    """The processes that a process has started, and those that they have."""
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from psutil.Process(pid).children(recursive=True)


def role(process: psutil.Process) -> str:
    """What a process does in a job: decoder, lane, worker, or nothing that is known."""
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline())
        for name, mark in _MARKS.items():
            if mark in words:
                return name
        if "multiprocessing.spawn" in words and "spawn_main" in words:
            return "worker"
    return ""


def kill(process: psutil.Process) -> bool:
    """SIGKILL; False where it was gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
        return True
    return False


def kill_one(there: list[psutil.Process], rng: random.Random) -> bool:
    """SIGKILL one of these; False where there is none."""
    return bool(there) and kill(rng.choice(there))
