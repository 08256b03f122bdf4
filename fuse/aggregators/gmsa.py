"""GMSA: one layer of self-attention, global and local, over a feature's steps; then their mean.

Sahu and Goyal 2021, arXiv:2110.13992; `fuse.layers.self_attention` has the variants and equations,
`fuse.layers.neighbourhood` the masks. The layer is the original Transformer's, normalised behind:

    x <- LayerNorm(x + Attention(x))
    x <- LayerNorm(x + W_2 ReLU(W_1 x + b_1) + b_2)
    z  = mean_t x_t

The paper says neither what is pooled (here the mean of the steps that are there) nor what follows
the attention. Its baseline of 48.9 MB is 12.8 million parameters for features of 1024 and 128 and
3862 classes: attention takes 4.26 and a logistic head on 1152 numbers 4.45, which leaves 4.1 for a
feed-forward part; one that is twice as wide as the feature has 4.26 (49.5 MB in all), the nearest
round width. There is no encoding of position: order enters by the neighbourhoods alone.
"""

import logging
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.layers.batch_norm import pack, unpack
from mmf.fuse.layers.normalise import at_least_float32
from mmf.fuse.layers.self_attention import SelfAttention, SelfAttentionOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GMSAOptions(SelfAttentionOptions):
    """Options of GMSA, beside those of self-attention and of the neighbourhood."""

    feed_forward: int = 2  # units of the feed-forward part, times D; 0 leaves it out

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feed_forward < 0:
            raise MmfError(f"feed_forward = {self.feed_forward}: expected 0 or more.")


class GMSA(nn.Module):
    """The mean of the steps behind a layer of global and local self-attention."""

    Options = GMSAOptions

    def __init__(self, size: int, options: GMSAOptions):
        super().__init__()
        self.attention = SelfAttention(size, options)
        self.norm = nn.LayerNorm(size)
        self.feed_forward: nn.Module | None = None
        if options.feed_forward:
            wide = size * options.feed_forward
            self.feed_forward = nn.Sequential(
                nn.Linear(size, wide), nn.ReLU(), nn.Linear(wide, size)
            )
            self.feed_forward_norm = nn.LayerNorm(size)
        self.out_size = size
        self.mean_neighbours = options.sizes(options.steps).double().mean().item()  # mean |N_i|
        if options.variant != "baseline":
            logger.info(
                "gmsa: %s looks at %.1f of %d steps on average",
                *(options.mask, self.mean_neighbours, options.steps),
            )

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Mean of the steps' outputs; zeros for an item without a step."""
        total = at_least_float32(self.steps(x, mask)).sum(1)
        return total / mask.sum(1, keepdim=True).clamp_min(1)

    def steps(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Y: each step's output, before they are pooled; zeros where there is no step."""
        rows = pack(x, mask)
        rows = self.norm(rows + self.attention(rows, mask))
        if self.feed_forward is not None:
            rows = self.feed_forward_norm(rows + self.feed_forward(rows))
        return unpack(rows, mask)

    def maps(
        self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> dict[str, Float[Tensor, "B _ T T"]]:
        """The attention of each head, as `SelfAttention.maps` gives it."""
        return self.attention.maps(x, mask)
