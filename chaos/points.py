"""Trials `points` and `errno`: a fault at every step of a job of commits, and of a store's life.

points   exit 137 before and after every write (and in its middle), fsync, close, rename, link and
         unlink of a job of commits, and of a compaction, a purge and a gc
errno    ENOSPC, EIO and EROFS at every one of them: an OSError that names a file, no outcome that
         blames a video, a store that reads, and the rerun completes
"""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmf import MmfError
from mmf.chaos.job import commits, faults_of, finished, life
from mmf.chaos.strike import Fault, in_child, kill, refuse
from mmf.chaos.trial import Found, Setting
from mmf.store import FeatureStore

ERRNOS = (errno.ENOSPC, errno.EIO, errno.EROFS)
JOBS = ("commits", "life")
TIMES = 3  # that a process is killed at each point
STRIDE = 31  # of the small form: every so manieth point, once


class _Job:
    """One job, its undisturbed result, and a fresh place for every disturbed one."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self.start = folder / f"{name}.start"
        if name == "life":
            commits(self.start)
            shutil.copytree(self.start, folder / "whole")
        fault = Fault(kill, -1, "")
        code, text = in_child(lambda: self.work(folder / "whole"), fault)
        if code:
            raise MmfError(f"the undisturbed job ended with {code}: {text}")
        self.calls = text.split()
        self.whole = FeatureStore(folder / "whole").content_hash()
        shutil.rmtree(folder / "whole")

    def steps(self, setting: Setting) -> Iterator[tuple[int, str]]:
        """The calls to strike at, by their number."""
        yield from list(enumerate(self.calls))[:: STRIDE if setting.small else 1]

    def work(self, root: Path) -> None:
        """The job itself."""
        commits(root) if self.name == "commits" else life(root)

    def ends(self, code: int) -> set[int]:
        """The ways to end: records have random names, and so the last calls of life differ."""
        return {code} if self.name == "commits" else {code, 0}

    def disturbed(self, fault: Fault, codes: set[int]) -> list[str]:
        """Run it once with a fault, and once more without."""
        root = self.folder / "s"
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".said").unlink(missing_ok=True)
        if self.name == "life":
            shutil.copytree(self.start, root)
            shutil.copy(self.start.with_suffix(".said"), root.with_suffix(".said"))
        code, text = in_child(lambda: self.work(root), fault)
        found = [] if code in codes else [f"ended with {code}: {text}"]
        if code == 74 and not text:
            found.append("an error that names no file")
        found += faults_of(root, purging=self.name == "life")
        return found + finished(root, self.whole, lambda: self.work(root))


def points(folder: Path, setting: Setting) -> Found:
    """Processes killed at every step; nothing may be lost, doubled or torn."""
    found = Found()
    for name in JOBS:
        job = _Job(folder, name)
        for at, call in job.steps(setting):
            for when in ("before", "after", *(["middle"] if call == "write" else [])):
                for _ in range(1 if setting.small else TIMES):
                    found.n += 1
                    faults = job.disturbed(Fault(kill, at, when), job.ends(137))
                    found.faults += [f"{name}: {when} {call} {at}: {f}" for f in faults]
    return found


def errnos(folder: Path, setting: Setting) -> Found:
    """Errors of the system at every step; they are told, blame no video and leave nothing torn."""
    found = Found()
    for name in JOBS:
        job = _Job(folder, name)
        for at, call in job.steps(setting):
            for number in ERRNOS[:1] if setting.small else ERRNOS:
                for when in ("before", *(["middle"] if call == "write" else [])):
                    found.n += 1
                    faults = job.disturbed(Fault(refuse(number), at, when), job.ends(74))
                    what = errno.errorcode[number]
                    found.faults += [f"{name}: {what} {when} {call} {at}: {f}" for f in faults]
    return found
