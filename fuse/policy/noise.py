"""The chance of decisions: logistic noise that follows from (seed, epoch, item) alone.

So a decision is the same in whatever batch, part or process an item is. The difference of two
Gumbel variables is logistic, ``log u - log(1 - u)``.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmf.fuse.policy.contract import SegmentFusion
from mmf.fuse.training.chance import uniform
from mmf.store import Item


def noise(
    policy: SegmentFusion, items: Iterable[Item], *, seed: int, epoch: int, device: torch.device
) -> Float[Tensor, "B S M"]:
    """Of each decision about the items; -1 is the epoch of what is not training."""
    shape = (policy.segments, len(policy.modalities))
    purpose = "decisions" if epoch >= 0 else "decisions that count"
    u = uniform(items, shape[0] * shape[1], seed=seed, epoch=epoch, purpose=purpose)
    u = np.clip(u, 2.0**-53, 1 - 2.0**-53)
    drawn = torch.from_numpy(np.log(u) - np.log1p(-u)).float()
    return drawn.unflatten(1, shape).to(device)
