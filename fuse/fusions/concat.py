"""Concatenation, ``f = [x_1, …, x_M]``: early fusion's usual baseline.

An item that lacks feature m has a learned vector in its place, which starts at 0 (the mean, where
inputs are standardised) and stays there if every training item has the feature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf.fuse.fusions.contract import VectorFusion


@dataclass(frozen=True, kw_only=True)
class ConcatOptions:
    """Concatenation has no options."""


class Concat(VectorFusion):
    """The features' vectors side by side, in the features' order."""

    Options = ConcatOptions

    def __init__(self, sizes: Mapping[str, int], options: ConcatOptions, head_weights: int):
        super().__init__()
        self.missing = nn.ParameterList(torch.zeros(size) for size in sizes.values())
        self.out_size = sum(sizes.values())

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, D_1 + … + D_M)."""
        return torch.cat(filled(vectors, present, self.missing), 1)


def filled(
    vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"], missing: nn.ParameterList
) -> list[Float[Tensor, "B _"]]:
    """The vectors, with `missing[m]` for the items that lack feature m."""
    there = present.unsqueeze(2).unbind(1)  # M of (B, 1)
    return [
        torch.where(here, x, instead)
        for here, x, instead in zip(there, vectors, missing, strict=True)
    ]
