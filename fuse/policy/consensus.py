"""What the segments of an item that use a modality say together.

With l_s what a modality says of segment s and d_s = 1 where it is used, of S segments,

    mean        1/S sum_s d_s l_s                                   AdaMML, as published
    attention   sum_s a_s l_s,  a_s = d_s exp(e_s) / (1 + sum_s' d_s' exp(e_s'))
                e_s = w^T (tanh(V x_s) * sigmoid(U x_s))

with x_s the mean of the segment's rows. The second is gated attention pooling (Ilse, Tomczak and
Welling, ICML 2018, arXiv:1802.04712) over what is used; the 1 stands for a segment that says
nothing, so that nothing used says zeros, as in the mean.

The gradient of d_s is what it changes: the sum with d_s = 1 less that with d_s = 0. For the mean
that is the derivative. Of attention the derivative would mislead: it is near 0 for the one segment
that decides everything, and without bound for one that is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmf.fuse.aggregators.attention import Attention, AttentionOptions
from mmf.fuse.policy.segments import Segmented, means

CONSENSUS = ("mean", "attention")
_HIGHEST = 20.0  # e: far above what is met, far below what float32 cannot hold


@dataclass(frozen=True, kw_only=True, eq=False)
class Together:
    """What each modality says of an item, and how much each segment weighs in it."""

    said: Float[Tensor, "B M C"]
    weights: Float[Tensor, "B S M"]


def averaged(
    used: Float[Tensor, "B S M"], said: Float[Tensor, "B S M C"], segments: Float[Tensor, "B M"]
) -> Together:
    """The mean over so many segments."""
    weights = used / segments.clamp_min(1)[:, None]
    return Together(said=torch.einsum("bsm,bsmc->bmc", weights, said), weights=weights)


class SegmentAttention(nn.Module):
    """Attention over segments, with a query for each modality."""

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        options = AttentionOptions(gated=True)
        self.each = nn.ModuleList(Attention(size, options) for size in sizes)

    def scores(self, cut: Segmented, features: Sequence[int]) -> Float[Tensor, "B S M"]:
        """e, of the features with these numbers."""
        found = []
        for m, attention in zip(features, self.each, strict=True):
            assert isinstance(attention, Attention)  # a ModuleList forgets it
            x = means(cut.steps[m], cut.masks[m]).unflatten(0, cut.valid.shape)
            found.append(attention.scores(x))
        return torch.stack(found, 2)


def attended(
    scores: Float[Tensor, "B S M"], used: Float[Tensor, "B S M"], said: Float[Tensor, "B S M C"]
) -> Together:
    """What is used, weighted by attention; what is not used has no say in it."""
    each = scores.clamp_max(_HIGHEST).exp()
    weights = used.detach() * each
    weights = weights / (1 + weights.sum(1, keepdim=True))
    found = torch.einsum("bsm,bsmc->bmc", weights, said)
    if used.requires_grad:
        change = _change(each.detach(), used.detach(), said.detach())
        found = found + torch.einsum("bsm,bsmc->bmc", used - used.detach(), change)
    return Together(said=found, weights=weights)


def _change(
    each: Float[Tensor, "B S M"], used: Float[Tensor, "B S M"], said: Float[Tensor, "B S M C"]
) -> Float[Tensor, "B S M C"]:
    """What each segment changes by being used, with the others as they are."""
    others = 1 - torch.eye(used.shape[1], dtype=used.dtype, device=used.device)
    weights = used * each
    without = 1 + torch.einsum("st,btm->bsm", others, weights)
    rest = torch.einsum("st,btm,btmc->bsmc", others, weights, said) / without[..., None]
    return (each / (without + each))[..., None] * (said - rest)
