"""Frames of videos at some times, to look at; little else of the videos is decoded."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mmf.extract.decoder.events import Ended, Failed, Restarted, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.signals import Frames

logger = logging.getLogger(__name__)
_FPS = 10.0  # of the grid whose frames are taken: so near is a frame to its time


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Times, in seconds of the file's own clock, that begins at `begins`."""

    path: str
    times: Sequence[float]
    begins: float = 0.0


def frames_at(
    wanted: Mapping[str, Wanted], size: int = 160
) -> dict[str, list[UInt8[np.ndarray, "size size 3"]]]:
    """The frame nearest to each time, its square centre, by the key of the video.

    A file that cannot be used, or has no pictures, is left out; the log says why.
    """
    signal = Frames(fps=_FPS, resize=size, crop=size)
    some, numbers = {}, {}
    with Decoder([signal], plan=True, exactly=True) as decoder:
        for key, one in wanted.items():
            decoder.submit(key, one.path)
        for event in decoder.events():
            if not isinstance(event, Ended) or not event.rows[0]:
                _say(event)
                continue
            one = wanted[event.key]
            at = [round((time - one.begins) * _FPS) for time in one.times]
            numbers[event.key] = [min(max(row, 0), event.rows[0] - 1) for row in at]
            ranges = [(row, row + 1) for row in sorted(set(numbers[event.key]))]
            some[event.key] = event.media.duration or 0.0, [ranges]
    found = _decoded(signal, wanted, some)
    return {key: [rows[n] for n in numbers[key]] for key, rows in found.items()}


def _decoded(
    signal: Frames,
    wanted: Mapping[str, Wanted],
    some: Mapping[str, tuple[float, Sequence[Sequence[tuple[int, int]]]]],
) -> dict[str, dict[int, np.ndarray]]:
    """The rows that are wanted of each video, by their numbers."""
    found: dict[str, dict[int, np.ndarray]] = {}
    rows: dict[int, np.ndarray] = {}
    with Decoder([signal]) as decoder:
        for key, of_file in some.items():
            decoder.submit(key, wanted[key].path, some=of_file)
        for event in decoder.events():
            if isinstance(event, Sample) and isinstance(event.payload, np.ndarray):
                rows[event.row] = event.payload.copy()  # it is memory of the decoder's
                continue
            if isinstance(event, Ended):
                found[event.key] = rows
            _say(event)
            rows = {}
    return found


def _say(event: Ended | Failed | Restarted | Sample) -> None:
    if isinstance(event, Failed):
        logger.warning("no frames of %r: %s (%s)", event.key, event.reason, event.message)
    elif isinstance(event, Ended) and event.missing:
        logger.warning("no frames of %r: %s", event.key, ", ".join(event.missing.values()))
