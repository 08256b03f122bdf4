"""Between the decoder and whoever takes its rows: sound that stands for captions becomes cues.

The network that hears (`mmf.extract.speech`) runs here, where the backbones do, and not in the
decoder's process. What is held of a file's sound is one window, however long the file is.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from mmf.extract.decoder.events import Ended, Event, Sample
from mmf.extract.media.captions import Cue
from mmf.extract.spent import Forward

SAMPLE_RATE = 16000
WINDOW = 30 * SAMPLE_RATE  # samples that the network hears at once
SHORT = SAMPLE_RATE // 10  # samples of sound in which nothing is said


class Ear(Protocol):
    """A network that hears a window."""

    def hear(self, window: Float32[np.ndarray, " samples"], start: float) -> tuple[list[Cue], int]:
        """The phrases of one window, and the samples up to where the next one begins."""


class Hearing:
    """The phrases of a wave that comes in parts and begins at the time `start`."""

    def __init__(self, ear: Ear, start: float):
        self.start = start
        self.phrases = 0  # so far
        self._ear = ear
        self._held: list[Float32[np.ndarray, " samples"]] = []
        self._samples = 0  # of what is held …
        self._heard = 0  # … and of what was given up before it

    def push(self, part: Float32[np.ndarray, " samples"]) -> list[Cue]:
        """The phrases of the windows that are full now; `part` is copied."""
        self._held.append(part.copy())
        self._samples += len(part)
        return self._hear(WINDOW)

    def finish(self, end: float | None = None) -> list[Cue]:
        """The phrases that are left; what lies behind the time `end` is no sound of the file."""
        if end is not None:
            left = max(0, round((end - self.start) * SAMPLE_RATE) - self._heard)
            self._held = [self._whole()[:left]]
            self._samples = len(self._held[0])
        return self._hear(SHORT + 1)

    def _hear(self, least: int) -> list[Cue]:
        cues: list[Cue] = []
        while self._samples >= least:
            wave = self._whole()
            begin = self.start + self._heard / SAMPLE_RATE
            phrases, heard = self._ear.hear(wave[:WINDOW], begin)
            cues += phrases
            self._held, self._samples = [wave[heard:]], len(wave) - heard
            self._heard += heard
        self.phrases += len(cues)
        return cues

    def _whole(self) -> Float32[np.ndarray, " samples"]:
        return np.concatenate([np.zeros(0, np.float32), *self._held])


class Listener:
    """Takes the decoder's events of files one after the other; sound comes out of it as cues.

    `ears` by the index of their signal. `spent` is the time that each of them took.
    """

    def __init__(self, ears: Mapping[int, Ear]):
        self._ears = ears
        self._hearings: dict[int, Hearing] = {}  # of the file that is being decoded
        self.spent = dict.fromkeys(ears, Forward())

    def __call__(self, event: Event) -> Iterator[Event]:
        """What is to be taken in place of an event."""
        match event:
            case Sample(signal=signal, payload=np.ndarray() as part) if signal in self._ears:
                hearing = self._hearings.get(signal) or Hearing(self._ears[signal], event.time)
                self._hearings[signal] = hearing
                yield from self._said(event.key, signal, partial(hearing.push, part))
            case Sample():
                yield event
            case Ended():
                yield from self._end(event)
            case _:  # the file is begun anew, or given up
                self._hearings.clear()
                yield event

    def _end(self, event: Ended) -> Iterator[Event]:
        rows, missing = list(event.rows), dict(event.missing)
        for signal, hearing in self._hearings.items():
            end = hearing.start + (event.media.duration or 0.0)
            yield from self._said(event.key, signal, partial(hearing.finish, end))
            rows[signal] = hearing.phrases
            if not hearing.phrases:
                missing[signal] = "no_speech"
        transcribed = frozenset(self._hearings)
        self._hearings.clear()
        yield replace(event, rows=tuple(rows), missing=missing, transcribed=transcribed)

    def _said(self, key: str, signal: int, hear: Callable[[], list[Cue]]) -> list[Sample]:
        began, cpu, row = time.perf_counter(), time.thread_time(), self._hearings[signal].phrases
        cues = hear()
        self.spent[signal] += Forward(
            seconds=time.perf_counter() - began, cpu_seconds=time.thread_time() - cpu
        )
        return [
            Sample(key=key, signal=signal, row=row + n, time=cue.start, payload=cue.text)
            for n, cue in enumerate(cues)
        ]
