"""Items whose rows come as the run asks for them: a policy says which it wants, and nobody else.

What decisions are made from, and what cannot be had in part, is there at first (`needed_first`). Of
every other feature it is enough to know how many rows there are. A row that is not there counts as
zeros, and where its modality is not used that changes nothing: once `wanted` is empty, the scores
are those of a store that has all rows, to the last bit.

A policy whose decisions follow from clues alone asks once. Where what was seen decides about later
segments, one asks until nothing is wanted: then every decision was made on rows that are there.
"""

from collections.abc import Collection, Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Int, Shaped

from mmf.fuse.data import with_rows
from mmf.fuse.inference.scoring import Scored, with_decisions
from mmf.fuse.network import Network
from mmf.fuse.policy.decisions import Decisions
from mmf.fuse.run import Run
from mmf.store import Batch
from mmf.store.batch import evenly
from mmf.store.items import Items

Ranges = tuple[tuple[int, int], ...]  # rows from the first up to, and without, the second


def needed_first(run: Run, network: Network, whole: Collection[str]) -> tuple[str, ...]:
    """The features whose rows must all be there: clues, and those that come only `whole`."""
    if network.policy is None or run.config.normalise == "l2_joint":
        return network.features  # what one row says depends on those of the others
    return tuple(n for n in network.features if n in network.policy.clues or n in whole)


class Asking:
    """Some items of one forward pass, whole videos, of which rows are there or not yet.

    `lengths` are the rows that their videos have of each feature of the run; `network` is `exact`.
    """

    def __init__(
        self, run: Run, network: Network, items: Items, lengths: Mapping[str, Int[np.ndarray, " B"]]
    ):
        self._run, self._network = run, network
        most = run.config.max_steps
        kept = {name: [_kept(int(n), most) for n in of] for name, of in lengths.items()}
        shapes = {n: (len(items), max(1, *map(len, kept[n])), *run.specs[n].shape) for n in kept}
        none = np.zeros((len(items), 0), np.float32)
        self._kept = kept
        self._there = {n: np.zeros(shape[:2], bool) for n, shape in shapes.items()}
        self._batch = Batch(
            items=items,
            values={n: np.zeros(shape, run.specs[n].dtype) for n, shape in shapes.items()},
            lengths={n: np.array([len(rows) for rows in of], np.int32) for n, of in kept.items()},
            labels=none,
            rated=none.astype(bool),
        )

    def give(
        self,
        feature: str,
        item: int,
        rows: Int[np.ndarray, " n"],
        values: Shaped[np.ndarray, "n ..."],
    ) -> None:
        """Rows of an item, by their numbers in its video, as they are stored."""
        places = {row: place for place, row in enumerate(self._kept[feature][item].tolist())}
        for row, value in zip(rows.tolist(), values, strict=True):
            if row in places:
                self._batch.values[feature][item, places[row]] = value
                self._there[feature][item, places[row]] = True

    def wanted(self) -> list[dict[str, Ranges]]:
        """By item and feature, the rows that the policy asks for and that are not there."""
        scored = self.score()
        if scored.decisions is None:
            return [{} for _ in scored.items]
        found: list[dict[str, Ranges]] = []
        for i in range(len(scored.items)):
            lacking = {name: self._lacking(scored.decisions, name, i) for name in self._kept}
            found.append({name: ranges for name, ranges in lacking.items() if ranges})
        return found

    def score(self) -> Scored:
        """What the run says of the items with the rows that are there."""
        logits, decisions = with_decisions(self._network, self._batch, self._run.specs)
        return Scored(
            items=self._batch.items,
            logits=logits,
            labels=self._batch.labels,
            rated=self._batch.rated,
            there=with_rows(self._batch),
            decisions=decisions,
        )

    def _lacking(self, decisions: Decisions, feature: str, item: int) -> Ranges:
        if feature not in decisions.modalities:
            return ()
        used = decisions.used[item, :, decisions.modalities.index(feature)]
        ends = np.cumsum(decisions.rows[feature][item])
        lacking = np.zeros(self._there[feature].shape[1], bool)
        for first, end in np.stack([ends - decisions.rows[feature][item], ends], 1)[used].tolist():
            lacking[first:end] = ~self._there[feature][item, first:end]
        return _ranges(self._kept[feature][item][np.flatnonzero(lacking)])


def _kept(rows: int, most: int) -> Int[np.ndarray, " n"]:
    """The numbers of the rows that a run reads of so many: `store.batch` thins them out."""
    return np.arange(rows) if rows <= most else evenly(rows, most)


def _ranges(rows: Int[np.ndarray, " n"]) -> Ranges:
    """Row numbers in order → from the first up to, and without, the second of each pair."""
    cuts = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    return tuple((int(rows[a]), int(rows[b - 1]) + 1) for a, b in pairwise(cuts) if b > a)
