"""What was decided about items: which modality was used in which of their segments."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mmf.fuse.policy.contract import Decided, SegmentFusion


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """Decisions about B items of S segments, M modalities; items stand as they were given.

    Segment s of an item with n of them is the s-th n-th of its time. `rows` are the rows that the
    item has of each feature there, of modalities and of clues, so that costs can be counted.
    """

    modalities: tuple[str, ...]
    used: Bool[np.ndarray, "B S M"]
    there: Bool[np.ndarray, "B S M"]  # the modality has a row in the segment; else it is not used
    valid: Bool[np.ndarray, "B S"]  # padded segments are not, and stand behind
    rows: Mapping[str, Int[np.ndarray, "B S"]]
    segment_weights: Float[np.ndarray, "B S M"] | None = None  # as `Decided` has them

    @classmethod
    def of(
        cls, policy: SegmentFusion, decided: Decided, lengths: Mapping[str, Int[np.ndarray, " B"]]
    ) -> "Decisions":
        """Those of a batch whose items have so many rows of each feature."""
        valid, weights = decided.valid.cpu().numpy(), decided.segment_weights
        return cls(
            modalities=policy.modalities,
            used=decided.used.cpu().numpy() > 0.5,
            there=decided.there.cpu().numpy(),
            valid=valid,
            rows={name: _rows(rows, valid) for name, rows in lengths.items()},
            segment_weights=None if weights is None else weights.detach().float().cpu().numpy(),
        )

    def shares(self) -> np.ndarray:
        """Float64 (B, M): the share of its segments in which an item uses each modality."""
        return self.used.sum(1) / np.maximum(self.valid.sum(1, keepdims=True), 1)


def _rows(lengths: Int[np.ndarray, " B"], valid: Bool[np.ndarray, "B S"]) -> Int[np.ndarray, "B S"]:
    """How many of an item's rows are in each of its segments: `fuse.policy.segments`."""
    number = np.maximum(valid.sum(1, keepdims=True), 1)
    edges = -(-np.arange(valid.shape[1] + 1) * lengths[:, None].astype(np.int64) // number)
    return np.diff(np.minimum(edges, lengths[:, None]), axis=1)
