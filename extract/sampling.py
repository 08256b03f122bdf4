"""When rows are taken and what of a picture: time grids, nearest frames, resize and crop.

Free of PyAV and torch, so that the decoder's process, the backbones and the tests share it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

EDGE = 1e-6  # seconds below which two times are one: time bases are coarser, sums of floats finer
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
CENTRES = {"bilinear_points": 0.5, "bilinear_tf1": 0.0}  # of the first pixel


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The times ``start + k / fps``, in seconds, of the rows of every modality of a file.

    With `count` there are so many of them, wherever the file ends; `fps` infinite puts all at one.
    With `limit` there are at most so many.
    """

    start: float
    fps: float
    count: int | None = None
    limit: int = 0

    def time(self, row: int) -> float:
        """The grid time of `row`."""
        return self.start + row / self.fps

    def rows_before(self, end: float) -> int:
        """How many rows lie before `end`; at least one, for a file that is not empty."""
        if self.count is not None:
            return self.count
        rows = max(1, math.ceil((end - EDGE - self.start) * self.fps))
        return min(rows, self.limit) if self.limit else rows

    def rows_until(self, time: float) -> int:
        """How many rows lie at or before `time`."""
        if self.count is not None and math.isinf(self.fps):
            return self.count if time + EDGE >= self.start else 0
        return max(0, math.floor((time + EDGE - self.start) * self.fps) + 1)

    @classmethod
    def middles(cls, start: float, end: float, count: int) -> "Grid":
        """The middles of `count` equal parts of the time from `start` to `end`."""
        part = (end - start) / count
        return cls(start=start + part / 2, fps=1 / part if part else math.inf, count=count)

    @classmethod
    def spread(cls, start: float, end: float, count: int) -> "Grid":
        """`count` times evenly from `start` to `end`; one lies in the middle."""
        room = max(0.0, end - start)
        if count == 1:
            return cls(start=start + room / 2, fps=math.inf, count=1)
        return cls(start=start, fps=(count - 1) / room if room else math.inf, count=count)

    def earlier(self, seconds: float) -> "Grid":
        """The same times, so much earlier."""
        return replace(self, start=self.start - seconds)


def resize_and_crop(
    rgb: np.ndarray,
    resize: int | tuple[int, int],
    crop: int,
    *,
    side: int = 0,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """RGB uint8 (h, w, 3) → (crop, crop, 3): short side to `resize`, then the centre.

    Bit-equal to torchvision's ``Resize(resize)`` and ``CenterCrop(crop)`` on a PIL image: bilinear
    or bicubic with antialias, the long side truncated, padding with black where the crop is larger.
    A `resize` (height, width) leaves the aspect. `side` -1 and 1 take the ends of the long side
    instead of its centre. ``bilinear_points`` and ``bilinear_tf1`` are between the four nearest
    pixels, without antialias, rounded: the first as torch on tensors (torchvision's transforms of
    clips), the second as TensorFlow 1, whose pixels lie at their upper left corners.
    """
    height, width = rgb.shape[:2]
    size = resized(width, height, resize)
    if size != (width, height):
        if interpolation in INTERPOLATIONS:
            image = Image.fromarray(np.ascontiguousarray(rgb))
            rgb = np.asarray(image.resize(size, INTERPOLATIONS[interpolation]))
        else:
            rgb = _between_points(rgb, size, centre=CENTRES[interpolation])
    return cropped(rgb, crop, side=side)


def _between_points(rgb: np.ndarray, size: tuple[int, int], *, centre: float) -> np.ndarray:
    rows, below, down = _nearest(rgb.shape[0], size[1], centre)
    columns, right, along = _nearest(rgb.shape[1], size[0], centre)
    lines = rgb[rows] + (rgb[below] - rgb[rows].astype(np.float32)) * down[:, None, None]
    mixed = lines[:, columns] + (lines[:, right] - lines[:, columns]) * along[:, None]
    return np.rint(mixed).astype(np.uint8)


def _nearest(source: int, target: int, centre: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each target pixel the source pixel before it, the one after it, and its way between."""
    place = (np.arange(target) + centre) * (source / target) - centre
    place = place.clip(0, source - 1)
    before = place.astype(np.int64)
    return before, np.minimum(before + 1, source - 1), (place - before).astype(np.float32)


def resized(width: int, height: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a picture after the resize: of its short side, or to (height, width)."""
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def cropped(rgb: np.ndarray, crop: int, *, side: int = 0) -> np.ndarray:
    """The centre (crop, crop, 3), or with `side` -1 and 1 an end of the long side."""
    height, width = rgb.shape[:2]
    if height < crop or width < crop:
        tall, wide = max(crop - height, 0), max(crop - width, 0)
        margins = ((tall // 2, (tall + 1) // 2), (wide // 2, (wide + 1) // 2), (0, 0))
        rgb = np.pad(rgb, margins)
        height, width = rgb.shape[:2]
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    if side and height > width:
        top = 0 if side < 0 else height - crop
    elif side:
        left = 0 if side < 0 else width - crop
    return np.ascontiguousarray(rgb[top : top + crop, left : left + crop])
