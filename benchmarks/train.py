"""A training step: what reading costs beside it, and what a second process brings.

    python benchmarks/train.py [--videos 1024] [--steps 12] [--repeat 3]

YouTube-8M's shape: batches of 128 items of 300 rows of 1024 + 128 numbers in uint8, 3862 classes.
A step that reads the store is timed in turn with the same step on a batch that is in memory, one
thread each for torch; then two processes with one thread each against one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mmf.fuse import TrainConfig
from mmf.fuse.training import loop
from mmf.fuse.training.distributed import World, joined
from mmf.fuse.training.meter import Meter
from mmf.fuse.training.resume import State
from mmf.fuse.training.start import begun
from mmf.fuse.training.step import Learning, learn
from mmf.store import FeatureSpec, FeatureStore, Track

MODELS = {
    "mean + concat, logistic": {"fusion": "concat"},
    "mean + MFB, mixture of experts": {"fusion": "mfb", "head": "moe"},
}
FEATURES = {"rgb": 1024, "audio": 128}
STEPS, CLASSES, BATCH = 300, 3862, 128


def make_store(root: Path, videos: int) -> None:
    store, random = FeatureStore.create(root), np.random.default_rng(0)
    names = [f"v{i:05}" for i in range(videos)]
    for name, size in FEATURES.items():
        spec = FeatureSpec(name=name, modality=name, shape=(size,), dtype="uint8")
        rows = (random.integers(0, 256, (STEPS, size), np.uint8) for _ in names)
        times = np.arange(STEPS)
        store.add(
            spec,
            (Track(video_id=v, values=r, times=times) for v, r in zip(names, rows, strict=True)),
        )
    labels = {v: [str(c) for c in random.choice(CLASSES, 3, replace=False)] for v in names}
    split = {v: "val" if i % 16 == 0 else "train" for i, v in enumerate(names)}
    store.label(labels, split=split, classes=[str(c) for c in range(CLASSES)])


class Trial:
    """A training that is not kept: its steps one by one."""

    def __init__(self, root: Path, model: str, world: World):
        config = TrainConfig(
            store=root,
            out=root.parent / "never",
            task="multi",
            normalise="l2_joint",
            lr=2e-4,
            batch_size=BATCH * world.size,
            **MODELS[model],
        )
        store = FeatureStore(root)
        run, plan = begun(config, store, world)
        self.what: Learning = loop._learning(run, plan, store, world)
        self.state, self._stop = State(), threading.Event()
        loader = loop._loader(store, plan, run.config, world, by_video=False)
        self.batches = loop._batches(loader, self.state, self.what, Meter())

    def step(self, batches) -> float:
        """Seconds of one step, reading included."""
        begin = time.perf_counter()
        learn(self.what, batches, self.state, self._stop)
        self.state.step += 1
        return time.perf_counter() - begin


def reading(root: Path, model: str, steps: int, repeat: int) -> tuple[float, float]:
    """Median seconds of a step in memory, and of one that reads."""
    trial = Trial(root, model, World())
    kept = list(next(trial.batches))
    stored, memory = [], []
    with closing(trial.batches) as coming:
        for batches in islice(coming, 3):  # warm
            trial.step(batches)
        for _ in range(repeat):
            memory.append(sum(trial.step(kept) for _ in range(steps)) / steps)
            begin = time.perf_counter()
            for batches in islice(coming, steps):
                trial.step(batches)
            stored.append((time.perf_counter() - begin) / steps)
    return float(np.median(memory)), float(np.median(stored))


def rate(root: Path, model: str, steps: int) -> float:
    """Items a second over all processes of this world."""
    with joined() as world:
        trial = Trial(root, model, world)
        with closing(trial.batches) as coming:
            for batches in islice(coming, 3):
                trial.step(batches)
            world.sum([0.0])
            begin = time.perf_counter()
            for batches in islice(coming, steps):
                trial.step(batches)
            seconds = time.perf_counter() - begin
    if world.first:
        print(json.dumps(steps * BATCH * world.size / seconds))
    return seconds


def launched(root: Path, model: str, steps: int, processes: int) -> float:
    """`rate` in fresh processes of one thread each."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        command += [str(processes)]
    command += [__file__, "--worker", model, "--root", str(root), "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.worker:
        rate(asked.root, asked.worker, asked.steps)
        return
    with tempfile.TemporaryDirectory(prefix="mmf-train-") as folder:
        root = Path(folder) / "store"
        make_store(root, asked.videos)
        print("| model | step in memory ms | step from the store ms | ratio |")
        print("|---|--:|--:|--:|")
        for model in MODELS:
            memory, stored = reading(root, model, asked.steps, asked.repeat)
            print(f"| {model} | {memory * 1e3:.0f} | {stored * 1e3:.0f} | {stored / memory:.3f} |")
        print("\n| model | items/s, 1 process | 2 processes | ratio |")
        print("|---|--:|--:|--:|")
        for model in MODELS:
            pairs = [
                [launched(root, model, asked.steps, n) for n in (1, 2)] for _ in range(asked.repeat)
            ]
            one, two = np.median(pairs, axis=0)
            print(
                f"| {model} | {one:.0f} | {two:.0f} | {np.median([b / a for a, b in pairs]):.2f} |"
            )


if __name__ == "__main__":
    main()
