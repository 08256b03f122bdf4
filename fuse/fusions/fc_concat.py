"""FC-concat: a fully connected layer per feature, then concatenation; MFB's control.

``f = [W_1 x_1 + b_1, …, W_M x_M + b_M]``: the projections of MFB without its product. "With the
same number of parameters" can mean two things, and both are offered. `match="projections"` gives
each layer MFB's k o units, as the paper does: the projections are equal, but the head behind sees
M k o inputs instead of o, and is that much larger. `match="total"` chooses the units so that
projections and head together have as many parameters as MFB's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError, unknown
from mmf.fuse.fusions.concat import filled
from mmf.fuse.fusions.contract import VectorFusion

MATCHES = ("projections", "total")
ACTIVATIONS = ("none", "relu")


@dataclass(frozen=True, kw_only=True)
class FCConcatOptions:
    """Options of FC-concat; factors and outputs are those of the MFB to match."""

    factors: int = 5  # k
    outputs: int = 1000  # o
    match: Literal["projections", "total"] = "projections"
    activation: Literal["none", "relu"] = "none"  # the paper names none

    def __post_init__(self) -> None:
        if self.factors < 1 or self.outputs < 1:
            raise MmfError(
                f"FC-concat with {self.factors} factors and {self.outputs} outputs: "
                "expected at least 1."
            )
        if self.match not in MATCHES:
            raise unknown("match", self.match, MATCHES)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)


class FCConcat(VectorFusion):
    """One linear layer per feature, side by side."""

    Options = FCConcatOptions

    def __init__(self, sizes: Mapping[str, int], options: FCConcatOptions, head_weights: int):
        super().__init__()
        units = _units(sizes, options, head_weights)
        self.missing = nn.ParameterList(torch.zeros(size) for size in sizes.values())
        self.projections = nn.ModuleList(nn.Linear(size, units) for size in sizes.values())
        self.activation = nn.ReLU() if options.activation == "relu" else nn.Identity()
        self.out_size = units * len(sizes)

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, M units); a feature that an item lacks is a learned vector, as in concat."""
        inputs = filled(vectors, present, self.missing)
        return self.activation(
            torch.cat([fc(x) for fc, x in zip(self.projections, inputs, strict=True)], 1)
        )


def _units(sizes: Mapping[str, int], options: FCConcatOptions, head_weights: int) -> int:
    """Units of each layer, so that the chosen number of parameters is MFB's."""
    product = options.factors * options.outputs
    if options.match == "projections":
        return product
    per_unit = sum(size + 1 for size in sizes.values())
    mfb = per_unit * product + head_weights * options.outputs
    return max(1, round(mfb / (per_unit + head_weights * len(sizes))))
