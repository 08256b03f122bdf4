"""Trainings of three models, killed at random moments: are their weights those of whole ones?

    python benchmarks/kills.py [--kills 5] [--steps 60] [--seed 0]

Each training is done once as a whole and once in a process that SIGKILL ends again and again, each
time at a moment drawn from the time of the whole one, and that is begun again. A checkpoint is
written after every step, so that many kills fall into the writing. Compared is a hash of all
weights, averages, moments and buffers of the last checkpoint, and of the metrics.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mmf.fuse import TrainConfig, train
from mmf.fuse.training import checkpoint, resume
from mmf.store import FeatureSpec, FeatureStore, Track

MODELS = {
    "mean + MFB, averaged": {
        "fusion": "mfb",
        "fusion_options": {"outputs": 16},
        "ema": 0.9,
        "head": "moe",
    },
    "NetVLAD + concat, batch norm": {
        "fusion": "concat",
        "aggregate": "netvlad",
        "aggregate_options": {"clusters": 4, "hidden": 16},
        "optimiser": "sgd",
        "schedule": "cosine",
        "modality_dropout": 0.2,
    },
    "policy, in its stages": {
        "fusion": "policy",
        "fusion_options": {"layers": [16], "hidden": 8, "segments": 4},
    },
    "GMSA": {"fusion": "gmsa", "fusion_options": {"heads": 2}, "sample": "frames", "parts": 2},
}
SIZES = {"rgb": 24, "audio": 8}
SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang


def make_store(root: Path) -> None:
    store, draw = FeatureStore.create(root), np.random.default_rng(0)
    names = [f"v{i:02}" for i in range(72)]
    for name, size in SIZES.items():
        spec = FeatureSpec(name=name, modality=name, shape=(size,), dtype="float32")
        rows = [draw.normal(size=(1 + i % 9, size)) for i in range(len(names))]
        each = zip(names, rows, strict=True)
        store.add(spec, [Track(video_id=v, values=r, times=range(len(r))) for v, r in each])
    split = {v: "val" if i % 6 == 0 else "train" for i, v in enumerate(names)}
    store.label({v: ["ab"[i // 2 % 2]] for i, v in enumerate(names)}, split=split)


def learn(config: TrainConfig) -> None:
    """Begin or go on, with a checkpoint after every step."""
    torch.set_num_threads(1)
    resume._SECONDS, resume._SHARE = 0.0, 1e9
    train(config, resume=Path(config.out).exists())


def ended(config: TrainConfig, after: float | None = None) -> bool:
    """Learn in a process of its own; whether it came to its end before it was killed.

    It is killed so many seconds after the first checkpoint of its own, as it starts for longer.
    """
    before = last_step(config)
    process = SPAWN.Process(target=learn, args=(config,))
    process.start()
    while after is not None and process.is_alive() and last_step(config) == before:
        time.sleep(0.002)
    process.join(after)
    process.kill()
    process.join()
    if process.exitcode not in (0, -9):
        sys.exit(f"a training ended with {process.exitcode} instead of going on")
    return process.exitcode == 0


def last_step(config: TrainConfig) -> str:
    """The name of the newest checkpoint."""
    names = [path.name for path in Path(config.out, "checkpoints").glob("step-*")]
    return max(names, default="")


def outcome(run: Path) -> str:
    path, state = checkpoint.newest(run / "checkpoints") or sys.exit(f"{run} has no checkpoint")
    found = hashlib.sha256((run / "metrics.jsonl").read_bytes())
    for name in sorted({*state["files"]} - {"generators.safetensors"}):
        found.update((path / name).read_bytes())
    return found.hexdigest()[:16]


def killed(config: TrainConfig, kills: int, seconds: float, draw: random.Random) -> int:
    """Learn to the end, killed so many times unless it ends before; how many times it was."""
    for number in range(kills):
        if ended(config, seconds * draw.uniform(0.0, 0.4)):
            return number
    ended(config)
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="of each model")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, same = random.Random(asked.seed), True
    print("| model | kills | whole | killed |\n|---|--:|---|---|")
    with tempfile.TemporaryDirectory(prefix="mmf-kills-") as folder:
        root = Path(folder) / "store"
        make_store(root)
        for number, (name, options) in enumerate(MODELS.items()):
            config = TrainConfig.from_json(
                {"store": str(root), "out": str(Path(folder) / f"whole-{number}")}
                | {"batch_size": 12, "steps": asked.steps, "eval_every": 7, "device": "cpu"}
                | options
            )
            ended(config)
            steps = sorted(Path(config.out, "checkpoints").glob("step-*"))
            written = [path.stat().st_mtime for path in steps[-2:]]
            seconds = asked.steps * (written[1] - written[0])
            wanted = outcome(Path(config.out))
            done, tries = 0, 0
            while done < asked.kills:  # a run that ended too soon is followed by another
                again = replace(config, out=str(Path(folder) / f"killed-{number}-{tries}"))
                done += killed(again, asked.kills - done, seconds, draw)
                found, tries = outcome(Path(again.out)), tries + 1
                same &= found == wanted
            print(f"| {name} | {done} | {wanted} | {found} |", flush=True)
    print(json.dumps({"kills": asked.kills * len(MODELS), "same": same}))
    sys.exit(not same)


if __name__ == "__main__":
    main()
