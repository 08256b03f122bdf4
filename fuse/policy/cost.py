"""What a training with a policy makes small, beside the loss of its answers.

AdaMML (arXiv:2105.05165) and the authors' code: with ``share_nk`` the share of item n's segments in
which modality k is used, and ``right_n`` whether the answer is,

    correct   sum_k λ_k mean_n right_n share_nk²  +  γ mean_n (1 - right_n)
    mean      sum_k λ_k mean_n share_nk

So sparing counts where the answer is right; where it is wrong, what it would take to be right comes
from the loss of the answer alone: the term with γ is a constant to its gradient, and moves no more
than the loss that is shown. Of several labels, right is that the best class is one of them (Hit@1).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmf.fuse.policy.contract import Decided, Loss

PENALTIES: Sequence[str] = ("correct", "mean")


def penalty(
    decided: Decided,
    labels: Float[Tensor, "B C"],
    rated: Bool[Tensor, "B C"],
    cost: Float[Tensor, " M"],
    gamma: float,
    how: str,
) -> Float[Tensor, ""]:
    """The term of the policy's loss, mean over the items."""
    share = shares(decided)
    if how == "mean":
        return (share.mean(0) * cost).sum()
    right = is_right(decided.logits, labels, rated).to(share.dtype)
    return (right[:, None] * share.square()).mean(0) @ cost + gamma * (1 - right).mean()


def shares(decided: Decided) -> Float[Tensor, "B M"]:
    """The share of an item's segments in which each modality is used."""
    return decided.used.sum(1) / decided.valid.sum(1, keepdim=True).clamp_min(1)


def is_right(
    logits: Float[Tensor, "B C"], labels: Float[Tensor, "B C"], rated: Bool[Tensor, "B C"]
) -> Bool[Tensor, " B"]:
    """Whether the best of the rated classes is a label."""
    best = logits.detach().masked_fill(~rated, -torch.inf).argmax(1, keepdim=True)
    return (labels * rated).gather(1, best).squeeze(1) > 0


def alone_loss(
    decided: Decided, labels: Float[Tensor, "B C"], rated: Bool[Tensor, "B C"], loss: Loss
) -> Float[Tensor, ""]:
    """The modalities' own losses, each on the items that have it, summed; mean over all items."""
    if decided.alone is None:
        raise ValueError("nothing says what each modality would say alone")
    total = decided.alone.sum() * 0.0
    for m, having in enumerate(decided.there.any(1).unbind(1)):
        number = int(having.sum())
        if number:
            own = loss(decided.alone[having, m], labels[having], rated[having])
            total = total + own * (number / len(having))
    return total
