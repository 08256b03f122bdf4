"""What a training sees of an item: which of its rows, and which of its features.

``even`` is every row, or `max_steps` evenly spaced ones, and involves no chance; evaluation always
sees that. The others are google/youtube-8m's ``model_utils``, with n the rows of an item:
``frames`` draws `max_steps` rows with replacement, ``floor(U n)`` for each (SampleRandomFrames);
``sequence`` takes as many in a row from ``floor(U (max(n - steps, 0) + 1))`` on, the last one again
and again where they end before (SampleRandomSequence). Features are drawn together, so that rows of
one number stay beside each other. The chance is that of `fuse.training.chance`: by seed, epoch
and item.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmf.fuse.config import TrainConfig
from mmf.fuse.data import Inputs
from mmf.fuse.training.chance import uniform
from mmf.store import Batch


def rows_to_read(config: TrainConfig) -> int | None:
    """How many rows of an item a batch needs at most; None: all."""
    return config.max_steps if config.sample == "even" else None


def sampled(one: Inputs, batch: Batch, config: TrainConfig, epoch: int) -> Inputs:
    """The inputs as the training sees them in this epoch."""
    if config.sample != "even":
        one = _with_rows(one, batch, config, epoch)
    if config.modality_dropout:
        one = _with_features(one, batch, config, epoch)
    return one


def chosen_rows(
    draws: Float[np.ndarray, "B n"], lengths: Int[np.ndarray, " B"], how: str, steps: int
) -> Int[np.ndarray, "B S"]:
    """The numbers of the rows that uniform draws stand for; 0 where an item has none.

    Draws are (B, steps) for frames and (B, 1) for sequence.
    """
    n = lengths.astype(np.int64)[:, None]
    if how == "frames":
        rows = (draws * n).astype(np.int64)
    else:
        first = (draws * (np.maximum(n - steps, 0) + 1)).astype(np.int64)
        rows = first + np.arange(steps)
    return np.minimum(rows, np.maximum(n - 1, 0))


def dropped(
    draws: Float[np.ndarray, "B M"], present: Bool[np.ndarray, "B M"], chance: float
) -> Bool[np.ndarray, "B M"]:
    """Which features are left out: each by its chance, but never all that an item has.

    Of an item that would lose all, the one with the highest draw stays.
    """
    gone = (draws < chance) & present
    bare = ~(present & ~gone).any(1)
    last = np.where(present, draws, -1.0).argmax(1)
    gone[np.flatnonzero(bare), last[bare]] = False
    return gone


def _with_rows(one: Inputs, batch: Batch, config: TrainConfig, epoch: int) -> Inputs:
    how, steps = config.sample, config.max_steps
    number = steps if how == "frames" else 1
    draws = uniform(batch.items, number, seed=config.seed, epoch=epoch, purpose="rows")
    features, masks = {}, {}
    for name, x in one.features.items():
        rows = chosen_rows(draws, batch.lengths[name], how, steps)
        index = torch.from_numpy(rows).to(x.device)
        features[name] = x[torch.arange(len(x), device=x.device)[:, None], index]  # (B, S, …)
        masks[name] = one.masks[name].any(1, keepdim=True).expand(-1, steps).contiguous()
    return replace(one, features=features, masks=masks)


def _with_features(one: Inputs, batch: Batch, config: TrainConfig, epoch: int) -> Inputs:
    names = list(one.features)
    draws = uniform(batch.items, len(names), seed=config.seed, epoch=epoch, purpose="features")
    present = np.stack([batch.lengths[n] > 0 for n in names], 1)
    gone = torch.from_numpy(dropped(draws, present, config.modality_dropout))
    features, masks = {}, {}
    for i, name in enumerate(names):
        out = gone[:, i].to(one.masks[name].device)
        masks[name] = one.masks[name] & ~out[:, None]
        features[name] = _zeroed(one.features[name], out)
    return replace(one, features=features, masks=masks)


def _zeroed(x: Tensor, which: Bool[Tensor, " B"]) -> Tensor:
    return x.masked_fill(which.reshape(-1, *(1 for _ in x.shape[1:])), 0)
