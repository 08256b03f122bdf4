"""Fuse, then aggregate: a fusion of vectors at every step, and an aggregator behind it.

The order that Liu, Yuan, et al. 2018 name as future work for MFB. Rows are put beside each other by
their relative place in the item: of T steps, as many as its longest feature has, step t takes row
floor((t + 1/2) n / T) of a feature with n rows, the middle of its share, as the store does when it
thins rows out. So features on one grid meet row by row, captions are held as long as they last
among the others, and all cells of a 7×7 grid meet the row of their time. A feature that an item
lacks is missing at every step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmf import MmfError
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.config import build_options
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.fusions.contract import StepFusion, Stream, VectorFusion


@dataclass(frozen=True, kw_only=True)
class FramewiseOptions:
    """What fuses each step, and what aggregates the fused steps."""

    fusion: str = "mfb"
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    aggregate: str = "mean"
    aggregate_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not issubclass(FUSIONS.load(self.fusion), VectorFusion):
            raise MmfError(
                f"fusion 'framewise' fuses each step with a fusion of vectors; {self.fusion!r} "
                "takes something else. Give it mfb, concat or another of `mmf list fusions`."
            )
        AGGREGATORS.load(self.aggregate)


class Framewise(StepFusion):
    """A fusion of vectors at every step, then an aggregator."""

    Options = FramewiseOptions

    def __init__(self, streams: Mapping[str, Stream], options: FramewiseOptions, head_weights: int):
        super().__init__()
        fusion, aggregate = FUSIONS.load(options.fusion), AGGREGATORS.load(options.aggregate)
        sizes = {name: stream.size for name, stream in streams.items()}
        its = build_options(fusion.Options, options.fusion_options, "fusion_options")
        self.fusion = fusion(sizes, its, head_weights)
        its = build_options(aggregate.Options, options.aggregate_options, "aggregate_options")
        self.aggregate = aggregate(self.fusion.out_size, its)
        self.out_size = self.aggregate.out_size

    def forward(
        self, steps: Sequence[Float[Tensor, "B _ _"]], masks: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B H"]:
        """(B, H) of the aggregator."""
        rows = torch.stack([mask.sum(1) for mask in masks], 1)  # (B, M)
        total = rows.amax(1)  # (B,): the item's steps
        most = max(x.shape[1] for x in steps)
        there = torch.arange(most, device=total.device) < total.unsqueeze(1)  # (B, T)
        aligned = [stretched(x, m, total, most) for x, m in zip(steps, masks, strict=True)]
        present = (rows > 0).unsqueeze(1).expand(-1, most, -1)  # (B, T, M)
        fused = self.fusion([x[there] for x in aligned], present[there])  # (steps of all items, H)
        together = fused.new_zeros(*there.shape, self.fusion.out_size)  # (B, T, H)
        together[there] = fused
        return self.aggregate(together, there)


def stretched(
    x: Float[Tensor, "B _ D"], mask: Bool[Tensor, "B _"], total: Int[Tensor, " B"], most: int
) -> Float[Tensor, "B T D"]:
    """An item's rows, spread over its `total` steps; what stands behind these means nothing."""
    step = torch.arange(most, device=x.device)
    rows, total = mask.sum(1, keepdim=True), total.unsqueeze(1)
    number = (2 * step + 1) * rows // (2 * total).clamp_min(1)  # (B, T): of the rows that are there
    place = (~mask).byte().argsort(dim=1, stable=True)  # of the rows that are there, in order
    at = place.gather(1, number.clamp_max(x.shape[1] - 1))
    return x.gather(1, at.unsqueeze(2).expand(-1, -1, x.shape[2]))
