"""Dense flow by polynomial expansion, as OpenCV has it.

Farnebäck, Two-Frame Motion Estimation Based on Polynomial Expansion, SCIA 2003. It needs no
weights. The parameters are those of OpenCV's own example.
"""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mmf.extract.flow.contract import Flow


def farneback(
    first: UInt8[np.ndarray, "h w 3"], second: UInt8[np.ndarray, "h w 3"]
) -> Float32[np.ndarray, "h w 2"]:
    """Flow from `first` to `second`, both RGB: (x, y) in pixels per frame, y down."""
    return cv2.calcOpticalFlowFarneback(
        cv2.cvtColor(first, cv2.COLOR_RGB2GRAY),
        cv2.cvtColor(second, cv2.COLOR_RGB2GRAY),
        np.empty((*first.shape[:2], 2), np.float32),
        pyr_scale=0.5,
        levels=3,
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.2,
        flags=0,
    )


class Farneback(Flow):
    """Farnebäck's flow."""

    def pairs(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame."""
        return np.stack([farneback(first, second) for first, second in pairs])
