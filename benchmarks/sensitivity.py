"""Is attention with local context more sensitive to near steps, and is it so because it learned?

    python benchmarks/sensitivity.py [--seeds 5] [--quick]

Sahu and Goyal 2021 (GMSA) report that gate_op's local sensitivity (equation 10) is above that of
self-attention without masks. Here both are trained on made videos whose labels say whether two
patterns occur within 2 steps of each other (structure `local` of `mmf.fuse.planted`): the bag of a
video's frames says nothing of it. Near means the same for both: gate_op's Toeplitz neighbourhood.
gate_op looks near by the way it is built, so each network stands beside itself before training.

A seed has data and first weights of its own, the same for all rows. Intervals are 95 % (Student's
t) over seeds; differences are paired. Half of all labels hold, so a guess has a GAP of about 0.5.
"""

import argparse
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mmf.fuse import TrainConfig, evaluate, train
from mmf.fuse.explain.maps.sensitivity import sensitivities
from mmf.fuse.explain.subject import Subject, open_subject
from mmf.fuse.synthetic import SyntheticOptions, make

MADE = SyntheticOptions(
    structure="local", train=1200, val=200, test=500, rgb=32, audio=32, classes=6, latent=12
)
VARIANTS = ("baseline", "gate_op")
OPTIONS = {"extent": 6, "steps": 60, "heads": 4}
MEASURES = ("gap@20", "S before", "S after", "S learned")
PROBES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two seeds of few steps: it runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error(f"--seeds {given.seeds}: an interval needs at least 2.")
    seeds = range(2 if given.quick else given.seeds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, context, initializer=_quiet) as pool:
        show(list(pool.map(partial(of_seed, quick=given.quick), seeds)))


def of_seed(seed: int, *, quick: bool = False) -> dict[str, dict[str, float]]:
    """Each variant's GAP, and its mean S before and after training."""
    made = replace(MADE, seed=seed)
    if quick:
        made = replace(made, train=64, val=32, test=16, rows=44, fewest=36)
    found = {}
    with tempfile.TemporaryDirectory(prefix="mmf-sensitivity-") as folder:
        store = make(made, f"{folder}/feats.mmf")
        for variant in VARIANTS:
            run = train(
                TrainConfig(
                    store=store.path, out=f"{folder}/{variant}", device="cpu", seed=seed, lr=3e-3,
                    fusion="gmsa", fusion_options={**OPTIONS, "variant": variant},
                    steps=10 if quick else 200, eval_every=10 if quick else 50, patience=400,
                )
            )  # fmt: skip
            found[variant] = _measured(run, items=2 if quick else 8)
    return found


def _measured(run: Path, items: int) -> dict[str, float]:
    subject = open_subject(run, device="cpu")
    subject = replace(subject, items=subject.items.take(np.arange(items)))
    torch.manual_seed(subject.run.config.seed)  # as training does: these are its first weights
    first = subject.run.network().eval()
    first.normalise.load_state_dict(subject.network.normalise.state_dict())
    before, after = mean_local(replace(subject, network=first)), mean_local(subject)
    return {
        "gap@20": evaluate(run, device="cpu")["gap@20"],
        "S before": before,
        "S after": after,
        "S learned": after - before,
    }


def mean_local(subject: Subject) -> float:
    """Mean S over steps, then over layers and items."""
    return float(np.mean([one.mean for of in sensitivities(subject, None, PROBES) for one in of]))


def show(found: Sequence[Mapping[str, Mapping[str, float]]]) -> None:
    """Print the table, and what it says of the claim."""
    print(f"| mean ± 95 % interval, n = {len(found)} seeds | {' | '.join(MEASURES)} |")
    print("|---" * (len(MEASURES) + 1) + "|")
    for variant in VARIANTS:
        values = [[one[variant][name] for one in found] for name in MEASURES]
        print(f"| {variant} | {' | '.join(map(_said, values))} |")
    apart = [[one["gate_op"][m] - one["baseline"][m] for one in found] for m in MEASURES]
    print(f"| gate_op - baseline, paired | {' | '.join(map(_said, apart))} |\n")
    for name, values in zip(MEASURES[1:], apart[1:], strict=True):
        mean, reach = _interval(values)
        verdict = "higher" if mean > reach else "lower" if mean < -reach else "not told apart"
        print(f"{name} of gate_op against the baseline's: {verdict}.")


def _said(values: Sequence[float]) -> str:
    mean, reach = _interval(values)
    return f"{mean:.3f} ± {reach:.3f}"


def _interval(values: Sequence[float]) -> tuple[float, float]:
    from scipy.stats import t

    reach = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values)), float(reach)


def _quiet() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    main()
