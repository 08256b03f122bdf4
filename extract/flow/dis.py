"""Dense inverse search, as OpenCV has it.

Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016. It needs no weights. The
presets are OpenCV's; `dis` alone is `dis:medium`, which takes less than half of Farnebäck's time.
How many steps its search takes depends on the frames, so nobody counts its operations.
"""

from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mmf.extract.flow.contract import Flow, FlowSetup

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class Dis(Flow):
    """Dense inverse search in one of OpenCV's presets."""

    variants: ClassVar[tuple[str, ...]] = tuple(_PRESETS)

    def __init__(self, setup: FlowSetup):
        super().__init__(setup)
        self._search = cv2.DISOpticalFlow.create(_PRESETS[setup.variant or "medium"])

    def pairs(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame."""
        return np.stack([self._flow(*map(_gray, pair)) for pair in pairs])

    def _flow(
        self, first: UInt8[np.ndarray, "h w"], second: UInt8[np.ndarray, "h w"]
    ) -> Float32[np.ndarray, "h w 2"]:
        # None, not an array: it would be where the search begins
        return self._search.calc(first, second, None)  # type: ignore[call-overload]


def _gray(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
