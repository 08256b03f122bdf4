"""Pixels as networks take them, and the choice between a pooled row and a grid of tokens."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf import unknown
from mmf.extract.backbones.contract import Setup

Scale = tuple[tuple[float, ...], tuple[float, ...]]  # mean, standard deviation of each colour

IMAGENET: Scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
POOLS = ("own", "grid")  # as the network itself pools, or the map before that


def normalised(
    images: UInt8[Tensor, "B *T h w 3"], mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Float32[Tensor, "B *T 3 h w"]:
    """Pixels in 0…255 → (x / 255 - mean) / deviation, colours before height and width."""
    scaled = images.movedim(-1, -3).float() / 255
    low = torch.tensor(mean, device=images.device).view(3, 1, 1)
    return (scaled - low) / torch.tensor(deviation, device=images.device).view(3, 1, 1)


def pool_of(setup: Setup) -> str:
    """The option ``pool`` of a network that has a map; MmfError where it is none of `POOLS`."""
    pool = setup.options.get("pool", POOLS[0])
    if pool not in POOLS:
        raise unknown(f"pool of {setup.name}", pool, POOLS)
    return pool
