"""Pixels as networks take them, and the choice between a pooled row and a grid of tokens."""

from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf import unknown
from mmf.extract.backbones.contract import Setup

Scale = tuple[tuple[float, ...], tuple[float, ...]]  # mean, standard deviation of each colour

HALF: Scale = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET: Scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SLOWFAST: Scale = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
POOLS = ("own", "grid")  # as the network itself pools, or the map before that


def normalised(
    images: UInt8[Tensor, "B *T h w 3"], mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Float32[Tensor, "B *T 3 h w"]:
    """Pixels in 0…255 → (x / 255 - mean) / deviation, colours before height and width."""
    return standardised(images.movedim(-1, -3).float() / 255, mean, deviation)


def standardised(
    images: Float32[Tensor, "B *T 3 h w"], mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Float32[Tensor, "B *T 3 h w"]:
    """Images in 0…1 → (x - mean) / deviation, colour by colour."""
    low, width = (images.new_tensor(v).view(3, 1, 1) for v in (mean, deviation))
    return (images - low) / width


def pool_of(setup: Setup) -> str:
    """The option ``pool`` of a network that has a map; MmfError where it is none of `POOLS`."""
    pool = setup.options.get("pool", POOLS[0])
    if pool not in POOLS:
        raise unknown(f"pool of {setup.name}", pool, POOLS)
    return pool
