"""What a policy uses and what that costs: rates of use, GFLOPs of an item.

A modality's network costs where it is used; clues and the policy itself cost in every segment. What
a segment of a feature costs is given in the fusion's options,

    --fusion-option 'gflops={"rgb": 14.14, "audio": 0.38, "policy": 0.76}'

or follows from the feature's own `flops_per_row` and its rows. A clue that is used costs once.
``policy``, where it is given, stands for all that is needed to decide, clues included. Without it,
clues cost what they cost, and the policy two operations for each of its weights. Where nothing says
what a feature costs, there are no GFLOPs. Mind that the published figures count a product and its
sum as one operation, and torch's counter as two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from mmf.fuse.policy.contract import SegmentFusion
from mmf.fuse.policy.decisions import Decisions
from mmf.store import FeatureSpec

POLICY = "policy"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """GFLOPs of a segment, or of a row."""

    segment: Mapping[str, float] = field(default_factory=dict)  # by feature, and of `POLICY`
    row: Mapping[str, float] = field(default_factory=dict)  # by feature; what a segment has, counts
    agent: float = 0.0  # of deciding about a segment, beside its clues

    @classmethod
    def of(cls, policy: SegmentFusion, specs: Mapping[str, FeatureSpec]) -> "Costs | None":
        """Of a network on these features; None where something's cost is not known."""
        given = dict(policy.costs)
        needed = [n for n in specs if n in policy.modalities]
        if POLICY not in given:
            needed += [n for n in specs if n in policy.clues and n not in needed]
        rows = {n: s.flops_per_row / 1e9 for n, s in specs.items() if s.flops_per_row is not None}
        if any(name not in given and name not in rows for name in needed):
            return None
        return cls(segment=given, row=rows, agent=2e-9 * _products(policy))

    def of_items(self, decisions: Decisions) -> Float[np.ndarray, " B"]:
        """GFLOPs of each item."""
        free = [] if POLICY in self.segment else list(decisions.clues)
        deciding = np.full(decisions.valid.shape, self.segment.get(POLICY, self.agent))
        for name in free:
            deciding += self._segments(name, decisions)
        total = np.where(decisions.valid, deciding, 0.0)
        for m, name in enumerate(decisions.modalities):
            if name not in free:
                total += decisions.used[:, :, m] * self._segments(name, decisions)
        return total.sum(1)

    def _segments(self, name: str, decisions: Decisions) -> Float[np.ndarray, "B S"]:
        """What each segment of a feature costs, where it has a row."""
        rows = decisions.rows.get(name, np.zeros(decisions.valid.shape))
        if name in self.segment:
            return self.segment[name] * (rows > 0)
        return self.row[name] * rows


class Usage:
    """Rates of use and costs of items as they come."""

    def __init__(self, policy: SegmentFusion, specs: Mapping[str, FeatureSpec]):
        self._modalities, self._costs = policy.modalities, Costs.of(policy, specs)
        self._shares, self._gflops = np.zeros(len(self._modalities)), 0.0
        self._items = 0

    def add(self, decisions: Decisions) -> None:
        """Take in some items; those without a segment do not count."""
        self._shares += decisions.shares().sum(0)
        self._items += int(decisions.valid.any(1).sum())
        if self._costs is not None:
            self._gflops += float(self._costs.of_items(decisions).sum())

    def result(self) -> dict[str, float]:
        """``used_<modality>``: mean share of an item's segments; and `gflops` of an item."""
        items = max(self._items, 1)
        shares = (self._shares / items).tolist()
        found = {f"used_{n}": x for n, x in zip(self._modalities, shares, strict=True)}
        return found if self._costs is None else found | {"gflops": self._gflops / items}


def _products(policy: SegmentFusion) -> int:
    """The weights of matrices that decide, each of which is multiplied once in a segment."""
    return sum(p.numel() for one in policy.deciding for p in one.parameters() if p.ndim > 1)
