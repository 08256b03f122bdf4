"""Attention pooling by a learned query: a weighted mean whose weights the steps themselves give.

Ilse, Tomczak and Welling, ICML 2018, arXiv:1802.04712, equations 8 and 9:

    a_t = softmax_t( w^T tanh(V x_t) )                      or, gated,
    a_t = softmax_t( w^T (tanh(V x_t) * sigmoid(U x_t)) )
    z   = sum_t a_t x_t

w is the query, V and U are (L, D). Unlike self-attention no step sees another.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.layers.normalise import at_least_float32


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Options of attention pooling; the defaults are the authors'."""

    hidden: int = 128  # L
    gated: bool = False

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise MmfError(f"attention with hidden = {self.hidden}: expected at least 1.")


class Attention(nn.Module):
    """The mean of the steps, weighted by a learned query."""

    Options = AttentionOptions

    def __init__(self, size: int, options: AttentionOptions):
        super().__init__()
        self.project = nn.Linear(size, options.hidden, bias=False)
        self.gate = nn.Linear(size, options.hidden, bias=False) if options.gated else None
        self.query = nn.Linear(options.hidden, 1, bias=False)
        self.out_size = size

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Weighted mean of the steps; zeros for an item without one."""
        weights = self.weights(x, mask).unsqueeze(1)  # (B, 1, T)
        return (weights @ at_least_float32(x)).squeeze(1)

    def weights(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """a: how much each step counts; they sum to 1, or to 0 where there is no step."""
        scores = self.scores(x)
        lowest = torch.finfo(scores.dtype).min  # and not -inf, of which a row alone gives NaN
        return scores.masked_fill(~mask, lowest).softmax(1).masked_fill(~mask, 0)

    def scores(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
        """What the softmax is taken of."""
        hidden = self.project(x).tanh()
        if self.gate is not None:
            hidden = hidden * self.gate(x).sigmoid()
        return at_least_float32(self.query(hidden).squeeze(2))
