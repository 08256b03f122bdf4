"""Flow as a picture, so that networks for pictures can look at it.

Two channels of velocity become three of uint8, in one of these ways:

=============  ====================================================================================
``two``        x, y; the third channel is for nobody: the network's stem is adapted to two
``mean``       x, y, (x + y) / 2
``zero``       x, y, no motion
``wheel``      the colour wheel of Baker et al., A Database and Evaluation Methodology for Optical
               Flow, IJCV 2011: hue is direction, paleness is slowness
``gray``       x, y, the first frame in grey
``gray-only``  no motion, no motion, the first frame in grey: what is left without the flow
=============  ====================================================================================

Velocities are cut at ±`bound` pixels per frame and laid on 0…255, no motion at 128 (Simonyan and
Zisserman, Two-Stream Convolutional Networks, NeurIPS 2014; with 20: Wang et al., Temporal Segment
Networks, ECCV 2016). A step of a level is `bound` / 127.5. Without a bound each picture's own
largest speed is taken, as the colour wheel is published; fast and slow then look alike.
"""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mmf import unknown

WAYS = ("two", "mean", "zero", "wheel", "gray", "gray-only")
REST = 128  # the level of no motion
_ARCS = (15, 6, 4, 11, 13, 6)  # hues from red to yellow, green, cyan, blue, magenta, red
_TINY = 1e-5  # pixels per frame


def encode(
    flow: Float32[np.ndarray, "h w 2"],
    first: UInt8[np.ndarray, "h w 3"],
    *,
    way: str,
    bound: float | None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Flow that begins in frame `first` (RGB) as a picture; `bound` None is its largest speed."""
    if way not in WAYS:
        raise unknown("way to encode flow", way, WAYS)
    if bound is None:
        bound = max(float(np.hypot(flow[..., 0], flow[..., 1]).max()), _TINY)
    if way == "wheel":
        return _wheel(flow / np.float32(bound))
    picture = np.full((*flow.shape[:2], 3), REST, np.uint8)
    if way != "gray-only":
        picture[..., :2] = _levels(flow, bound)
    if way == "mean":
        picture[..., 2] = _levels((flow[..., 0] + flow[..., 1]) / 2, bound)
    elif way in ("gray", "gray-only"):
        picture[..., 2] = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY)
    return picture


def _levels(velocity: Float32[np.ndarray, "..."], bound: float) -> UInt8[np.ndarray, "..."]:
    share = np.clip(velocity * np.float32(1 / bound), -1, 1)
    return np.rint(share * 127.5 + 127.5).astype(np.uint8)


def _wheel(flow: Float32[np.ndarray, "h w 2"]) -> UInt8[np.ndarray, "h w 3"]:
    """Velocities as shares of the largest speed; what is faster yet is darkened."""
    hues = _hues()
    speed = np.hypot(flow[..., 0], flow[..., 1])[..., None]
    turn = (np.arctan2(-flow[..., 1], -flow[..., 0]) / np.float32(np.pi) + 1) / 2
    place = turn * (len(hues) - 1)
    below = np.floor(place).astype(np.int64)
    share = (place - below)[..., None]
    colour = (1 - share) * hues[below] + share * hues[(below + 1) % len(hues)]
    pale = np.where(speed <= 1, 1 - speed * (1 - colour), colour * np.float32(0.75))
    return np.floor(255 * pale).astype(np.uint8)


@cache
def _hues() -> Float32[np.ndarray, "hues 3"]:
    """The rim of the wheel: 55 colours in 0…1."""
    rim = []
    for arc, steps in enumerate(_ARCS):
        for step in range(steps):
            colour = [0.0, 0.0, 0.0]
            # of red, green, blue one is full and another one comes in, or goes
            stays, moves = ((0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2))[arc]
            come = np.floor(255 * step / steps) / 255
            colour[stays] = 1.0
            colour[moves] = come if arc % 2 == 0 else 1 - come
            rim.append(colour)
    return np.array(rim, np.float32)
