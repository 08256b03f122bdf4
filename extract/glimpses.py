"""What is heard and read in videos, to look at: the loudest of each tenth of a second, the cues."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from mmf.extract.decoder.events import Ended, Failed, Restarted, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.signals import Cues, Signal, Waves

logger = logging.getLogger(__name__)
PER_SECOND = 10  # parts of a second whose loudest sample is kept
_RATE = 8000  # Hz, of the sound that is looked at


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """Of one video, in seconds of its own clock from its begin on."""

    peaks: Float32[
        np.ndarray, " N"
    ]  # `PER_SECOND`, the largest amplitude in each part; none: silent
    cues: tuple[tuple[float, str], ...]  # when each begins, and its text


def heard(paths: Mapping[str, str]) -> dict[str, Heard]:
    """The sound and the cues of each file, by its key.

    A file that cannot be used is left out; the log says why.
    """
    signals: list[Signal] = [
        Waves(fps=PER_SECOND, sample_rate=_RATE, samples=_RATE // PER_SECOND),
        Cues(),
    ]
    found: dict[str, Heard] = {}
    peaks: list[float] = []
    cues: list[tuple[float, str]] = []
    with Decoder(signals) as decoder:
        for key, path in paths.items():
            decoder.submit(key, path)
        for event in decoder.events():
            if isinstance(event, Sample):
                if isinstance(event.payload, str):
                    cues.append((event.time, event.payload))
                else:
                    peaks.append(float(np.abs(event.payload).max()))
                continue
            if isinstance(event, Ended):
                loud = np.array(peaks, dtype=np.float32)
                found[event.key] = Heard(peaks=loud, cues=tuple(cues))
            elif isinstance(event, Failed):
                logger.warning("no sound of %r: %s (%s)", event.key, event.reason, event.message)
            if isinstance(event, Ended | Failed | Restarted):
                peaks, cues = [], []
    return found
