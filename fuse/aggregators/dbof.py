"""Deep bag of frames (DBoF): every step on many learned words, then the strongest of each.

Abu-El-Haija et al. 2016, arXiv:1609.08675; google/youtube-8m `frame_level_models.DbofModel`; for
MFB Liu, Yuan, et al. 2018 with K = 2000 words:

    h_t = ReLU(BN(W x_t))      (K,)
    h   = max_t h_t

Batch norm takes the place of a bias, and its statistics are those of the steps that are there. The
starter code's own form is ``clusters=8192, activation=sigmoid, input_norm=true, hidden=1024``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError, unknown
from mmf.fuse.layers.batch_norm import BatchNorm, pack, unpack

# none is ever below 0, so that the zeros of padding never win a maximum
ACTIVATIONS = {"relu": torch.relu, "relu6": functional.relu6, "sigmoid": torch.sigmoid}
POOLINGS = ("max", "mean")


@dataclass(frozen=True, kw_only=True)
class DBoFOptions:
    """Options of DBoF; the defaults are those of the MFB paper."""

    clusters: int = 2000  # K
    activation: Literal["relu", "relu6", "sigmoid"] = "relu"
    pooling: Literal["max", "mean"] = "max"
    input_norm: bool = False  # batch norm of the steps before anything else
    hidden: int = 0  # units of a layer behind the pooling; 0 is none

    def __post_init__(self) -> None:
        if self.clusters < 1 or self.hidden < 0:
            raise MmfError(
                f"DBoF with {self.clusters} clusters and {self.hidden} hidden units: "
                "expected at least 1 and 0."
            )
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)


class DBoF(nn.Module):
    """Max or mean over time of K units per step."""

    Options = DBoFOptions

    def __init__(self, size: int, options: DBoFOptions):
        super().__init__()
        self.activation = ACTIVATIONS[options.activation]
        self.pooling = options.pooling
        self.input_norm = BatchNorm(size) if options.input_norm else nn.Identity()
        self.words = _layer(size, options.clusters)
        self.hidden = _layer(options.clusters, options.hidden) if options.hidden else None
        self.out_size = options.hidden or options.clusters

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B H"]:
        """(B, K), or (B, hidden); zeros for an item without a step."""
        rows = self.activation(self.words(self.input_norm(pack(x, mask))))  # (N, K)
        steps = unpack(rows, mask)  # (B, T, K)
        if self.pooling == "max":
            pooled = steps.max(1).values
        else:
            pooled = steps.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        if self.hidden is None:
            return pooled
        present = mask.any(1)
        return unpack(self.activation(self.hidden(pack(pooled, present))), present)


def _layer(size: int, units: int) -> nn.Module:
    """A linear layer N(0, 1 / sqrt(size)) and its batch norm."""
    linear = nn.Linear(size, units, bias=False)
    nn.init.normal_(linear.weight, std=size**-0.5)
    return nn.Sequential(linear, BatchNorm(units))
