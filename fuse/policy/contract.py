"""A fusion that decides, segment by segment, which modalities of an item are used.

It reads the rows themselves and gives logits; no aggregator or head stands around it, but it is
given `recogniser`, which makes the run's own of them for rows of D numbers:
``(B, R, D), (B, R) → (B, C)``. It says what each of its training's steps learns (`Stage`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of logits, labels and rated: mean over items
Recogniser = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """What came of some items. S segments, M modalities; padded segments are not `valid`."""

    logits: Float[Tensor, "B C"]
    used: Float[Tensor, "B S M"]  # 1 or 0; while training its gradient is that of a chance
    there: Bool[Tensor, "B S M"]  # the modality has a row there; else it is not used
    valid: Bool[Tensor, "B S"]
    # of each segment in what its modality says of the item; None where that is no weighted sum
    segment_weights: Float[Tensor, "B S M"] | None = None
    alone: Float[Tensor, "B M C"] | None = None  # what each modality says where it is, if asked

    def take(self, items: Tensor | slice) -> "Decided":
        """Some of the items."""
        return Decided(
            logits=self.logits[items],
            used=self.used[items],
            there=self.there[items],
            valid=self.valid[items],
            segment_weights=None if self.segment_weights is None else self.segment_weights[items],
            alone=None if self.alone is None else self.alone[items],
        )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a step learns, and how."""

    name: str
    learns: frozenset[str] = frozenset({"main", "policy"})
    temperature: float = 1.0  # of the chance whose gradient decisions have
    rate: float = 1.0  # times the learning rates
    weight: float = 1.0  # of the loss's term for what decisions cost
    begins: bool = False  # it is the first step: the optimisers forget what came before
    takes_best: bool = False  # and it goes on from the best weights so far
    first_to_count: bool = False  # and the best weights are chosen from here on


def decision(
    odds: Float[Tensor, "..."], noise: Float[Tensor, "..."] | None, temperature: float | None
) -> Float[Tensor, "..."]:
    """1 or 0 for log odds of use: a Gumbel-softmax of two, straight through with a temperature.

    Jang, Gu and Poole, ICLR 2017, arXiv:1611.01144. With logistic noise it is 1 with the chance
    ``sigmoid(odds)``, whatever the temperature, which is of the gradient alone.
    """
    total = odds if noise is None else odds + noise
    hard = (total > 0).to(odds.dtype)
    if temperature is None:
        return hard
    soft = torch.sigmoid(total / temperature)
    return hard + (soft - soft.detach())


class SegmentFusion(nn.Module, ABC):
    """Reads the features' rows, decides, and recognises from what it chose.

    ``(streams: Mapping[str, Stream], classes: int, options, recogniser)``. Parameters of the
    submodule `agent`, if it has one, are those of the policy: they have an optimiser of their own.
    """

    Options: ClassVar[type[Any]]
    modalities: tuple[str, ...]  # that are decided about
    clues: tuple[str, ...]  # features that decisions are made from
    segments: int  # S
    epochs: int  # of a training that is not told how long
    policy_lr: float = 1e-3  # of the optimiser of `agent`
    sampled: bool  # decisions are drawn when they count, too
    costs: Mapping[str, float]  # GFLOPs of a segment by feature, where they were given
    counts_costs: bool = False  # the best weights are those of the smallest loss and `cost_of`

    @property
    @abstractmethod
    def deciding(self) -> Sequence[nn.Module]:
        """What is computed in every segment to decide about it."""

    @abstractmethod
    def forward(
        self,
        steps: Sequence[Float[Tensor, "B _ _"]],
        masks: Sequence[Bool[Tensor, "B _"]],
        noise: Float[Tensor, "B S M"] | None = None,
        temperature: float | None = None,
    ) -> Decided:
        """M streams (B, T_m, D_m), zero where their masks are False.

        Noise is logistic and draws the decisions; without it they are the likelier ones. With a
        temperature they have a gradient.
        """

    def cost_of(self, rates: Mapping[str, float]) -> float:
        """What it costs, in units of the loss, to use each modality in such a share of segments."""
        return 0.0

    @abstractmethod
    def stage(self, step: int, steps: int, epoch_steps: int) -> Stage:
        """What the step with this number, from 0, learns in a training of so many steps."""

    @abstractmethod
    def loss(
        self,
        decided: Decided,
        labels: Float[Tensor, "B C"],
        rated: Bool[Tensor, "B C"],
        loss: Loss,
        stage: Stage,
    ) -> Float[Tensor, ""]:
        """What a step of this stage makes small; `labels` are the true ones, 0 and 1.

        `loss` is the run's own, which may smooth the labels it is given.
        """
