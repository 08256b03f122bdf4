"""A training step: what reading costs, what the loader keeps, what a second process brings.

    python benchmarks/train.py [reading memory processes] [--seconds 20] [--models "mean + MFB"]

YouTube-8M's shape: batches of 128 items of 300 rows of 1024 + 128 numbers in uint8, 3862 classes.
``reading``: steps that read the store ÷ the same steps on a batch that is in memory, in turns, one
thread for torch; in CPU time, that of reading ahead included, too. ``memory``: what an epoch of the
loader alone adds to a process, in stores of two sizes. ``processes``: two of one thread each, 128
items for each of them, ÷ one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mmf.fuse import TrainConfig
from mmf.fuse.training.distributed import World, joined
from mmf.fuse.training.loop import batches_of
from mmf.fuse.training.meter import Meter
from mmf.fuse.training.resume import State
from mmf.fuse.training.start import begun, prepared, training_loader
from mmf.fuse.training.step import Learning, learn
from mmf.matmul import fast_matmul
from mmf.memory import memory_kept
from mmf.store import FeatureSpec, FeatureStore, Track

MODELS = {
    "mean + MFB": {"fusion": "mfb", "head": "moe"},
    "NetVLAD + MFB": {"fusion": "mfb", "aggregate": "netvlad", "head": "moe"},
    "GMSA": {"fusion": "gmsa"},
    "mean + concat": {"fusion": "concat"},
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
        self.what: Learning = prepared(run, plan, store, world)
        self.state, self._stop = State(), threading.Event()
        loader = training_loader(store, plan, run.config, world, by_video=False)
        self.batches = batches_of(loader, self.state, self.what, Meter())

    def step(self, batches) -> float:
        """Seconds of one step, reading included."""
        begin = time.perf_counter()
        learn(self.what, batches, self.state, self._stop)
        self.state.step += 1
        return time.perf_counter() - begin


def reading(root: Path, model: str, seconds: float) -> str:
    """A line: a step on a batch in memory, one that reads, their ratio, and that in CPU time."""
    trial = Trial(root, model, World())
    with fast_matmul(), memory_kept(), closing(trial.batches) as coming:
        kept = list(next(coming))
        warm = [trial.step(batches) for batches in islice(coming, 2)]
        steps = max(1, round(seconds / 6 / warm[-1]))
        memory, stored = [], []
        for _ in range(3):
            memory.append(spent(lambda: [trial.step(kept) for _ in range(steps)]))
            stored.append(spent(lambda: [trial.step(one) for one in islice(coming, steps)]))
    pairs = np.median(memory, axis=0) / steps, np.median(stored, axis=0) / steps
    ratios = np.median(np.divide(stored, memory), axis=0)
    wall = " | ".join(f"{1000 * pair[0]:.0f}" for pair in pairs)
    return f"| {model} | {wall} | {ratios[0]:.3f} | {ratios[1]:.3f} |"


def spent(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of CPU time of this process."""
    begin, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - begin, time.process_time() - cpu


def rate(root: Path, model: str, seconds: float) -> None:
    """Print items a second over all processes of this world."""
    with joined() as world, fast_matmul(), memory_kept():
        trial = Trial(root, model, world)
        with closing(trial.batches) as coming:
            warm = [trial.step(batches) for batches in islice(coming, 2)]
            (longest,) = world.sum([warm[-1] / world.size])
            steps = max(2, round(seconds / longest))
            world.sum([0.0])
            begin = time.perf_counter()
            for batches in islice(coming, steps):
                trial.step(batches)
            took = time.perf_counter() - begin
    if world.first:
        print(steps * BATCH * world.size / took)


def launched(root: Path, model: str, seconds: float, processes: int) -> float:
    """`rate` in fresh processes of one thread each."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    told = ["--worker", model, "--root", str(root), "--seconds", str(seconds)]
    command = [sys.executable, *(torchrun if processes > 1 else []), __file__, *told]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return float(done.stdout.splitlines()[-1])


def resident() -> dict[str, int]:
    """Bytes of this process in memory: its own, and pages of files."""
    text = Path("/proc/self/status").read_text()
    lines = dict(line.split(":") for line in text.splitlines() if line.startswith("Rss"))
    return {name: int(lines[name].split()[0]) << 10 for name in ("RssAnon", "RssFile")}


def kept_by_loader(root: Path) -> None:
    """Print, as JSON, what opening and an epoch have added: the most of all batches."""
    begin = resident()
    store = FeatureStore(root)
    loader = store.loader(tuple(FEATURES), "train", batch_size=BATCH, threads=2)
    opened = resident()
    most = dict(opened)
    for batch in loader.epoch(0):
        size = sum(v.nbytes for v in batch.values.values())
        size += batch.labels.nbytes + batch.rated.nbytes
        most = {name: max(value, most[name]) for name, value in resident().items()}
        del batch
        batch_bytes = max(size, locals().get("batch_bytes", 0))
    own = most["RssAnon"] - opened["RssAnon"]
    found = {"videos": len(loader.items), "index": opened["RssAnon"] - begin["RssAnon"]}
    print(json.dumps(found | {"own": own, "batch": batch_bytes, "files": most["RssFile"]}))


def memory(root: Path) -> str:
    """A line of `kept_by_loader` in a fresh process."""
    command = [sys.executable, __file__, "--loader", "--root", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    in_mb = " | ".join(f"{found[name] / 1e6:.0f}" for name in ("index", "own", "batch"))
    return f"| {found['videos']} | {in_mb} | {found['own'] / found['batch']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["reading", "memory", "processes"])
    parser.add_argument("--videos", type=int, default=1024, help="of the smaller store")
    parser.add_argument("--seconds", type=float, default=20, help="to measure each model for")
    parser.add_argument("--models", nargs="+", default=[*MODELS][:3], choices=[*MODELS])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--loader", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.worker:
        rate(asked.root, asked.worker, asked.seconds)
        return
    if asked.loader:
        kept_by_loader(asked.root)
        return
    with tempfile.TemporaryDirectory(prefix="mmf-train-") as folder:
        root = Path(folder) / "store"
        make_store(root, asked.videos)
        if "reading" in asked.what:
            print("| model | step in memory ms | step from the store ms | ratio | in CPU time |")
            print("|---|--:|--:|--:|--:|")
            for model in asked.models:
                print(reading(root, model, asked.seconds), flush=True)
        if "memory" in asked.what:
            print("\n| videos | index MB | loader MB | batch MB | loader ÷ batch |")
            print("|--:|--:|--:|--:|--:|")
            print(memory(root), flush=True)
            make_store(Path(folder) / "larger", 4 * asked.videos)
            print(memory(Path(folder) / "larger"), flush=True)
        if "processes" in asked.what:
            print("\n| model | items/s, 1 process | 2 processes | ratio |")
            print("|---|--:|--:|--:|")
            for model in asked.models:
                one, two = (launched(root, model, asked.seconds, n) for n in (1, 2))
                print(f"| {model} | {one:.0f} | {two:.0f} | {two / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
