"""What a run says of the test split: its metrics, its cost, and each item's best classes.

The best classes suffice to measure again on any resample of the items, and are few: accuracy asks
for one, GAP for twenty. They are kept in the run's folder, so that each run is tested once:

test.json  the metrics, FLOPs, milliseconds and parameters; written last
test.npz   of each item: id, video, the best classes' scores, whether they are right, positives
"""

import copy
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmf import MmfError
from mmf.fuse import METRICS
from mmf.fuse.compare.bootstrap import Mean, PooledPrecision, Statistic
from mmf.fuse.data import Inputs, choose_device, inputs
from mmf.fuse.evaluation.accumulator import Accumulator
from mmf.fuse.inference.scoring import Scored, score
from mmf.fuse.losses import probabilities
from mmf.fuse.metrics import SINGLE_LABEL
from mmf.fuse.network import Network
from mmf.fuse.policy.usage import Usage, took
from mmf.fuse.run import Run
from mmf.fuse.splits import by_split
from mmf.fuse.training.checkpoint import write_json
from mmf.store import FeatureStore
from mmf.store.items import Items

_BEST = 20  # classes of an item; GAP's
_ITEMS = 8  # of the batch whose operations are counted, and that is timed
_REPEATS = 5
_TEST, _ITEMS_FILE = "test.json", "test.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What a run says of the test split."""

    metrics: Mapping[str, float]
    parameters: int
    flops: float  # of one item; a product and its sum are two
    items: np.ndarray  # ids, text (B,)
    videos: np.ndarray  # their videos, text (B,)
    scores: np.ndarray  # float32 (B, K), best first; -inf where there are fewer rated classes
    hits: np.ndarray  # bool (B, K)
    positives: np.ndarray  # int64 (B,)
    milliseconds: float | None = None  # of one item in a small batch; None: not measured

    def statistic(self, metric: str, items: np.ndarray) -> Statistic:
        """The task's main metric as a function of how often each of these items counts."""
        at = {item: i for i, item in enumerate(self.items.tolist())}
        rows = np.array([at[item] for item in items.tolist()], np.int64)
        if metric == "accuracy":
            return Mean(self.hits[rows, 0].astype(np.float64))
        return PooledPrecision(self.scores[rows], self.hits[rows], self.positives[rows])


def scores_of(path: Path, device: str) -> Scores:
    """What the run in `path` says of the test split of its store; asked once, then read again."""
    if not (path / _TEST).exists():
        run = Run.open(path)
        store = FeatureStore(run.config.store)
        items = held_out(store, run)
        network = run.trained().to(choose_device(device))
        found, arrays = _measured(network, store, items, run)
        found |= {
            "parameters": network.parameter_counts()["total"],
            "flops": flops_per_item(network, store, items[:_ITEMS], run),
            "milliseconds": milliseconds_per_item(network, store, items[:_ITEMS], run),
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        (path / _ITEMS_FILE).write_bytes(buffer.getvalue())
        write_json(path / _TEST, found)
    values = json.loads((path / _TEST).read_text(encoding="utf-8"))
    with np.load(path / _ITEMS_FILE) as arrays:
        return Scores(**values, **arrays)


def held_out(store: FeatureStore, run: Run) -> Items:
    """The items of the test split, as the run was told it."""
    split_set = run.config.split_set or None
    parts = by_split(store.items(label_set=run.config.label_set, split_set=split_set), run.assigned)
    if "test" not in parts:
        raise MmfError(
            f"no item is in split 'test'; the splits are {', '.join(sorted(parts)) or 'none'}. "
            "`mmf split` makes one."
        )
    return parts["test"]


def flops_per_item(network: Network, store: FeatureStore, items: Items, run: Run) -> float:
    """Floating-point operations of a forward pass over a batch of these items, for one of them.

    Those that torch counts: products of matrices, convolutions and attention; a product and its sum
    are two. What stands elementwise between them is not counted. On a CPU in float64, with
    attention in its plain form, for torch takes its fused LSTM and fused attention for nothing.
    """
    specs = {n: s for n, s in run.specs.items() if n in store.features}
    batch = store.batch(items, tuple(specs), label_set=None, max_steps=run.config.max_steps)
    one = inputs(batch, specs, torch.device("cpu"))
    network = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    features = {name: x.double() for name, x in one.features.items()}
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        _forward(network, replace(one, features=features))
    return counter.get_total_flops() / len(batch)


def milliseconds_per_item(network: Network, store: FeatureStore, items: Items, run: Run) -> float:
    """What a forward pass over these items takes on the network's device, for one of them.

    Median of a few, in float32, of the network alone: features are there.
    """
    specs = {n: s for n, s in run.specs.items() if n in store.features}
    batch = store.batch(items, tuple(specs), label_set=None, max_steps=run.config.max_steps)
    device = next(network.parameters()).device
    one, took = inputs(batch, specs, device), []
    with torch.inference_mode():
        for _ in range(1 + _REPEATS):
            started = time.perf_counter()
            _forward(network, one).sum().item()  # which waits for a device
            took.append(time.perf_counter() - started)
    return 1000 * median(took[1:]) / len(batch)


def _forward(network: Network, one: Inputs) -> Tensor:
    if (policy := network.policy) is None:
        return network(one.features, one.masks, one.videos)
    # what it decides changes nothing of the effort, and a random one decides by noise
    shape = (len(one.videos), policy.segments, len(policy.modalities))
    nothing = torch.zeros(shape, device=one.videos.device)
    return network.decide(one.features, one.masks, nothing).logits


def _measured(
    network: Network, store: FeatureStore, items: Items, run: Run
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    names = [n for n in METRICS if run.task == "single" or n not in SINGLE_LABEL]
    accumulator, parts = Accumulator(names), []
    specs = {n: s for n, s in run.specs.items() if n in store.features}
    label_set, policy = run.config.label_set, network.policy
    usage = None if policy is None else Usage(policy, run.specs, took(store, run.specs))
    for part in score(network, store, items, specs, run.config, label_set=label_set):
        if usage is not None and part.decisions is not None:
            usage.add(part.decisions)
        found = probabilities(torch.from_numpy(part.logits), run.loss).float().numpy()
        there = part.there
        accumulator.add(found[there], part.labels[there], part.rated[there])
        parts.append(best_of(part, found))
    columns = zip(*parts, strict=True)
    keys = ("items", "videos", "scores", "hits", "positives")
    arrays = {key: np.concatenate(c) for key, c in zip(keys, columns, strict=True)}
    used = {} if usage is None else usage.result()
    return {"metrics": accumulator.result() | used}, arrays


def best_of(part: Scored, found: np.ndarray) -> tuple[np.ndarray, ...]:
    """Ids, videos, best scores, hits and positives of the items that have rows."""
    there = np.flatnonzero(part.there)
    items = [part.items[int(i)] for i in there]
    kept = np.where(part.rated[there], found[there], -np.inf)
    right = (part.labels[there] > 0) & part.rated[there]
    best = np.argsort(-kept, axis=1, kind="stable")[:, :_BEST]  # ties: the lower class first
    return (
        np.array([item.id for item in items], str),
        np.array([item.video_id for item in items], str),
        np.take_along_axis(kept, best, 1),
        np.take_along_axis(right, best, 1),
        right.sum(1),
    )
