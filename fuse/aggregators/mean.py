"""Masked mean over time: ``(sum_t m_t x_t) / (sum_t m_t)``."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MeanOptions:
    """The mean has no options."""


class Mean(nn.Module):
    """The mean of the steps that are there; no parameters."""

    Options = MeanOptions

    def __init__(self, size: int, options: MeanOptions):
        super().__init__()
        self.out_size = size

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Mean of the steps; zeros for an item without one."""
        total = torch.where(mask.unsqueeze(2), x, 0.0).sum(1)
        return total / mask.sum(1, keepdim=True).clamp_min(1)
