"""Trial `stopped`: SIGTERM to a job at any moment; what is finished is kept, and it ends soon.

Stopped again and again, the same command must come to its end with what an undisturbed job has
made. Every second store is filled on a cluster that the job itself starts, the others by lanes of
the job's own. What a stop throws away are the videos that were opened and are not in the store: at
most those that a lane had ahead of it.
"""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mmf.chaos.jobs import DEADLINE, FEATURES, below, command, faults_of, make_source
from mmf.chaos.opened import Opened
from mmf.chaos.trial import Found, Setting
from mmf.extract.pipeline import AHEAD
from mmf.store import FeatureStore

SMALL, FULL = 5, 100
LANES = 2
KINDS = {"lanes": (), "cluster": ("--scheduler", "local")}
PROMISED = 25.0  # seconds in which a job ends that is told to; more where the machine is busy
STOPPED = 75
UNHEARD = -15  # what ends a process that does not listen yet, or no longer


@dataclass(kw_only=True)
class _Stops:
    """The stops so far."""

    codes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # that each took
    opened: int = 0  # videos, in all
    thrown: list[int] = field(default_factory=list)  # of those, what each threw away


def stopped(folder: Path, setting: Setting) -> Found:
    """Stop until there were enough; as many stores as that takes."""
    most = SMALL if setting.small else FULL
    found, rng, stops = Found(), random.Random(setting.seed), _Stops()
    source = make_source(folder)
    whole = {kind: _undisturbed(source, folder / f"{kind}.mmf", kind) for kind in KINDS}
    reference = whole["lanes"][0]
    if len({content for content, _ in whole.values()}) > 1:
        found.faults.append("a cluster makes another content than lanes do")
    stores = 0
    while found.n < most and not found.faults:
        kind, store = list(KINDS)[stores % len(KINDS)], folder / f"{stores}.mmf"
        name = f"store {stores}, {kind}"
        job = _Job(command=_command(source, store, kind), store=store, files=source.parent)
        longest = whole[kind][1]
        while not found.faults:  # the same command until it is done
            wait = rng.uniform(0, longest) if found.n < most else DEADLINE
            found.faults += [f"{name}: {fault}" for fault in job.run(wait, stops)]
            found.n = len(stops.seconds)
            if job.is_done:
                break
        stores += 1
        found.faults += faults_of(store, reference, name) if job.is_done else []
        if not found.faults:
            shutil.rmtree(store)
    found.said = _said(stops, stores)
    return found


def _command(source: Path, store: Path, kind: str) -> list[str]:
    return command(source, store, "--workers", str(LANES), *KINDS[kind])


def _undisturbed(source: Path, store: Path, kind: str) -> tuple[str, float]:
    """The content hash of what a job makes that nobody stops, and the seconds that it takes."""
    begun = time.monotonic()
    subprocess.run(_command(source, store, kind), check=True, capture_output=True)
    return FeatureStore(store).content_hash(), time.monotonic() - begun


@dataclass(kw_only=True)
class _Job:
    """A command that is stopped and run again."""

    command: list[str]
    store: Path
    files: Path
    is_done: bool = False

    def run(self, wait: float, stops: _Stops) -> list[str]:
        """Run it, and stop it after so many seconds unless it is done; what is wrong then."""
        files = sorted((self.files / "files").iterdir())
        with Opened(files) as opened:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=wait)
            there = list(below(process.pid))
            begun = time.monotonic()
            process.terminate()
            try:
                said = process.communicate(timeout=DEADLINE)[1]
            except subprocess.TimeoutExpired:
                return [self._hangs(process, there)]
            seconds = time.monotonic() - begun
        if process.returncode == 0:  # before it was told to stop
            self.is_done = True
            return []
        stops.codes[process.returncode] += 1
        stops.seconds.append(seconds)
        stops.opened += len(set(opened.paths))
        stops.thrown.append(thrown := len(self._not_kept(opened.paths)))
        faults = [f"{p.name()} is left" for p in psutil.wait_procs(there, timeout=10)[1]]
        if process.returncode not in (STOPPED, UNHEARD):
            faults.append(f"ended with {process.returncode}: {said[-300:]}")
        if seconds > PROMISED * _load():
            faults.append(f"took {seconds:.1f} s to end")
        if thrown > (LANES * AHEAD if process.returncode == STOPPED else 0):
            faults.append(f"{thrown} videos were opened and not kept, code {process.returncode}")
        return faults

    def _not_kept(self, opened: Sequence[str]) -> set[str]:
        """The videos of these files that are not in the store."""
        kept = set[str]()
        if (self.store / "mmf.json").exists():
            store = FeatureStore(self.store)
            if set(FEATURES) <= set(store.features):
                kept = set.intersection(*(set(store.state(name)) for name in FEATURES))
        return {f"v{Path(path).stem}" for path in opened} - kept

    def _hangs(self, process: subprocess.Popen[str], there: list[psutil.Process]) -> str:
        for one in [*there, process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return f"told to stop, it did not end within {DEADLINE:.0f} s"


def _load() -> float:
    """How much more is asked of this machine than it has."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _said(stops: _Stops, stores: int) -> str:
    if not stops.seconds:
        return ""
    heard = stops.codes[STOPPED]
    late = sum(seconds > PROMISED for seconds in stops.seconds)
    return (
        f"{stores} stores; {heard} ended with {STOPPED}, the others where nothing was under way; "
        f"the slowest took {max(stops.seconds):.1f} s, {late} more than {PROMISED:.0f} s; of "
        f"{stops.opened} videos opened {sum(stops.thrown)} were not kept, {max(stops.thrown)} by "
        "one stop at most"
    )
