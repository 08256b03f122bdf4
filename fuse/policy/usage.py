"""What a policy uses and what that costs: rates of use, GFLOPs and milliseconds of an item.

A modality's network costs where it is used; clues and the policy itself cost in every segment. What
a segment of a feature costs is given in the fusion's options,

    --fusion-option 'gflops={"rgb": 28.27, "audio": 0.76, "policy": 1.52}'

or follows from the feature's own `flops_per_row` and its rows. A clue that is used costs once.
``policy``, where it is given, stands for all that is needed to decide, clues included. Without it,
clues cost what they cost, and the policy two operations for each of its weights. Where nothing says
what a feature costs, there are no GFLOPs. A product and its sum are two operations everywhere in
mmf, as in torch's counter. Papers often count them as one, AdaMML's among them, whose 14.14 G of a
segment of pictures are the 28.27 above.

Milliseconds are those that the store has measured (`StoredFeature.milliseconds_per_row`): the
backbone's, of every row that is needed, and decoding where it was measured. One pass serves all
features, so of those that a segment needs the one with the dearest pass counts; features that were
extracted together have had the whole of it. They are of the machines that extracted, and without
the policy's own network: that and the fusion are the milliseconds of `mmf compare`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from mmf.fuse.policy.contract import SegmentFusion
from mmf.fuse.policy.decisions import Decisions
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.stored_feature import Milliseconds

POLICY = "policy"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a segment, or a row, costs: GFLOPs, or milliseconds."""

    segment: Mapping[str, float] = field(default_factory=dict)  # by feature, and of `POLICY`
    row: Mapping[str, float] = field(default_factory=dict)  # by feature; what a segment has, counts
    shared: Mapping[str, float] = field(default_factory=dict)  # of a row: its part of a common pass
    clues: tuple[str, ...] = ()  # that are read in every segment, and cost there
    agent: float = 0.0  # of deciding about a segment, beside its clues

    @classmethod
    def of(cls, policy: SegmentFusion, specs: Mapping[str, FeatureSpec]) -> "Costs | None":
        """GFLOPs of a network on these features; None where something's cost is not known."""
        given = dict(policy.costs)
        clues = () if POLICY in given else _clues(policy)
        needed = [n for n in specs if n in policy.modalities or n in clues]
        rows = {n: s.flops_per_row / 1e9 for n, s in specs.items() if s.flops_per_row is not None}
        if any(name not in given and name not in rows for name in needed):
            return None
        return cls(segment=given, row=rows, clues=clues, agent=2e-9 * _products(policy))

    @classmethod
    def measured(cls, policy: SegmentFusion, took: Mapping[str, Milliseconds]) -> "Costs | None":
        """Milliseconds; None where a feature that it reads was not measured."""
        rows = {name: one.compute for name, one in took.items() if one.compute is not None}
        clues = _clues(policy)
        if any(name not in rows for name in (*policy.modalities, *clues)):
            return None
        decode = {name: one.decode for name, one in took.items() if one.decode is not None}
        return cls(row=rows, shared=decode, clues=clues)

    def of_items(self, decisions: Decisions) -> Float[np.ndarray, " B"]:
        """What each item costs."""
        deciding = np.full(decisions.valid.shape, self.segment.get(POLICY, self.agent))
        total, dearest = np.where(decisions.valid, deciding, 0.0), np.zeros(decisions.valid.shape)
        for name, where in self._needed(decisions).items():
            total += where * self._segments(name, decisions)
            passes = where * self.shared.get(name, 0.0) * _rows(name, decisions)
            dearest = np.maximum(dearest, passes)
        return (total + dearest).sum(1)

    def _needed(self, decisions: Decisions) -> dict[str, Float[np.ndarray, "B S"]]:
        """1 where a feature is needed: a clue in every segment, another where it is used."""
        needed = {name: decisions.valid.astype(np.float64) for name in self.clues}
        for m, name in enumerate(decisions.modalities):
            if name not in needed:
                needed[name] = decisions.used[:, :, m].astype(np.float64)
        return needed

    def _segments(self, name: str, decisions: Decisions) -> Float[np.ndarray, "B S"]:
        """What each segment of a feature costs, where it has a row."""
        rows = _rows(name, decisions)
        if name in self.segment:
            return self.segment[name] * (rows > 0)
        return self.row[name] * rows


class Usage:
    """Rates of use and costs of items as they come."""

    def __init__(
        self,
        policy: SegmentFusion,
        specs: Mapping[str, FeatureSpec],
        took: Mapping[str, Milliseconds] | None = None,
    ):
        self._modalities = policy.modalities
        costs = {
            "gflops": Costs.of(policy, specs),
            "milliseconds": Costs.measured(policy, took or {}),
        }
        self._costs = {unit: one for unit, one in costs.items() if one is not None}
        self._shares = np.zeros(len(self._modalities))
        self._sums = dict.fromkeys(self._costs, 0.0)
        self._items = 0

    def add(self, decisions: Decisions) -> None:
        """Take in some items; those without a segment do not count."""
        self._shares += decisions.shares().sum(0)
        self._items += int(decisions.valid.any(1).sum())
        for unit, costs in self._costs.items():
            self._sums[unit] += float(costs.of_items(decisions).sum())

    def result(self) -> dict[str, float]:
        """``used_<modality>``: mean share of an item's segments; its `gflops`, `milliseconds`."""
        items = max(self._items, 1)
        shares = (self._shares / items).tolist()
        found = {f"used_{n}": x for n, x in zip(self._modalities, shares, strict=True)}
        return found | {unit: total / items for unit, total in self._sums.items()}


def took(store: FeatureStore, specs: Mapping[str, FeatureSpec]) -> dict[str, Milliseconds]:
    """What rows of these features took, of those that the store has."""
    return {n: store.stored(n).milliseconds_per_row for n in specs if n in store.features}


def _rows(name: str, decisions: Decisions) -> Float[np.ndarray, "B S"]:
    """The rows of a feature in each segment."""
    rows = decisions.rows.get(name)
    return np.zeros(decisions.valid.shape) if rows is None else rows.astype(np.float64)


def _clues(policy: SegmentFusion) -> tuple[str, ...]:
    """What is read to decide: nothing by chance, or where everything is used."""
    return policy.clues if policy.deciding else ()


def _products(policy: SegmentFusion) -> int:
    """The weights of matrices that decide, each of which is multiplied once in a segment."""
    return sum(p.numel() for one in policy.deciding for p in one.parameters() if p.ndim > 1)
