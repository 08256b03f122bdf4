"""Trial `reading`: a reader sees whole videos only while a writer appends."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np

from mmf.chaos.job import F, G, commits, video
from mmf.chaos.trial import Found, Setting
from mmf.store import FeatureStore

VERSIONS = 10  # of the store that a reader is to meet


def reading(folder: Path, setting: Setting) -> Found:
    """Reads of a store that grows meanwhile; what is there is there whole."""
    root, rng, found = folder / "reading", random.Random(setting.seed), Found()
    reads = 500 if setting.small else 10_000
    commits(root, 1)
    child = _writer(root)
    try:
        store, versions = FeatureStore(root), set[int]()
        while found.n < reads or (len(versions) < VERSIONS and found.n < 20 * reads):
            store.refresh()
            names = [v for v, s in store.state("f").items() if s == "done"]
            versions.add(len(names))
            for name in rng.sample(names, min(len(names), 50)):
                found.n += 1
                found.faults += _torn(store, name)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return found


def _writer(root: Path) -> int:
    child = os.fork()
    if child == 0:
        while True:
            commits(root, 400, bucket=2)
            time.sleep(0.01)
    return child


def _torn(store: FeatureStore, name: str) -> list[str]:
    for spec in (F, G):
        expected = spec.decode(spec.encode(video(int(name[1:]), spec).values))
        if not np.array_equal(store.read(spec.name, name).values, expected):
            return [f"{name} torn"]
    return []
