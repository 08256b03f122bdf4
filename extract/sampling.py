"""When rows are taken and what of a picture: time grids, nearest frames, resize and crop.

Free of PyAV and torch, so that the decoder's process, the backbones and the tests share it.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

EDGE = 1e-6  # seconds below which two times are one: time bases are coarser, sums of floats finer


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The times ``start + k / fps``, in seconds, of the rows of every modality of a file."""

    start: float
    fps: float

    def time(self, row: int) -> float:
        """The grid time of `row`."""
        return self.start + row / self.fps

    def rows_before(self, end: float) -> int:
        """How many rows lie before `end`; at least one, for a file that is not empty."""
        return max(1, math.ceil((end - EDGE - self.start) * self.fps))

    def rows_until(self, time: float) -> int:
        """How many rows lie at or before `time`."""
        return max(0, math.floor((time + EDGE - self.start) * self.fps) + 1)


def resize_and_crop(rgb: np.ndarray, resize: int, crop: int) -> np.ndarray:
    """RGB uint8 (h, w, 3) → (crop, crop, 3): short side to `resize`, then the centre.

    Bit-equal to torchvision's ``Resize(resize)`` and ``CenterCrop(crop)`` on a PIL image: bilinear
    with antialias, the long side truncated, padding with black where the crop is larger.
    """
    height, width = rgb.shape[:2]
    if width <= height:
        size = (resize, int(resize * height / width))
    else:
        size = (int(resize * width / height), resize)
    if size != (width, height):
        image = Image.fromarray(np.ascontiguousarray(rgb))
        rgb = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return _center_crop(rgb, crop)


def _center_crop(rgb: np.ndarray, crop: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    if height < crop or width < crop:
        tall, wide = max(crop - height, 0), max(crop - width, 0)
        margins = ((tall // 2, (tall + 1) // 2), (wide // 2, (wide + 1) // 2), (0, 0))
        rgb = np.pad(rgb, margins)
        height, width = rgb.shape[:2]
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return np.ascontiguousarray(rgb[top : top + crop, left : left + crop])
