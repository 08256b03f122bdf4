"""The losses, from logits; labels that are not rated count nowhere."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(
    logits: Float[Tensor, "B C"], labels: Float[Tensor, "B C"], rated: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """The sum over the rated classes of the binary cross entropy, averaged over the items.

    As google/youtube-8m's CrossEntropyLoss, without its 1e-5. A mean over classes would be C times
    smaller: learning rates from code that takes one do not transfer.
    """
    each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return each.masked_fill(~rated, 0).sum() / max(len(logits), 1)


def cross_entropy(
    logits: Float[Tensor, "B C"], labels: Float[Tensor, "B C"], rated: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """``-sum_c y_c log softmax(logits)_c`` over the rated classes, mean over labelled items.

    y is divided by its sum, so an item of several labels has them in equal parts.
    """
    labels = labels * rated
    total = labels.sum(1, keepdim=True)
    log_p = logits.masked_fill(~rated, torch.finfo(logits.dtype).min).log_softmax(1)
    each = -(labels / total.clamp_min(1) * log_p).sum(1)
    return each.sum() / (total > 0).sum().clamp_min(1)


def smoothed(
    labels: Float[Tensor, "B C"], rated: Bool[Tensor, "B C"], loss: str, share: float
) -> Float[Tensor, "B C"]:
    """Labels to learn from of which a share says nothing (label smoothing).

    For ce, ``(1 - e) y / sum(y) + e / C`` over the C rated classes (Szegedy et al. 2016,
    arXiv:1512.00567, section 7), and items without a label stay so. For bce, where each class is a
    question of two answers, ``(1 - e) y + e / 2``.
    """
    if loss == "bce":
        return (1 - share) * labels + share / 2
    labels = labels * rated
    total = labels.sum(1, keepdim=True)
    even = rated / rated.sum(1, keepdim=True).clamp_min(1)
    mixed = (1 - share) * labels / total.clamp_min(1) + share * even
    return torch.where(total > 0, mixed, labels)


def probabilities(logits: Float[Tensor, "B C"], loss: str) -> Float[Tensor, "B C"]:
    """What the logits of a network trained with `loss` say: softmax for ce, sigmoid for bce."""
    return logits.softmax(1) if loss == "ce" else logits.sigmoid()


def of_mean(logits: Float[Tensor, "V B C"], loss: str) -> Float[Tensor, "B C"]:
    """Logits whose probabilities are the mean of those that V logits of each item say.

    By sums of exponentials, so that a probability of 1 has no infinite logit. For ce they are the
    logs of the mean, up to a constant.
    """
    if loss == "ce":
        return logits.log_softmax(2).logsumexp(0)
    return functional.logsigmoid(logits).logsumexp(0) - functional.logsigmoid(-logits).logsumexp(0)
