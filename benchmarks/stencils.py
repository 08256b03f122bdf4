"""How long the stencils of 20 classes take, on a Mixer of the demo's size and features.

    python benchmarks/stencils.py [--classes 20] [--restarts 32]

Four features of the demo's sizes (hog 505, log-mel 128, flow 96, words 256), items of 4 to 12 rows
that differ by class, a Mixer of 64 units and 4 blocks. Beside it the time of Shapley's values, and
how well the stencils rank the test items (Spearman, mean over the classes).
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mmf.fuse import TrainConfig, evaluate, train
from mmf.fuse.explain.met import choose_classes, usual
from mmf.fuse.explain.shares import shapley
from mmf.fuse.explain.stencils.scores import fidelity, what_they_say
from mmf.fuse.explain.stencils.search import StencilOptions, find_stencils
from mmf.fuse.explain.subject import open_subject
from mmf.store import FeatureSpec, FeatureStore, Track

SIZES = {"rgb": 505, "audio": 128, "flow": 96, "text": 256}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--classes", type=int, default=20)
    words.add_argument("--restarts", type=int, default=32)
    words.add_argument("--steps", type=int, default=200, help="of the training")
    given = words.parse_args()
    found = measure(given.classes, given.restarts, given.steps)
    cores = len(os.sched_getaffinity(0))
    print(f"{given.classes} classes x {given.restarts} restarts, {cores} cores")
    for name, value in found.items():
        print(f"{name:20} {value:.3g}")


def measure(classes: int, restarts: int, steps: int) -> dict[str, float]:
    """Seconds of each part, and what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        store = made(Path(folder) / "made.mmf", classes)
        config = TrainConfig(
            store=str(store.path),
            out=str(Path(folder) / "run"),
            fusion="mixer",
            fusion_options={"hidden": 64, "blocks": 4},
            steps=steps,
            batch_size=32,
            lr=1e-3,
            device="cpu",
        )
        run = train(config)
        subject = open_subject(run, device="cpu")
        chosen, rests = choose_classes(subject), usual(subject)
        begun = time.perf_counter()
        stencils = find_stencils(subject, chosen, rests, StencilOptions(restarts=restarts))
        found = time.perf_counter()
        said = what_they_say(subject, stencils)
        ranked = time.perf_counter()
        shapley(subject, chosen, rests)
        return {
            "accuracy": evaluate(run)["accuracy"],
            "parameters": sum(p.numel() for p in subject.network.parameters()),
            "stencils, s": found - begun,
            "ranking items, s": ranked - found,
            "Shapley, s": time.perf_counter() - ranked,
            "Spearman": fidelity(said) or float("nan"),
        }


def made(path: Path, classes: int) -> FeatureStore:
    """Items of each class around a mean of its own in every feature."""
    random = np.random.default_rng(0)
    store, each = FeatureStore.create(path), 20
    ids = [f"v{i:04}" for i in range(classes * each)]
    lengths = random.integers(4, 13, len(ids))
    for name, size in SIZES.items():
        means = random.normal(0, 0.3, (classes, size))
        tracks = [
            Track(
                video_id=video,
                values=means[i % classes] + random.normal(size=(n, size)),
                times=np.arange(n, dtype=float),
            )
            for i, (video, n) in enumerate(zip(ids, lengths.tolist(), strict=True))
        ]
        spec = FeatureSpec(name=name, modality=name, shape=(size,), dtype="float32")
        store.add(spec, tracks)
    sides = ("train", "train", "train", "val", "test")
    split = {video: sides[i // classes % 5] for i, video in enumerate(ids)}
    store.label({v: [f"class {i % classes:02}"] for i, v in enumerate(ids)}, split=split)
    return store


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
