"""Histograms of oriented optical flow on a grid.

Laptev et al., Learning Realistic Human Actions from Movies, CVPR 2008: flow between two
neighbouring frames, halved to 112 × 112, in 4 × 4 cells; Farnebäck's unless `flow` says otherwise.
In each cell 8 orientations share the length of every flow vector between the two nearest, and a
ninth number is the share of pixels that stand still. Lengths are kept (the square root of the mean,
in pixels per frame), not normalised away: fast and slow motion differ.
"""

from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.flow_backbone import FlowBackbone
from mmf.extract.signals import FramePairs, Signal

SIDE = 112
CELLS = 4
ORIENTATIONS = 8
STILL = 0.2  # pixels per frame below which nothing moves


class Hof(FlowBackbone):
    """Flow as 8 orientations and stillness in 4 × 4 cells: 144 numbers."""

    default_signal: ClassVar[Signal] = FramePairs()

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.row_shape = (CELLS * CELLS * (ORIENTATIONS + 1),)

    def rows(self, payloads: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B D"]:
        """Pairs of frames (B, 2, h, w, 3) → (B, 144)."""
        small = np.stack([[_small(frame) for frame in pair] for pair in payloads])
        return np.stack([_histogram(flow) for flow in self.flow.pairs(small)])

    def flow_flops(self) -> float | None:
        """Operations of the flow between the halved frames."""
        return self.flow.flops(SIDE, SIDE)

    def flops_per_row(self) -> float | None:
        """The flow, both halvings, and of each of the 112 × 112 vectors 24.

        5 for its length, 5 for its angle in eighths, 14 to share the length between two bins and to
        count what stands still. None where nobody knows what the flow costs, for it is nearly all.
        """
        flow = self.flow_flops()
        if flow is None:
            return None
        return flow + 2 * float(np.prod(self.signal.row_shape)) + 24 * SIDE**2


def _small(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
    return cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _histogram(flow: Float32[np.ndarray, "s s 2"]) -> Float32[np.ndarray, " D"]:
    length = np.hypot(flow[..., 0], flow[..., 1])
    turn = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi) * ORIENTATIONS % ORIENTATIONS
    moving = length >= STILL
    weight = np.where(moving, length, 0)

    below = np.floor(turn).astype(np.int64) % ORIENTATIONS
    share = turn - np.floor(turn)
    cell = np.repeat(np.arange(CELLS), SIDE // CELLS)
    place = (cell[:, None] * CELLS + cell[None, :]) * (ORIENTATIONS + 1)  # (s, s)
    size = CELLS * CELLS * (ORIENTATIONS + 1)
    sums = (
        np.bincount((place + below).ravel(), ((1 - share) * weight).ravel(), size)
        + np.bincount((place + (below + 1) % ORIENTATIONS).ravel(), (share * weight).ravel(), size)
        + np.bincount((place + ORIENTATIONS).ravel(), ~moving.ravel(), size)
    )
    means = sums * CELLS * CELLS / (SIDE * SIDE)
    return np.sqrt(means).astype(np.float32)
