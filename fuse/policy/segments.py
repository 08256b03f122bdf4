"""Rows of an item → its segments.

An item has ``S_i = min(S, the most rows it has of a feature)`` segments, and of a feature with T
rows, row t belongs to segment ``floor(t S_i / T)``: segments are equal parts of an item's time, as
rows come evenly. The segments behind the S_i-th are padding. A feature with fewer rows than others
is missing in some segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmented:
    """Items cut into S segments of at most R_m steps of each of the M features."""

    steps: Sequence[Float[Tensor, "BS _ _"]]  # M of (B S, R_m, D_m)
    masks: Sequence[Bool[Tensor, "BS _"]]
    valid: Bool[Tensor, "B S"]

    def there(self, m: int) -> Bool[Tensor, "B S"]:
        """Where the feature with this number has a step."""
        return self.masks[m].any(1).view(self.valid.shape)


def segmented(
    steps: Sequence[Float[Tensor, "B _ _"]],
    masks: Sequence[Bool[Tensor, "B _"]],
    segments: int,
    cells: Sequence[int],
) -> Segmented:
    """Cut the items; `cells` are the steps to a row of each feature, which stay together."""
    rows = [row_counts(mask, n) for mask, n in zip(masks, cells, strict=True)]
    number = torch.stack(rows, 1).amax(1).clamp_max(segments)  # S_i (B,)
    each = [
        _cut(x, mask, T, number, segments, n)
        for x, mask, T, n in zip(steps, masks, rows, cells, strict=True)
    ]
    valid = torch.arange(segments, device=number.device) < number[:, None]
    return Segmented(steps=[x for x, _ in each], masks=[m for _, m in each], valid=valid)


def row_counts(mask: Bool[Tensor, "B _"], cells: int) -> Int[Tensor, " B"]:
    """How many rows of a feature each item has; they stand first."""
    return mask.view(mask.shape[0], -1, cells).any(2).sum(1)


def _cut(
    x: Float[Tensor, "B _ D"],
    mask: Bool[Tensor, "B _"],
    rows: Int[Tensor, " B"],
    number: Int[Tensor, " B"],
    segments: int,
    cells: int,
) -> tuple[Float[Tensor, "BS R D"], Bool[Tensor, "BS R"]]:
    """The steps of each segment, filled up to as many as the longest may have."""
    B, steps, D = x.shape
    longest = -(-(steps // cells) // segments)  # of shapes alone: what is there does not matter
    edges = torch.arange(segments + 1, device=x.device)
    edges = -(-edges * rows[:, None] // number.clamp_min(1)[:, None])  # ceil(s T / S_i)
    edges = torch.minimum(edges, rows[:, None])  # empty behind the last one
    at = edges[:, :-1, None] + torch.arange(longest, device=x.device)  # (B, S, R) rows
    inside = at < edges[:, 1:, None]
    at = at[..., None] * cells + torch.arange(cells, device=x.device)  # (B, S, R, cells) steps
    inside = inside[..., None].expand_as(at).reshape(B, -1)
    at = at.reshape(B, -1).clamp_max(steps - 1)
    there = mask.gather(1, at) & inside
    taken = x.gather(1, at[..., None].expand(-1, -1, D)).masked_fill(~there[..., None], 0)
    return taken.view(B * segments, -1, D), there.view(B * segments, -1)


def means(x: Float[Tensor, "BS _ D"], mask: Bool[Tensor, "BS _"]) -> Float[Tensor, "BS D"]:
    """The mean of the steps of each segment, zeros without one."""
    return x.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
