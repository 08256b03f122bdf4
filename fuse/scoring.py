"""Scores of items, the same for an item whatever other items it is asked for with.

A sum over padded steps, or a matrix product over more rows, may round differently in another shape.
So every forward pass has one of a few shapes: a fixed number of items, padded with items that have
nothing, and a number of steps that the item's own rows decide (the next power of two). Then the
scores of a clip alone equal its scores among a million.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmf.fuse.config import TrainConfig
from mmf.fuse.data import inputs, with_rows
from mmf.fuse.network import Network
from mmf.store import Batch, FeatureSpec, FeatureStore, Item

_ITEMS = 16  # of one forward pass
_READ = 256  # items read at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Logits of some items, beside what is known of them."""

    items: tuple[Item, ...]
    logits: np.ndarray  # float32 (B, C)
    labels: np.ndarray  # float32 (B, C)
    rated: np.ndarray  # bool (B, C)
    there: np.ndarray  # bool (B,): False where the item has no row, so its logits mean nothing


def score(
    network: Network,
    store: FeatureStore,
    items: Sequence[Item],
    specs: dict[str, FeatureSpec],
    config: TrainConfig,
    *,
    label_set: str | None,
) -> Iterator[Scored]:
    """Logits of the items, in order, from a network in eval mode on its own device."""
    was_training = network.training
    network.eval()
    try:
        for start in range(0, len(items), _READ):
            part = items[start : start + _READ]
            batch = store.batch(part, tuple(specs), label_set=label_set, max_steps=config.max_steps)
            logits = np.zeros((len(part), len(network.classes)), np.float32)
            for rows, steps in _groups(batch):
                logits[rows] = _forward(network, _fixed(batch, rows, steps), specs, config)
            yield Scored(
                items=batch.items,
                logits=logits,
                labels=batch.labels,
                rated=batch.rated,
                there=with_rows(batch),
            )
    finally:
        network.train(was_training)


def _groups(batch: Batch) -> Iterator[tuple[np.ndarray, int]]:
    """Positions of at most `_ITEMS` items that want the same number of steps, and that number."""
    longest = np.max(list(batch.lengths.values()), axis=0)
    steps = np.array([1 << max(int(n) - 1, 0).bit_length() for n in longest])
    for wanted in np.unique(steps):
        rows = np.flatnonzero(steps == wanted)
        for start in range(0, len(rows), _ITEMS):
            yield rows[start : start + _ITEMS], int(wanted)


def _fixed(batch: Batch, rows: np.ndarray, steps: int) -> Batch:
    """The chosen items as a batch of `_ITEMS` items and `steps` steps, without labels."""
    values, lengths = {}, {}
    for name, all_values in batch.values.items():
        kept = min(steps, all_values.shape[1])
        values[name] = np.zeros((_ITEMS, steps, *all_values.shape[2:]), all_values.dtype)
        values[name][: len(rows), :kept] = all_values[rows, :kept]
        lengths[name] = np.zeros(_ITEMS, np.int32)
        lengths[name][: len(rows)] = batch.lengths[name][rows]
    return Batch(
        items=tuple(batch.items[i] for i in rows),
        values=values,
        lengths=lengths,
        labels=np.zeros((_ITEMS, 0), np.float32),
        rated=np.zeros((_ITEMS, 0), bool),
    )


def _forward(
    network: Network, batch: Batch, specs: dict[str, FeatureSpec], config: TrainConfig
) -> np.ndarray:
    device = next(network.parameters()).device
    one = inputs(batch, specs, device)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"),
    ):
        logits = network(one.features, one.masks)
    return logits[: len(batch)].cpu().numpy()
