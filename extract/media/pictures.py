"""Decoded pictures, upright and in RGB, and the rows that are one of them or two neighbours.

Frame i is the nearest to every grid time up to the middle between it and frame i + 1. So a row is
settled as soon as the next frame is there, and three frames are held, never a video. Only frames
that are kept are converted.
"""

import struct
from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from mmf.extract.media.masters import is_hdr, progressive, tone_mapped
from mmf.extract.sampling import Grid, cropped, resize_and_crop, resized
from mmf.extract.signals import FramePairs, Frames, Pictures


class Picture:
    """One decoded frame and its time in seconds; converted when asked for, once per size."""

    def __init__(self, frame: VideoFrame, time: float):
        self.time = time
        self.is_key = bool(frame.key_frame)
        self._frame = frame
        self._cropped: dict[tuple[Hashable, ...], np.ndarray] = {}

    def cropped(self, signal: Pictures, side: int = 0) -> np.ndarray:
        """RGB uint8 (crop, crop, 3), upright; `side` as `mmf.extract.sampling.cropped` has it."""
        shape = (signal.size, signal.crop, signal.interpolation)
        key = (*shape, signal.decode, signal.interlaced, signal.hdr, side)
        if key not in self._cropped:
            frame = self._frame if signal.interlaced == "as_is" else progressive(self._frame)
            mapped = signal.hdr != "as_is" and is_hdr(frame)
            if signal.decode == "fast" and not mapped:
                small = _shrunk(frame, signal).to_ndarray(threads=1)
                made = cropped(_turned(small, _turn(self._frame)), signal.crop, side=side)
            else:
                rgb = tone_mapped(frame) if mapped else _rgb(frame)
                made = resize_and_crop(
                    _turned(rgb, _turn(self._frame)),
                    signal.size,
                    signal.crop,
                    side=side,
                    interpolation=signal.interpolation,
                )
            self._cropped[key] = made
        return self._cropped[key]


def _shrunk(frame: VideoFrame, signal: Pictures) -> VideoFrame:
    """The frame resized by FFmpeg, which does it before the colours."""
    width, height = resized(frame.width, frame.height, signal.size)
    how = signal.interpolation.partition("_")[0].upper()
    return frame.reformat(width=width, height=height, format="rgb24", interpolation=how)


def _rgb(frame: VideoFrame) -> np.ndarray:
    """The frame as RGB uint8 (h, w, 3), by its own colour matrix and range."""
    return frame.to_ndarray(format="rgb24", threads=1)


def _turned(rgb: np.ndarray, turn: tuple[int, int, int, int]) -> np.ndarray:
    """The picture as the display matrix [a b u; c d v; x y w] says.

    It maps a pixel (p, q) to (a p + c q + x, b p + d q + y).
    """
    a, b, c, d = turn
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
    """The rows of one Frames or FramePairs signal: pictures in, (time, payload) out, in order.

    Of a grid, `only` these rows, where it is given: pictures may then begin at the first of them.
    """

    def __init__(
        self, signal: Frames | FramePairs, grid: Grid, only: Collection[int] | None = None
    ):
        self._signal, self._grid, self._only = signal, grid, only
        self._rows = 0 if only is None else min(only)
        self._before: Picture | None = None  # the last picture but one
        self._last: Picture | None = None

    def push(self, picture: Picture, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows before `end` that are settled now that `picture` follows the last one."""
        if self._signal.sample == "keyframes":
            if picture.is_key:
                yield picture.time, picture.cropped(self._signal)
            return
        last = self._last
        if last is not None:
            middle = last.time + (picture.time - last.time) / 2
            settled = min(self._grid.rows_until(middle), self._grid.rows_before(end))
            for _ in self._next(settled):
                yield last.time, self._payload(last, last, picture)
        self._before, self._last = last, picture

    def finish(self, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows left before `end`, all of the last picture."""
        last = self._last
        if last is None:
            return
        for _ in self._next(self._grid.rows_before(end)):
            yield last.time, self._payload(last, self._before or last, last)

    def _next(self, until: int) -> Iterator[int]:
        """The rows before number `until` that are to be given now."""
        while self._rows < until:
            self._rows += 1
            if self._only is None or self._rows - 1 in self._only:
                yield self._rows - 1

    def _payload(self, nearest: Picture, first: Picture, second: Picture) -> np.ndarray:
        if isinstance(self._signal, Frames):
            return nearest.cropped(self._signal)
        return np.stack([first.cropped(self._signal), second.cropped(self._signal)])
