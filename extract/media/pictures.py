"""Rows of pictures: which decoded frames are kept, upright and in RGB.

Frame i is the nearest to every grid time up to the middle between it and frame i + 1. So a row is
settled as soon as the next frame is there, and three frames are held, never a video. Only frames
that are kept are converted.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from mmf.extract.sampling import Grid, resize_and_crop
from mmf.extract.signals import FramePairs, Frames


class Picture:
    """One decoded frame and its time in seconds; converted when asked for, once per size."""

    def __init__(self, frame: VideoFrame, time: float):
        self.time = time
        self._frame = frame
        self._cropped: dict[tuple[int, int], np.ndarray] = {}

    def cropped(self, resize: int, crop: int) -> np.ndarray:
        """RGB uint8 (crop, crop, 3), upright."""
        if (resize, crop) not in self._cropped:
            self._cropped[resize, crop] = resize_and_crop(upright(self._frame), resize, crop)
        return self._cropped[resize, crop]


def upright(frame: VideoFrame) -> np.ndarray:
    """The frame as RGB uint8 (h, w, 3), turned as its display matrix says.

    The colour matrix and range are the frame's own. The display matrix [a b u; c d v; x y w] maps
    a pixel (p, q) to (a p + c q + x, b p + d q + y).
    """
    rgb = frame.to_ndarray(format="rgb24", threads=1)
    a, b, c, d = _turn(frame)
    if abs(b) > abs(a):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _turn(frame: VideoFrame) -> tuple[int, int, int, int]:
    for data in cast(Iterable[SideData], frame.side_data):
        if data.type == SideDataType.DISPLAYMATRIX:
            a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
            return a, b, c, d
    return 1, 0, 0, 1


class PictureRows:
    """The rows of one Frames or FramePairs signal: pictures in, (time, payload) out, in order."""

    def __init__(self, signal: Frames | FramePairs, start: float):
        self._signal = signal
        self._grid = Grid(start=start, fps=signal.fps)
        self._rows = 0
        self._before: Picture | None = None  # the last picture but one
        self._last: Picture | None = None

    def push(self, picture: Picture, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows before `end` that are settled now that `picture` follows the last one."""
        last = self._last
        if last is not None:
            middle = last.time + (picture.time - last.time) / 2
            settled = min(self._grid.rows_until(middle), self._grid.rows_before(end))
            for _ in range(self._rows, settled):
                self._rows += 1
                yield last.time, self._payload(last, last, picture)
        self._before, self._last = last, picture

    def finish(self, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows left before `end`, all of the last picture."""
        last = self._last
        if last is None:
            return
        for _ in range(self._rows, self._grid.rows_before(end)):
            self._rows += 1
            yield last.time, self._payload(last, self._before or last, last)

    def _payload(self, nearest: Picture, first: Picture, second: Picture) -> np.ndarray:
        resize, crop = self._signal.resize, self._signal.crop
        if isinstance(self._signal, Frames):
            return nearest.cropped(resize, crop)
        return np.stack([first.cropped(resize, crop), second.cropped(resize, crop)])
