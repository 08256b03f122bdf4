"""What is done to each row of a feature before anything is learned from it.

``standardise``: ``(x - mean) / sd`` of each dimension, from the rows of the training split only;
features of hand-made descriptors have dimensions of very different scales. ``l2``: every row to
length 1; as TensorFlow, the squared length is clamped at 1e-12. ``l2_joint``: the rows of all
features at a step have length 1 together, as YouTube-8M does to its 1024 + 128 numbers of a frame.
Rows that are not there come out as exact zeros, whatever was in them.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same, in float32 where autocast has made it less; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """Length 1 along `dim`; as in TensorFlow the squared length is clamped at 1e-12."""
    return x * x.square().sum(dim, keepdim=True).clamp_min(1e-12).rsqrt()


def l2_joint(steps: Sequence[Float[Tensor, "B _ _"]]) -> list[Float[Tensor, "B _ _"]]:
    """Rows (B, T_m, D_m) divided by the length of all rows at their step, side by side.

    google/youtube-8m concatenates rgb and audio before its L2. A feature of fewer steps has zeros
    at the others.
    """
    longest = max(x.shape[1] for x in steps)
    squares = [torch.linalg.vector_norm(x, dim=2, keepdim=True).square() for x in steps]
    padded = [functional.pad(s, (0, 0, 0, longest - s.shape[1])) for s in squares]
    scale = torch.stack(padded).sum(0).clamp_min(1e-12).rsqrt()  # (B, T, 1)
    return [x * scale[:, : x.shape[1]] for x in steps]


class Normalise(nn.Module):
    """Normalisation of one feature; `mean` and `sd` are buffers, kept with the weights."""

    mean: Tensor
    sd: Tensor

    def __init__(self, size: int, how: str):
        super().__init__()
        self.how = how
        if how == "standardise":
            self.register_buffer("mean", torch.zeros(size))
            self.register_buffer("sd", torch.ones(size))

    def forward(
        self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """The rows normalised, and zero where `mask` is False."""
        there = mask.unsqueeze(2)
        x = torch.where(there, x, 0.0)  # a third of the time of masked_fill
        if self.how == "standardise":
            x = torch.where(there, (x - self.mean) / self.sd, 0.0)
        elif self.how == "l2":
            x = unit(x, 2)
        return x

    def fit(self, rows: Iterable[Float[Tensor, "_ D"]]) -> int:
        """Take mean and sd from all rows, given in parts; the number of rows.

        In float64, by the update of Chan, Golub and LeVeque (1983). A dimension that does not
        vary keeps an sd of 1.
        """
        count = 0
        mean = torch.zeros(self.mean.shape, dtype=torch.float64)
        squares = torch.zeros_like(mean)  # sum of squared distances from the mean
        for part in rows:
            n = len(part)
            if not n:
                continue
            part = part.double()
            part_mean = part.mean(0)
            delta = part_mean - mean
            squares += (part - part_mean).square().sum(0)
            squares += delta.square() * (count * n / (count + n))
            mean += delta * (n / (count + n))
            count += n
        if count:
            sd = (squares / count).sqrt()
            constant = sd <= 1e-6 * mean.abs().clamp_min(1e-6)
            self.mean.copy_(mean)
            self.sd.copy_(sd.masked_fill(constant, 1))
        return count
