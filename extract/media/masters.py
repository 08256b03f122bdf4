"""Frames as masters have them, made into what networks were trained on: progressive, SDR.

Interlaced frames lose one field and get its lines anew by FFmpeg's `estdif`, which looks at this
frame only: a row is the same whatever else is decoded. High dynamic range (PQ or HLG, SMPTE ST 2084
and ITU-R BT.2100) is brought to BT.709 by the curve of ITU-R BT.2390-8, section 5.4.1, from the
peak of the mastering display that a PQ frame's metadata name (SMPTE ST 2086), or 1,000 cd/m² where
they name none, to a white of 203 cd/m² (BT.2408); FFmpeg's own filter for it is not in PyAV's
build. Only frames that are kept come here.
"""

import functools
import struct
from collections.abc import Iterable
from typing import cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

PQ, HLG = 16, 18  # transfer characteristics, ITU-T H.273
PEAK, WHITE, BRIGHTEST = 1000.0, 203.0, 10000.0  # cd/m²; the last is where PQ ends
# linear BT.2020 → BT.709 (BT.2087)
_TO_709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of linear BT.2020
# of ST 2084
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_POINTS = np.linspace(0, 1, 4096) ** 4 * BRIGHTEST  # cd/m² at which the curve is tabulated


def progressive(frame: VideoFrame) -> VideoFrame:
    """The frame, or, where it is flagged interlaced, its first field with the lines between."""
    if not frame.interlaced_frame:
        return frame
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    filtered, sink = graph.add("estdif", "mode=frame"), graph.add("buffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    graph.vpush(frame)
    graph.vpush(None)
    return graph.vpull()


def is_hdr(frame: VideoFrame) -> bool:
    """Whether the frame's values are PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def tone_mapped(frame: VideoFrame) -> np.ndarray:
    """A PQ or HLG frame as RGB uint8 (h, w, 3) in BT.709 primaries, gamma 2.4 (BT.1886)."""
    codes = frame.to_ndarray(format="rgb48le", threads=1)
    light = _light(int(frame.color_trc))[codes]  # (h, w, 3)
    if frame.color_trc == HLG:  # its system gamma, 1.2 at 1,000 cd/m²
        light *= PEAK * (light @ _LUMINANCE)[..., None] ** np.float32(0.2)
    brightest = light.max(axis=2)
    gain = np.interp(brightest, _POINTS, _gain(_peak(frame)))
    light *= gain.astype(np.float32)[..., None]
    shown = np.clip(light @ _TO_709.T / np.float32(WHITE), 0, 1) ** np.float32(1 / 2.4)
    return np.rint(shown * 255).astype(np.uint8)


@functools.lru_cache(maxsize=2)
def _light(transfer: int) -> np.ndarray:
    """Light of each 16-bit code, float32: cd/m² for PQ; of the scene, 0…1, for HLG."""
    signal = np.arange(65536) / 65535
    if transfer == PQ:
        return pq_to_light(signal).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene.astype(np.float32)


def _peak(frame: VideoFrame) -> float:
    """cd/m² of the mastering display's white, as the metadata have it."""
    for data in cast(Iterable[SideData], frame.side_data):
        if data.type == SideDataType.MASTERING_DISPLAY_METADATA and frame.color_trc == PQ:
            # primaries and white as eight fractions, least and largest light, which of them count
            *_, part, whole, _, has_light = struct.unpack("=22i", bytes(data)[:88])
            if has_light and whole > 0 and WHITE < part / whole <= BRIGHTEST:
                return part / whole
    return PEAK


@functools.lru_cache(maxsize=8)
def _gain(peak: float) -> np.ndarray:
    """What light of the brightest channel is multiplied by, at each of _POINTS."""
    return mapped(_POINTS, peak) / np.maximum(_POINTS, 1e-9)


def pq_to_light(signal: np.ndarray) -> np.ndarray:
    """PQ values 0…1 → cd/m² (ST 2084, equation 4.1)."""
    root = signal ** (1 / _M2)
    return 10000.0 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def light_to_pq(light: np.ndarray) -> np.ndarray:
    """cd/m² → PQ values 0…1 (ST 2084, equation 5.1)."""
    power = (light / 10000.0) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def mapped(light: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """cd/m² of a mastering display of `peak` → of a display of WHITE: a line, then a spline."""
    largest, white = light_to_pq(np.array([peak, WHITE]))
    value, top = np.minimum(light_to_pq(light) / largest, 1), white / largest
    knee = 1.5 * top - 0.5
    t = np.maximum(value - knee, 0) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * top
    )
    return pq_to_light(np.where(value < knee, value, spline) * largest)
