"""A weighted sum of the features' logits: late fusion with a weight each.

``logit_c = sum_m w_mc logit_mc``, w one number for each feature (`weights="scalar"`) or for each
feature and class (`"class"`), starting at 1/M. AdaMML (Panda et al., ICCV 2021, arXiv:2105.05165)
learns M - 1 numbers, and the last is 1 minus their sum: `sum_to_one`.

What is missing contributes no logit. The others are then multiplied by M / (features that are
there), so that an item with fewer is not less sure for it; AdaMML leaves them as they are, which is
`renormalise=False`. The factor is a count and not a sum of weights, which may be near 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import unknown
from mmf.fuse.fusions.contract import LogitFusion

WEIGHTS = ("scalar", "class")


@dataclass(frozen=True, kw_only=True)
class WeightedOptions:
    """Options of the weighted sum."""

    weights: Literal["scalar", "class"] = "scalar"
    sum_to_one: bool = False  # the last feature's weight is 1 - the sum of the others
    renormalise: bool = True  # where a feature is missing
    runs: tuple[str, ...] = ()  # trained ones, of a single feature each, whose logits are summed

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise unknown("weights", self.weights, WEIGHTS)


class Weighted(LogitFusion):
    """The sum of the features' logits, each times its weight."""

    Options = WeightedOptions

    def __init__(self, features: Sequence[str], classes: int, options: WeightedOptions):
        super().__init__()
        self.options, self.runs = options, options.runs
        learned = len(features) - options.sum_to_one
        width = classes if options.weights == "class" else 1
        # flat, as a vector does not decay
        self.weights = nn.Parameter(torch.full((learned * width,), 1 / len(features)))
        self.shape = (learned, width)

    def forward(
        self, logits: Float[Tensor, "B M C"], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B C"]:
        """The weighted sum of what is there."""
        weights = self.weights.view(self.shape)  # (M, 1) or (M, C)
        if self.options.sum_to_one:
            weights = torch.cat([weights, 1 - weights.sum(0, keepdim=True)])
        total = (weights * logits.masked_fill(~present.unsqueeze(2), 0)).sum(1)
        if self.options.renormalise:
            total = total * (present.shape[1] / present.sum(1, keepdim=True).clamp_min(1))
        return total
