"""What a fusion is given and what it gives, in three kinds; a fusion derives from one of them.

A fourth kind decides what is used of an item: `fuse.policy.contract`.

Each class has `Options`, a frozen dataclass that checks itself, right above it. What an item lacks
never counts as zeros: it is said by `present` or by masks, and each fusion says what it makes of
it. `head_weights` is what one output more costs in the head behind, for equal budgets.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The rows of a feature as a fusion meets them: steps of D numbers each."""

    size: int  # D
    most: int  # steps of an item at most; a grid of 7 × 7 counts 49 to a row
    cells: int = 1  # steps to a row


class VectorFusion(nn.Module, ABC):
    """Fuses one vector per feature: what the aggregators give.

    ``(sizes: Mapping[str, int], options, head_weights: int)``: the names and D_m, in order.
    """

    Options: ClassVar[type[Any]]
    out_size: int  # H

    @abstractmethod
    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """M vectors (B, D_m), and which of them an item has, to one vector."""


class StepFusion(nn.Module, ABC):
    """Fuses the features' rows themselves; no aggregator comes before it.

    ``(streams: Mapping[str, Stream], options, head_weights: int)``
    """

    Options: ClassVar[type[Any]]
    positional: ClassVar[bool] = False  # has weights for every step, so its length is fixed
    out_size: int  # H

    @abstractmethod
    def forward(
        self, steps: Sequence[Float[Tensor, "B _ _"]], masks: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B H"]:
        """M streams (B, T_m, D_m), zero where their masks are False, to one vector."""


class LogitFusion(nn.Module, ABC):
    """Fuses the logits that each feature's own aggregator and head give; no head follows.

    ``(features: Sequence[str], classes: int, options)``
    """

    Options: ClassVar[type[Any]]
    runs: tuple[str, ...] = ()  # trained runs whose networks give the logits; (): learned here

    @abstractmethod
    def forward(
        self, logits: Float[Tensor, "B M C"], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B C"]:
        """The logits of the item."""


def check_dropout(share: float) -> None:
    """Raise MmfError where the share of a dropout is none."""
    if not 0 <= share < 1:
        raise MmfError(f"dropout = {share}: expected 0 or more and less than 1.")


@runtime_checkable
class Starting(Protocol):
    """A part of a network that may begin from weights made elsewhere."""

    def start(self) -> None:
        """Take them; called once, before a fresh run's first step, and not at a resumption."""
