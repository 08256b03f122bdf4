"""Histograms of oriented gradients, and colour beside them.

Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005, as in
scikit-image. The 224 × 224 crop is halved; 7 × 7 cells of 16 pixels with 9 orientations, each cell
normalised by itself, are 441 numbers. Gradients of a grey image know no colour, so a histogram of
4 × 4 × 4 RGB colours (square roots, Arandjelović and Zisserman, CVPR 2012) follows: 64 numbers,
scaled so that either half has about the same length. A label that depends on colour alone can be
learned from it.
"""

from importlib.metadata import version
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from skimage.feature import hog

from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.signals import Frames, Signal

SIDE = 112
CELLS = 7
ORIENTATIONS = 9
LEVELS = 4  # of each colour channel


class Hog(Backbone):
    """Oriented gradients in 7 × 7 cells (441) and a colour histogram (64)."""

    modality: ClassVar[str] = "rgb"
    default_signal: ClassVar[Signal] = Frames()

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.row_shape = (CELLS * CELLS * ORIENTATIONS + LEVELS**3,)

    def rows(self, payloads: UInt8[np.ndarray, "B h w 3"]) -> Float32[np.ndarray, "B D"]:
        """Frames (B, h, w, 3) → (B, 505)."""
        return np.stack([_row(frame) for frame in payloads])

    def flops_per_row(self) -> float:
        """Halving, 2 for each number of the crop; and of each of its 112 × 112 pixels 45.

        5 for grey, 7 for the gradient with its length and angle, 3 to ask for each of the 9
        orientations whether it is that and to add the length, 6 for the place of its colour.
        """
        height, width, colours = self.signal.row_shape
        of_pixel = 5 + 7 + 3 * ORIENTATIONS + 6
        return float(2 * height * width * colours + of_pixel * SIDE**2)

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows."""
        return {
            **super().libraries(),
            "scikit-image": version("scikit-image"),
            "cv2": cv2.__version__,
        }


def _row(frame: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, " D"]:
    small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    gradients = hog(
        cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
        orientations=ORIENTATIONS,
        pixels_per_cell=(SIDE // CELLS, SIDE // CELLS),
        cells_per_block=(1, 1),
        block_norm="L2-Hys",
    )
    levels = (small.reshape(-1, 3) // (256 // LEVELS)).astype(np.int64)
    counts = np.bincount(levels @ (LEVELS**2, LEVELS, 1), minlength=LEVELS**3)
    # each of the cells has length 1, so the gradients have length CELLS
    colours = CELLS * np.sqrt(counts / counts.sum())
    return np.concatenate([gradients, colours]).astype(np.float32)
