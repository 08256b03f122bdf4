"""Do the papers' orderings show where what the labels hang on is known?

    python benchmarks/synthetic.py [product both local few] [--seeds 5] [--quick]

product  labels are the sign of a product of rgb and audio; neither alone nor anything linear says
         them. Liu et al. 2018: MFB > FC-concat > concat > single feature (GAP), all with the
         paper's mixture of experts
both     the same, but half of what decides a label is said by the modalities alone, as in real
         videos
local    labels are whether two patterns occur near each other. Sahu and Goyal 2021 (GMSA):
         gate_op > share_att > self-attention without masks (GAP); the Toeplitz mask reaches over
         a tenth of the steps to each side, as the paper's 30 of 300
few      labels are carried by one modality in some segments: accuracy over the number of training
         videos. Disney's post: MLP-Mixer > MMFTransformer with few of them, and > a classifier of
         the features (concat)

The data is that of `mmf.fuse.synthetic`, made anew for each seed, the same for all rows of a table.
Every row has the same steps; its learning rate is chosen from the same few on the validation videos
of a seed of its own, and its weights by validation in each run. Two rows differ where the 95 %
interval (Student's t) of their paired differences leaves out 0. Beside them stand rules that are
not ours: what scikit-learn's logistic regression reads from the means over time, side by side or
multiplied with each other, and what one says who knows the truth but for the labels turned over.
"""

import argparse
import json
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmf.fuse import METRICS, TrainConfig, evaluate, load, train
from mmf.fuse.synthetic import Synthetic, SyntheticOptions, make

Place = tuple[str, int | None]  # a row, and how many training videos it has; None is all
CHOOSES = 1000  # the seed of the data on which learning rates are chosen


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table: rows trained on the same data, and the order that a paper gives them."""

    made: SyntheticOptions
    base: Mapping[str, Any]  # of TrainConfig, in all rows
    rows: Mapping[str, Mapping[str, Any]]
    claims: Sequence[tuple[str, str]]  # the first better than the second
    metric: str = "gap@20"
    rates: Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2)
    sizes: Sequence[int] = ()  # training videos; () is all
    rules: Sequence[str] = ()  # of RULES


_MFB = {"factors": 5, "outputs": 100}
_FUSIONS: dict[str, dict[str, Any]] = {
    "rgb": {"features": ("rgb",), "fusion": "single"},
    "audio": {"features": ("audio",), "fusion": "single"},
    "concat": {"fusion": "concat"},
    "FC-concat": {"fusion": "fc_concat", "fusion_options": _MFB},
    "MFB": {"fusion": "mfb", "fusion_options": _MFB},
}
_PRODUCT = Experiment(
    made=SyntheticOptions(structure="product", train=2000, val=500, test=1000),
    base={"head": "moe", "steps": 600},
    rows=_FUSIONS,
    claims=[("MFB", "FC-concat"), ("FC-concat", "concat"), ("concat", "rgb"), ("concat", "audio")],
    rules=("linear in the means", "linear in their products", "the truth"),
)
_GMSA = {"extent": 6, "steps": 60}
_SMALL = {"hidden": 64}
EXPERIMENTS = {
    "product": _PRODUCT,
    "both": replace(_PRODUCT, made=replace(_PRODUCT.made, options={"alone": 0.5})),
    "local": Experiment(
        made=SyntheticOptions(structure="local", train=2000, val=250, test=1000),
        base={"fusion": "gmsa", "steps": 600},
        rows={
            v: {"fusion_options": {**_GMSA, "variant": v}}
            for v in ("baseline", "share_att", "gate_att", "gate_op")
        },
        claims=[("gate_op", "share_att"), ("share_att", "baseline")],
        rates=(1e-3, 3e-3),
        rules=("linear in the means", "the truth"),
    ),
    "few": Experiment(
        made=SyntheticOptions(
            structure="segments", options={"segments": 6}, train=2000, val=250, test=1000, rows=24,
            fewest=16,
        ),
        base={"max_steps": 24, "steps": 300},
        rows={
            "concat": {"fusion": "concat"},
            "MLP-Mixer": {"fusion": "mixer", "fusion_options": {**_SMALL, "blocks": 2}},
            "MMFTransformer": {
                "fusion": "mmf_transformer", "fusion_options": {**_SMALL, "layers": 2, "heads": 4}
            },
        },
        claims=[("MLP-Mixer", "MMFTransformer"), ("MLP-Mixer", "concat")],
        metric="accuracy",
        rates=(3e-4, 1e-3, 3e-3),
        sizes=(125, 500, 2000),
        rules=("linear in the means", "the truth"),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training."""

    experiment: Experiment
    row: str
    seed: int
    rate: float
    size: int | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two seeds of few steps: it runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if strange := {*given.names} - {*EXPERIMENTS}:
        parser.error(f"{', '.join(strange)}: expected of {', '.join(EXPERIMENTS)}.")
    if given.seeds < 2:
        parser.error(f"--seeds {given.seeds}: a deviation needs at least 2.")
    seeds = range(2 if given.quick else given.seeds)
    with ProcessPoolExecutor(
        given.jobs, multiprocessing.get_context("spawn"), initializer=_quiet
    ) as pool:
        for name in given.names or EXPERIMENTS:
            experiment = shortened(EXPERIMENTS[name]) if given.quick else EXPERIMENTS[name]
            with tempfile.TemporaryDirectory(prefix="mmf-synthetic-") as folder:
                print(f"\n## {name}\n", flush=True)
                for line in run(experiment, seeds, Path(folder), pool.map):
                    print(line, flush=True)


def shortened(experiment: Experiment) -> Experiment:
    """The same of little data in few steps: that it runs, and no more."""
    made = replace(experiment.made, train=160, val=64, test=64)
    return replace(
        experiment, made=made, base={**experiment.base, "steps": 20},
        rates=experiment.rates[:2], sizes=experiment.sizes and (80, 160),
    )  # fmt: skip


def run(
    experiment: Experiment, seeds: Sequence[int], folder: Path, each: Callable[..., Any] = map
) -> Iterator[str]:
    """The lines of an experiment's table, and then what it says of the paper's order."""
    list(each(partial(_make, experiment, folder), [CHOOSES, *seeds]))
    places = [(row, size) for row in experiment.rows for size in experiment.sizes or (None,)]
    chosen = _rates(experiment, places, partial(each, partial(_train, folder)))
    trials = [
        Trial(experiment=experiment, row=row, seed=seed, rate=chosen[row, size], size=size)
        for row, size in places
        for seed in seeds
    ]
    found: dict[Place, list[float]] = {place: [] for place in places}
    parameters = {}
    for trial, one in zip(trials, each(partial(_train, folder), trials), strict=True):
        found[trial.row, trial.size].append(one["test"])
        parameters[trial.row] = one["parameters"]
    rules = {rule: list(each(partial(_rule, experiment, rule), seeds)) for rule in experiment.rules}
    sizes = experiment.sizes or (None,)
    heads = [experiment.metric if s is None else f"{s} videos" for s in sizes]
    yield f"| {' | '.join(['', *heads, 'parameters', 'learning rate'])} |"
    yield "|---" * (len(sizes) + 3) + "|"
    for row in experiment.rows:
        values = [_mean_sd(found[row, s]) for s in sizes]
        rates = ", ".join(dict.fromkeys(f"{chosen[row, s]:g}" for s in sizes))
        yield f"| {row} | {' | '.join(values)} | {parameters[row]:,} | {rates} |"
    for rule, of_seeds in rules.items():
        yield f"| {rule} | {' | '.join([''] * (len(sizes) - 1) + [_mean_sd(of_seeds)])} | | |"
    yield ""
    yield from said(experiment, found)


def _rates(
    experiment: Experiment, places: Sequence[Place], trained: Callable[..., Any]
) -> dict[Place, float]:
    """The learning rate of each row and number of videos that is best on validation."""
    trials = [
        Trial(experiment=experiment, row=row, seed=CHOOSES, rate=rate, size=size)
        for row, size in places
        for rate in experiment.rates
    ]
    best: dict[Place, tuple[float, float]] = {}
    for trial, one in zip(trials, trained(trials), strict=True):
        place = trial.row, trial.size
        best[place] = max(best.get(place, (-1.0, 0.0)), (one["val"], trial.rate))
    return {place: rate for place, (_, rate) in best.items()}


def said(experiment: Experiment, found: Mapping[Place, Sequence[float]]) -> Iterator[str]:
    """For each claim, and number of videos, the paired differences and whether it shows."""
    for size in experiment.sizes or (None,):
        for better, worse in experiment.claims:
            apart = np.subtract(found[better, size], found[worse, size])
            reach = _interval(apart)
            verdict = "shows" if apart.mean() > reach else "does not show"
            if apart.mean() < -reach:
                verdict = "does not show: the reverse does"
            of = "" if size is None else f" of {size} videos"
            wins = f"{(apart > 0).sum()} of {len(apart)} seeds"
            yield f"{better} > {worse}{of}: {apart.mean():+.3f} ± {reach:.3f} ({wins}), {verdict}."


def _interval(apart: np.ndarray) -> float:
    """Half of the 95 % interval of the mean."""
    from scipy.stats import t

    return float(t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5)


def _mean_sd(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def _make(experiment: Experiment, folder: Path, seed: int) -> None:
    make(replace(experiment.made, seed=seed), folder / f"{seed}.mmf")


def _train(folder: Path, trial: Trial) -> dict[str, float]:
    """Best validation, test and number of parameters of one training."""
    experiment, steps = trial.experiment, trial.experiment.base["steps"]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        chosen = {**experiment.base, **experiment.rows[trial.row]}
        config = TrainConfig(
            store=folder / f"{trial.seed}.mmf", out=f"{out}/run", device="cpu", seed=trial.seed,
            lr=trial.rate, train_videos=trial.size, eval_every=steps // 10, patience=steps,
            **chosen,
        )  # fmt: skip
        run = train(config)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        metric = "val_gap@20" if "val_gap@20" in lines[0] else "val_accuracy"
        return {
            "val": max(line[metric] for line in lines),
            "test": evaluate(run, device="cpu")[experiment.metric],
            "parameters": load(run).parameter_counts()["total"],
        }


def _rule(experiment: Experiment, rule: str, seed: int) -> float:
    """What the metric is on the test videos of a rule that is not ours."""
    videos = list(Synthetic(replace(experiment.made, seed=seed)))
    labels = np.array([v.labels for v in videos], dtype=np.float32)
    splits = np.array([v.split for v in videos])
    if rule == "the truth":
        scores = np.array([v.planted.labels for v in videos], dtype=np.float32)
    else:
        rgb, audio = (np.array([v.rows[m].mean(0) for v in videos]) for m in ("rgb", "audio"))
        x = np.concatenate([rgb, audio], 1)
        if rule == "linear in their products":
            x = np.einsum("ni,nj->nij", rgb, audio).reshape(len(rgb), -1)
        scores = _regressed(x, labels, splits, METRICS.load(experiment.metric))
    return METRICS.load(experiment.metric)(scores[splits == "test"], labels[splits == "test"])


def _regressed(
    x: np.ndarray, labels: np.ndarray, splits: np.ndarray, metric: Callable[..., float]
) -> np.ndarray:
    """Probabilities by a logistic regression of each class, its C chosen on validation."""
    from sklearn.linear_model import LogisticRegression

    learned, val = splits == "train", splits == "val"
    x = (x - x[learned].mean(0)) / x[learned].std(0)
    found = []
    for c in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        rules = [
            LogisticRegression(C=c, max_iter=300).fit(x[learned], y[learned]) for y in labels.T
        ]
        scores = np.stack([rule.predict_proba(x)[:, 1] for rule in rules], 1).astype(np.float32)
        found.append((metric(scores[val], labels[val]), c, scores))
    return max(found, key=lambda one: one[:2])[2]


def _quiet() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    main()
