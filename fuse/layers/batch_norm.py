"""Batch normalisation over the rows that are there: ``y = g (x - mean) / sqrt(var + 1e-3) + b``.

Ioffe and Szegedy 2015, with the constants of google/youtube-8m (`slim.batch_norm`: epsilon 1e-3,
decay 0.999). Padding would count in mean and variance, so the rows of all items are packed before,
(B, T, D) to (N, D), and put back behind: what is not there is not computed either.

A run of a few hundred steps at a decay of 0.999 would be evaluated with statistics that are mostly
the zeros and ones that they began as. So step n moves them by 10 / (n + 10), which is a mean over
about the last tenth of the steps, until that is the source's 1e-3.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf.fuse.layers.normalise import at_least_float32

_EPSILON = 1e-3
_MOMENTUM = 1e-3


class BatchNorm(nn.Module):
    """Batch normalisation of packed rows."""

    mean: Tensor
    var: Tensor
    steps: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """The rows normalised, in float32 at least; one row alone by the running statistics."""
        learn, momentum = self.training and len(rows) > 1, 0.0
        if learn:
            momentum = max(_MOMENTUM, 10 / (int(self.steps) + 10))
            self.steps += 1
        rows, scale = at_least_float32(rows), (self.weight, self.bias)
        return functional.batch_norm(rows, self.mean, self.var, *scale, learn, momentum, _EPSILON)


def pack(x: Float[Tensor, "*S D"], mask: Bool[Tensor, "*S"]) -> Float[Tensor, "N D"]:
    """The rows that are there, in order; where a graph of fixed shapes is made, all rows."""
    if torch.compiler.is_exporting() or mask.all():
        return x.flatten(0, mask.ndim - 1)
    return x[mask]


def unpack(rows: Float[Tensor, "N D"], mask: Bool[Tensor, "*S"]) -> Float[Tensor, "*S D"]:
    """The rows in their places again, and zeros where `mask` is False."""
    if torch.compiler.is_exporting():
        return rows.unflatten(0, mask.shape).masked_fill(~mask.unsqueeze(-1), 0)
    if len(rows) == mask.numel():
        return rows.unflatten(0, mask.shape)
    places = rows.new_zeros(*mask.shape, rows.shape[1])
    return torch.index_put(places, (mask,), rows)
