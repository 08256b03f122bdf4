"""Trial `racing`: four writers of one store are killed at random moments."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from mmf.chaos.job import commits, faults_of, finished
from mmf.chaos.trial import Found, Setting
from mmf.store import FeatureStore

WRITERS = 4


def racing(folder: Path, setting: Setting) -> Found:
    """SIGKILLs of writers at random moments; nothing may be lost, doubled or torn."""
    root, rng, found = folder / "racing", random.Random(setting.seed), Found()
    kills = 8 if setting.small else 50
    videos = max(60, kills * 6)

    def work() -> None:
        commits(root, videos, bucket=1 + os.getpid() % 3)

    while found.n < kills:
        children = [_child(work) for _ in range(WRITERS)]
        time.sleep(rng.uniform(0.02, 0.25))
        for child in children:
            os.kill(child, signal.SIGKILL)
            found.n += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found.faults += faults_of(root)
        if root.exists() and len(FeatureStore(root).state("f")) == videos:
            shutil.rmtree(root)  # begin again
            root.with_suffix(".said").unlink()
    commits(folder / "reference", videos)
    found.faults += finished(root, FeatureStore(folder / "reference").content_hash(), work)
    return found


def _child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child
