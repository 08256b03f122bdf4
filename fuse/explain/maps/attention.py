"""What a run attends to in an item: the weights of each head, and what they come to.

Of a head's A (I, T), whose rows sum to 1 (those of gate_att's `gated` are divided by their sums),

    profile    prof_j = mean_i A_ij                          how much step j is looked at
    sparsity   1 - mean_i H(A_i) / log T                     H(p) = - sum_j p_j log p_j

0 where every row is spread evenly over all steps that are there, 1 where each looks at one step;
NaN where there is one step. Local attention is sparse by its neighbourhood alone: T counts all
steps, so that the levels can be held against each other. Profiles are those of Sahu and Goyal 2021,
arXiv:2110.13992; of several heads, the mean.

The forward pass stays as it is: a layer is watched by what it is called with, and its weights are
computed from that by the layer's own method.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmf.fuse.aggregators.attention import Attention
from mmf.fuse.explain.maps.given import calls, each_item
from mmf.fuse.explain.maps.layers import Steps, attention_layers, steps_of
from mmf.fuse.explain.subject import Subject
from mmf.fuse.layers.batch_norm import unpack
from mmf.fuse.layers.self_attention import SelfAttention
from mmf.fuse.text.bert import QueryKeyValue
from mmf.store import Item


@dataclass(frozen=True, kw_only=True, eq=False)
class Attended:
    """The weights of one layer for one item, between the T steps that are there."""

    item: Item
    layer: str  # the feature it serves, or its number
    steps: Steps
    maps: Mapping[str, Float[np.ndarray, "_ _ T"]]  # level → (heads, I, T); I is T, pooling has 1
    begins: float  # seconds of the video's first row

    def sparsity(self, level: str) -> Float[np.ndarray, " _"]:
        """Of each head."""
        return sparsity(self.maps[level])

    def profile(self, level: str) -> Float[np.ndarray, " T"]:
        """Mean over the heads; the steps sum to 1."""
        return even(self.maps[level]).mean((0, 1))

    def distance(self, level: str) -> Float[np.ndarray, " _"]:
        """Mean number of steps between one that looks and what it looks at, of each head."""
        A, at = even(self.maps[level]), np.arange(len(self.steps))
        if A.shape[1] != A.shape[2]:  # a learned query stands nowhere
            return np.full(len(A), np.nan)
        return (A * np.abs(at[:, None] - at)).sum(2).mean(1)

    def shares(self, level: str) -> dict[tuple[str, str], tuple[float, float]]:
        """(from, to) → the share of its attention that a feature's steps give to another's.

        Mean over heads and over the steps that look; beside it what it would be if they looked at
        all steps alike. Empty where all steps are of one feature.
        """
        names = list(dict.fromkeys(self.steps.features))
        A, of = even(self.maps[level]).mean(0), np.array(self.steps.features)
        if len(names) < 2 or A.shape[0] != A.shape[1]:
            return {}
        return {
            (a, b): (float(A[of == a][:, of == b].sum(1).mean()), float((of == b).mean()))
            for a in names
            for b in names
        }


def even(A: Float[np.ndarray, "_ _ T"]) -> Float[np.ndarray, "_ _ T"]:
    """The rows divided by their sums."""
    A = A.astype(np.float64)
    return A / np.maximum(A.sum(2, keepdims=True), np.finfo(np.float64).tiny)


def sparsity(A: Float[np.ndarray, "_ _ T"]) -> Float[np.ndarray, " _"]:
    """1 - normalised entropy of the rows, their mean, of each head."""
    A = even(A)
    if A.shape[2] < 2:
        return np.full(len(A), np.nan)
    logs = np.log(np.where(A > 0, A, 1.0))
    return 1 + (A * logs).sum(2).mean(1) / np.log(A.shape[2])


def attentions(subject: Subject) -> Iterator[tuple[Attended, ...]]:
    """What each layer attends to in each item, in order; an item without a row is left out.

    Raises MmfError where the run has no attention.
    """
    layers = attention_layers(subject)
    return _attentions(subject, layers)


def _attentions(
    subject: Subject, layers: Mapping[str, nn.Module]
) -> Iterator[tuple[Attended, ...]]:
    for given in each_item(subject):
        found = []
        for name, (arguments, _) in calls(subject, given, layers).items():
            maps, steps = weights(layers[name], *arguments), steps_of(subject.network, name, given)
            if len(steps):
                its = {level: A[0].cpu().numpy() for level, A in maps.items()}
                found.append(
                    Attended(
                        item=given.item, layer=name, steps=steps, maps=its, begins=given.begins
                    )
                )
        yield tuple(found)


@torch.no_grad()
def weights(layer: nn.Module, x: Tensor, mask: Tensor) -> dict[str, Float[Tensor, "1 _ _ T"]]:
    """Of what a layer was called with for one item: each level's, of the steps that are there."""
    if isinstance(layer, SelfAttention):
        maps, there = layer.maps(unpack(x, mask), mask), mask[0]
        return {level: A[:, :, there][..., there] for level, A in maps.items()}
    if isinstance(layer, Attention):
        return {"pooling": layer.weights(x, mask)[:, None, None, mask[0]]}
    if isinstance(layer, QueryKeyValue):
        there = mask[0, 0, 0]
        return {"attention": layer.weights(x, mask)[:, :, there][..., there]}
    raise TypeError(f"{type(layer).__name__} has no weights of attention.")
