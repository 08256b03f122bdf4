"""What the fusions that multiply features have in common.

Projections; the product, in which a feature that an item lacks is the factor 1; and power
normalisation. A product of M features is homogeneous of degree M in their scale, hence the L2.
"""

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError
from mmf.fuse.layers.normalise import at_least_float32

POWERS = ("relu", "signed_sqrt", "none")
_EPSILON = 1e-6  # of the signed square root: its steepest slope is 1 / (2 sqrt(1e-6)) = 500


def projection(size: int, units: int) -> nn.Linear:
    """A linear layer of Xavier's weights, whose biases start at 0."""
    layer = nn.Linear(size, units)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def product(
    factors: Sequence[Float[Tensor, "B N"]], present: Bool[Tensor, "B M"]
) -> Float[Tensor, "B N"]:
    """The elementwise product over the features, in float32 at least; 1 for what is missing."""
    there = zip(factors, present.unsqueeze(2).unbind(1), strict=True)
    return reduce(torch.mul, (torch.where(here, at_least_float32(x), 1.0) for x, here in there))


def normalised(x: Float[Tensor, "B N"], power: str) -> Float[Tensor, "B N"]:
    """Power normalisation, then L2; a row of zeros stays one.

    The square root is ``sign(x) (sqrt(|x| + eps) - sqrt(eps))``, as the bare one has no gradient at
    0, in a form in which nothing cancels where |x| is small.
    """
    if power == "relu":
        x = x.relu()
    elif power == "signed_sqrt":
        x = x / ((x.abs() + _EPSILON).sqrt() + _EPSILON**0.5)
    return functional.normalize(x, dim=1)


def refuse_one(fusion: str, features: Iterable[str]) -> None:
    """Raise MmfError, with the command to run first, where there are fewer than two features."""
    names = list(features)
    if len(names) > 1:
        return
    name = names[0] if names else "none"
    other = "audio" if name == "rgb" else "rgb"
    raise MmfError(
        f"fusion {fusion!r} multiplies two features or more; got {name}. "
        f"Run `mmf extract --modality {other}` first, name more --features, or train with "
        "--fusion single."
    )
