"""Optical flow itself: (x, y) in pixels per frame for every pixel of the crop.

For networks that are trained on flow later. Store it at the size that they will look at,
``side``: at 224 a row is 200 KB in float16, at 112 a quarter of that.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, UInt8

from mmf import MmfError
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.flow_backbone import OPTIONS, FlowBackbone
from mmf.extract.signals import FramePairs, Signal


class RawFlow(FlowBackbone):
    """Flow at the consumer's size: (side, side, 2)."""

    default_signal: ClassVar[Signal] = FramePairs()
    options: ClassVar[Mapping[str, str]] = {**OPTIONS, "side": "224"}

    def __init__(self, setup: Setup):
        super().__init__(setup)
        side = setup.signal.row_shape[1]
        self.row_shape = (side, side, 2)

    @classmethod
    def signal_for(cls, name: str, options: Mapping[str, str]) -> Signal:
        """The short side at 8/7 of the crop, as 256 is of 224."""
        if not options["side"].isdecimal() or int(options["side"]) < 16:
            raise MmfError(f"side={options['side']!r} of backbone {name!r}: expected 16 or more.")
        side = int(options["side"])
        return FramePairs(resize=round(side * 8 / 7), crop=side)

    def rows(self, payloads: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of frames → flow."""
        return self.flow.pairs(payloads)
