"""Masked maximum over time: ``max_t x_t`` of each dimension."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MaxOptions:
    """The maximum has no options."""


class Max(nn.Module):
    """The maximum of the steps that are there; no parameters."""

    Options = MaxOptions

    def __init__(self, size: int, options: MaxOptions):
        super().__init__()
        self.out_size = size

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Maximum of the steps; zeros for an item without one."""
        highest = x.masked_fill(~mask.unsqueeze(2), -float("inf")).amax(1)
        return highest.masked_fill(~mask.any(1, keepdim=True), 0)
