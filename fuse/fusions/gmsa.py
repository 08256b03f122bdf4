"""GMSA as a whole model: self-attention over each feature's own steps, pooled, side by side.

Sahu and Goyal 2021, arXiv:2110.13992: separate streams of picture and sound with one layer of
attention each, the mean over time of each, concatenated; a logistic head is the paper's. The layer
and its options are those of the aggregator (`mmf.fuse.aggregators.gmsa`), so that this equals
``--aggregate gmsa --fusion concat``. An item that lacks a feature has a learned vector in its
place, which starts at 0.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf.fuse.aggregators.gmsa import GMSA, GMSAOptions
from mmf.fuse.fusions.concat import filled
from mmf.fuse.fusions.contract import StepFusion, Stream


class GMSAFusion(StepFusion):
    """A layer of global and local self-attention for each feature, pooled and concatenated."""

    Options = GMSAOptions

    def __init__(self, streams: Mapping[str, Stream], options: GMSAOptions, head_weights: int):
        super().__init__()
        sizes = [stream.size for stream in streams.values()]
        self.streams = nn.ModuleList(GMSA(size, options) for size in sizes)
        self.missing = nn.ParameterList(torch.zeros(size) for size in sizes)
        self.out_size = sum(sizes)

    def forward(
        self, steps: Sequence[Float[Tensor, "B _ _"]], masks: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B H"]:
        """(B, D_1 + … + D_M)."""
        each = zip(self.streams, steps, masks, strict=True)
        pooled = [stream(x, mask) for stream, x, mask in each]
        present = torch.stack([mask.any(1) for mask in masks], 1)  # (B, M)
        return torch.cat(filled(pooled, present, self.missing), 1)
