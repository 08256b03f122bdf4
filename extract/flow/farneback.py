"""Dense flow by polynomial expansion, as OpenCV has it.

Farnebäck, Two-Frame Motion Estimation Based on Polynomial Expansion, SCIA 2003. It needs no
weights. The parameters are those of OpenCV's own example.
"""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mmf.extract.flow.contract import Flow

LEVELS = 3  # of the pyramid, each half of the one above, beside the frames themselves
LEAST = 32  # pixels of a side, below which OpenCV makes no further level
WINDOW = 15
ITERATIONS = 3
REACH = 5  # pixels to each side that a polynomial is fitted to


def farneback(
    first: UInt8[np.ndarray, "h w 3"], second: UInt8[np.ndarray, "h w 3"]
) -> Float32[np.ndarray, "h w 2"]:
    """Flow from `first` to `second`, both RGB: (x, y) in pixels per frame, y down."""
    return cv2.calcOpticalFlowFarneback(
        cv2.cvtColor(first, cv2.COLOR_RGB2GRAY),
        cv2.cvtColor(second, cv2.COLOR_RGB2GRAY),
        np.empty((*first.shape[:2], 2), np.float32),
        pyr_scale=0.5,
        levels=LEVELS,
        winsize=WINDOW,
        iterations=ITERATIONS,
        poly_n=REACH,
        poly_sigma=1.2,
        flags=0,
    )


class Farneback(Flow):
    """Farnebäck's flow."""

    def pairs(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame."""
        return np.stack([farneback(first, second) for first, second in pairs])

    def flops(self, height: int, width: int) -> float:
        """Operations of one pair: grey, and at each level of the pyramid what its pixels take.

        Level k, of (h w / 4^k) pixels, blurs both whole frames by a kernel of 5 (2^k - 1) / 2
        numbers, at least 3, along each side; fits polynomials to both, 25 for each pixel of the
        reach and 13 more; and then, in each iteration, moves the second's and sets up equations
        (79), averages their five numbers over the window by running sums (20) and solves (18).
        """
        total, k = 2.0 * 5 * height * width, 0
        while k <= LEVELS and (k == 0 or min(height, width) / 2**k >= LEAST):
            blur = 2 * 2 * 2 * max(3, round(5 * (2**k - 1) / 2) | 1) * height * width
            fit, solve = 2 * (25 * REACH + 13), ITERATIONS * (79 + 20 + 18)
            total, k = total + blur + (fit + solve) * height * width / 4**k, k + 1
        return total
