"""Does a policy find which modality matters where, and what does it save?

    python benchmarks/policy.py [--seeds 5] [--quick] [--out policy.json]

The videos are made (`mmf.fuse.synthetic`, structure "segments"): of 10 segments, rgb carries the
label in a fifth and audio in another fifth, none carries it in the others, and it is known which.
The policy sees cheap features: 16 numbers of each row, projected from it with noise. Recognition
heads are logistic units; the stages have half their published lengths. Costs are AdaMML's GFLOPs of
a segment: 14.14 for rgb, 0.38 for sound, 0.76 to decide.

rgb, audio      one modality alone, always on
all             everything on: weighted late fusion with the same networks
adamml          the policy, its likelier decisions; `drawn` by chance, as the authors evaluate
random          decisions by chance at the policy's rates
lite_eval       a coarse network that asks for a fine one, of all modalities at once
audio_first     sound is always heard, and what it says decides about the pictures
with_noise      the policy with a third modality of pure noise

Claims: adamml loses at most 0.5 points against all and costs at least 36 % less; random is worse
than adamml by more than the 95 % interval (Student's t) of their paired differences; noise is used
in less than 5 % of the segments.
"""

import argparse
import json
import logging
import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmf.fuse import TrainConfig, train
from mmf.fuse.data import choose_device
from mmf.fuse.evaluation.measure import measure
from mmf.fuse.inference.scoring import score
from mmf.fuse.planted import MODALITIES
from mmf.fuse.run import Run
from mmf.fuse.synthetic import Synthetic, SyntheticOptions, make
from mmf.store import FeatureSpec, FeatureStore, Track

MADE = SyntheticOptions(
    structure="segments",
    options={"strength": 1.5},
    train=1000,
    val=300,
    test=2000,
    rows=40,
    fewest=20,
    flips=0.0,
    dtype="float16",
)
COSTS = {"rgb": 14.14, "audio": 0.38, "policy": 0.76}
CLUE = 16  # numbers of a cheap row
AGENT: Mapping[str, Any] = {"layers": [128, 128], "hidden": 64, "gflops": COSTS}
CHEAP = ("rgb_small", "audio_small")
LAMBDAS = {"rgb": 1.0, "audio": 0.05}  # published for RGB and audio
ROWS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    "rgb": (("rgb",), {"decisions": "all", "gflops": COSTS | {"policy": 0.0}}),
    "audio": (("audio",), {"decisions": "all", "gflops": COSTS | {"policy": 0.0}}),
    "all": (MODALITIES, {"decisions": "all", "gflops": COSTS | {"policy": 0.0}}),
    "adamml": ((*MODALITIES, *CHEAP), {**AGENT, "clues": CHEAP, "cost": LAMBDAS}),
    "random": (MODALITIES, {"decisions": "random", "gflops": COSTS | {"policy": 0.0}}),
    "lite_eval": ((*MODALITIES, *CHEAP), {"clues": CHEAP, "gflops": COSTS}),
    "audio_first": (
        MODALITIES,
        {
            **AGENT,
            "clues": ["audio"],
            "modalities": MODALITIES,
            "always": ["audio"],
            "cost": LAMBDAS,
            "gflops": {"rgb": COSTS["rgb"], "audio": COSTS["audio"]},
        },
    ),
    "with_noise": (
        (*MODALITIES, "noise", *CHEAP, "noise_small"),
        {
            **AGENT,
            "clues": (*CHEAP, "noise_small"),
            "cost": LAMBDAS | {"noise": 0.05},
            "gflops": COSTS | {"noise": COSTS["audio"]},
        },
    ),
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--quick", action="store_true", help="small, to see that it runs")
    words.add_argument("--jobs", type=int, default=2)
    words.add_argument("--out", type=Path)
    given = words.parse_args()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, context) as pool:
        seeds = list(pool.map(partial(of_seed, quick=given.quick), range(given.seeds)))
    if given.out:
        given.out.write_text(json.dumps(seeds, indent=1))
    show(seeds)


def of_seed(seed: int, *, quick: bool) -> dict[str, dict[str, float]]:
    """Every row's measures on data of this seed."""
    torch.set_num_threads(1)
    logging.getLogger("mmf").setLevel(logging.ERROR)
    fewer = {"train": 60, "val": 20, "test": 40} if quick else {}
    options = SyntheticOptions(**{**vars(MADE), **fewer, "seed": seed})
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store = make(options, Path(folder) / "made.mmf")
        add_features(store, seed)
        truth = {v.video_id: v.planted.truth["carrier"] for v in Synthetic(options)}
        for name, (features, its) in ROWS.items():
            runs = {"runs": [f"{folder}/adamml"]} if name == "random" else {}
            lite = name == "lite_eval"
            config = TrainConfig(
                store=store.path,
                out=f"{folder}/{name}",
                features=features,
                fusion="lite_eval" if lite else "policy",
                fusion_options={**its, **runs, **({"coarse": 64, "fine": 128} if lite else {})},
                epochs=9 if quick else 57,
                batch_size=50,
                lr=1e-3 if lite else 1e-2,
                optimiser="adam" if lite else "adamw",
                clip_norm=5.0 if lite else 10.0,
                dropout=0.0,
                seed=seed,
                device="cpu",
            )
            run = Run.open(train(config))
            found[name] = measured(run, store, truth, sampled=None)
            if name == "adamml":
                found["drawn"] = measured(run, store, truth, sampled=True)
    return found


def add_features(store: FeatureStore, seed: int) -> None:
    """Cheap features of rgb and audio, and a modality of noise with its own."""
    rng = np.random.default_rng((seed, 1))
    rows = {m: [(v, store.read(m, v)) for v in _videos(store)] for m in MODALITIES}
    for m, tracks in rows.items():
        size = store.features[m].shape[0]
        project = rng.standard_normal((size, CLUE)) / np.sqrt(size)
        cheap = [(v, t.values @ project, t.times) for v, t in tracks]
        noisy = [(v, x + 0.5 * rng.standard_normal(x.shape), times) for v, x, times in cheap]
        _add(store, f"{m}_small", noisy)
    for name, size in (("noise", 32), ("noise_small", CLUE)):
        tracks = rows["audio"]
        noise = [(v, rng.standard_normal((len(t.values), size)), t.times) for v, t in tracks]
        _add(store, name, noise)


def _videos(store: FeatureStore) -> list[str]:
    return store.videos()["video_id"].to_pylist()


def _add(store: FeatureStore, name: str, tracks: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    spec = FeatureSpec(name=name, modality=name, shape=(tracks[0][1].shape[1],), rate=1.0)
    store.add(spec, [Track(video_id=v, values=x, times=times) for v, x, times in tracks])


def measured(
    run: Run, store: FeatureStore, truth: Mapping[str, np.ndarray], *, sampled: bool | None
) -> dict[str, float]:
    """Accuracy, use, costs, and how decisions agree with what is planted, on the test videos."""
    network = run.trained().to(choose_device("cpu"))
    if sampled is not None:
        network.policy.sampled = sampled
    items, specs = store.items("test"), run.specs
    found = measure(network, store, items, run)
    kept = {n: x for n, x in found.items() if n.startswith("used_") or n in ("accuracy", "gflops")}
    right = {m: np.zeros(3) for m in MODALITIES}  # both, used, planted
    for part in score(network, store, items, specs, run.config, label_set=None):
        carrier = np.stack([truth[item.video_id] for item in part.items])
        for m, name in enumerate(part.decisions.modalities):
            if name in MODALITIES:
                planted, used = carrier == MODALITIES.index(name), part.decisions.used[:, :, m]
                right[name] += (planted & used).sum(), used.sum(), planted.sum()
    for name, (both, used, planted) in right.items():
        if f"used_{name}" in kept:
            kept |= {f"precision {name}": both / max(used, 1), f"recall {name}": both / planted}
    return kept


def show(seeds: list[dict[str, dict[str, float]]]) -> None:
    columns = ["accuracy", "used_rgb", "used_audio", "used_noise", "gflops"]
    columns += [f"{what} {m}" for m in MODALITIES for what in ("precision", "recall")]
    print(f"{'':12}" + "".join(f"{c:>18}" for c in columns))
    for row in seeds[0]:
        cells = [[one[row].get(c, np.nan) for one in seeds] for c in columns]
        texts = ["" if np.isnan(x).any() else f"{np.mean(x):.3f} ± {_sd(x):.3f}" for x in cells]
        print(f"{row:12}" + "".join(f"{t:>18}" for t in texts))
    every = {row: np.array([one[row]["accuracy"] for one in seeds]) for row in seeds[0]}
    costs = {row: np.mean([one[row]["gflops"] for one in seeds]) for row in seeds[0]}
    for row in ("adamml", "drawn", "audio_first", "lite_eval"):
        lost = 100 * (every["all"] - every[row]).mean()
        print(
            f"{row}: {-lost:+.1f} points, {1 - costs[row] / costs['all']:.0%} fewer GFLOPs than all"
        )
    low, high = _interval(every["adamml"] - every["random"])
    print(f"adamml - random: {low:+.3f} to {high:+.3f} (95 %)")
    noise = max(one["with_noise"]["used_noise"] for one in seeds)
    print(f"noise is used in {noise:.1%} of the segments at most, over the seeds")


def _sd(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _interval(differences: np.ndarray) -> tuple[float, float]:
    t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}
    n = len(differences)
    away = t.get(n, 1.96 if n > 10 else np.nan) * _sd(list(differences)) / np.sqrt(n)
    return differences.mean() - away, differences.mean() + away


if __name__ == "__main__":
    main()
