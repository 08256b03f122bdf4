"""CMU-MOSI from features computed elsewhere: single features, fusions and context in one table.

    python benchmarks/mosi.py ../shared/data/features/mosi_bclstm/mosi.npz [--seeds 5] [--drop 0.2]

Each video is a track of its utterances, one row each, at its segment's number in seconds; each
utterance is a labelled interval of it. The test split is the official one, by video; validation is
20 % of the training videos; the weight decay is chosen on it, and nothing on the test split. The
text features were learned with the training labels (see the data's README), so validation accuracy
is near 98 % and cannot tell the settings apart. `--drop` is the chance of each modality to be
left out in training; the last columns measure the same runs with one modality missing at test.
"""

import argparse
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmf.fuse import TrainConfig, evaluate, load, train
from mmf.store import FeatureSpec, FeatureStore, Track

FEATURES = ("text", "audio", "video")
CLASSES = ("negative", "positive")
DECAYS = (0.01, 1.0, 10.0)
FUSIONS: dict[str, dict[str, Any]] = {
    "concat": {},
    "fc_concat": {},
    "mfb": {},
    "mfh": {},
    "mlb": {},
    "mutan": {"size": 200, "rank": 5, "outputs": 400},  # 77 M parameters otherwise
    "mcb": {"outputs": 4000},
    "weighted": {},
    "late": {},
    "early": {"hidden": 64},
    "mixer": {"hidden": 64, "blocks": 4, "lengths": dict.fromkeys(FEATURES, 1)},
    "mmf_transformer": {"hidden": 64, "layers": 4, "heads": 4},
}
SMALL_RATE = ("early", "mixer", "mmf_transformer")  # deep ones: 1e-4 instead of 1e-3


def read(path: Path) -> dict[str, np.ndarray]:
    """Both splits as one table of arrays, a row per utterance; `split` says which."""
    with np.load(path, allow_pickle=False) as file:
        names = {n.removeprefix("train_") for n in file if n.startswith("train_")}
        table = {n: np.concatenate([file[f"train_{n}"], file[f"test_{n}"]]) for n in names}
        sizes = [len(file[f"{split}_label"]) for split in ("train", "test")]
    return table | {"split": np.repeat(["train", "test"], sizes)}


def store_features(table: dict[str, np.ndarray], path: Path) -> FeatureStore:
    """A store with the three features, the utterances' labels and the official split."""
    store = FeatureStore.create(path)
    videos = np.unique(table["video_id"])
    rows = {v: np.flatnonzero(table["video_id"] == v) for v in videos}
    rows = {v: r[np.argsort(table["segment"][r])] for v, r in rows.items()}
    for name in FEATURES:
        spec = FeatureSpec(
            name=name, modality=name, shape=table[name].shape[1:], dtype="float32",
            recipe={"source": "bc-LSTM, declare-lab/multimodal-deep-learning@111b401d"},
        )  # fmt: skip
        times = table["segment"].astype(np.float64)
        store.add(
            spec,
            [
                Track(video_id=str(v), values=table[name][r], times=times[r])
                for v, r in rows.items()
            ],
        )
    labels = {
        (str(video), segment - 0.5, segment + 0.5): [CLASSES[label]]
        for video, segment, label in zip(
            table["video_id"], table["segment"].tolist(), table["label"], strict=True
        )
    }
    split = {str(v): str(table["split"][r[0]]) for v, r in rows.items()}
    store.label(labels, split=split, classes=CLASSES)
    return store


def baseline(table: dict[str, np.ndarray]) -> float:
    """Test accuracy of scikit-learn's standardised logistic regression (C 0.01) on all three."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([table[name] for name in FEATURES], 1)
    train_rows, test_rows = table["split"] == "train", table["split"] == "test"
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    model.fit(x[train_rows], table["label"][train_rows])
    return float(model.score(x[test_rows], table["label"][test_rows]))


def configs(store: FeatureStore) -> dict[str, TrainConfig]:
    """The table's rows, before their weight decay is chosen."""
    base = TrainConfig(store=store.path, features=FEATURES, dropout=0.5, patience=10, device="cpu")
    singles = {f: replace(base, features=(f,), fusion="single") for f in FEATURES}
    fusions = {n: replace(base, fusion=n, fusion_options=o) for n, o in FUSIONS.items()}
    fusions |= {n: replace(fusions[n], lr=1e-4) for n in SMALL_RATE}
    # as bc-LSTM's code: batches of 10 videos, dropout of 0.4 before the LSTM
    context = {"head": "sequence", "batch_size": 10, "dropout": 0.4}
    both = {f"{n}, in sequence": replace(fusions[n], **context) for n in ("concat", "mfb")}
    return singles | fusions | both


def select(config: TrainConfig) -> TrainConfig:
    """The config with the strongest weight decay that validation cannot tell from the best.

    The one-standard-error rule (Breiman et al. 1984): the best validation accuracy is a mean over a
    few hundred utterances; of those within one standard error of it, the most regularised stands.
    """
    found = {}
    for decay in DECAYS:
        run = train(replace(config, weight_decay=decay, out=f"{config.out}-select-{decay:g}"))
        lines = (run / "metrics.jsonl").read_text().splitlines()
        found[decay] = max(json.loads(line)["val_accuracy"] for line in lines)
        number = json.loads((run / "config.json").read_text())["data"]["items"]["val"]
    best = max(found.values())
    error = (best * (1 - best) / number) ** 0.5
    return replace(config, weight_decay=max(d for d, a in found.items() if a >= best - error))


def measured(config: TrainConfig, seeds: int) -> tuple[np.ndarray, int]:
    """Accuracy in % by seed: with everything, and without each feature (NaN: the only one)."""
    found, number = [], 0
    for seed in range(seeds):
        run = train(replace(config, seed=seed, out=f"{config.out}-{seed}"))
        losses = [()] if len(config.features) == 1 else [(), *((name,) for name in FEATURES)]
        tried = [100 * evaluate(run, device="cpu", without=w)["accuracy"] for w in losses]
        found.append(tried + [np.nan] * (1 + len(FEATURES) - len(tried)))
        number = load(run).parameter_counts()["total"]
    return np.array(found), number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="rows of the table whose names have this in them")
    parser.add_argument("--drop", type=float, default=0.0, help="modality dropout in training")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # that there is no val split is said above
    table = read(options.data)
    missing = " | ".join(f"no {name}" for name in FEATURES)
    print(f"| model | test accuracy | parameters | decay | {missing} |")
    print("|---|" + "---|" * 6)
    with tempfile.TemporaryDirectory() as folder:
        store = store_features(table, Path(folder) / "mosi.mmf")
        for name, config in configs(store).items():
            if options.only and options.only not in name:
                continue
            config = replace(config, modality_dropout=options.drop, out=f"{folder}/{name}")
            chosen = select(config)
            found, number = measured(chosen, options.seeds)
            cells = [
                "–" if np.isnan(m) else f"{m:.1f} ± {s:.1f}"
                for m, s in zip(found.mean(0), found.std(0, ddof=1), strict=True)
            ]
            cells[1:1] = [f"{number:,}", f"{chosen.weight_decay:g}"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"| logistic regression on all three (scikit-learn) | {100 * baseline(table):.1f} |")


if __name__ == "__main__":
    main()
