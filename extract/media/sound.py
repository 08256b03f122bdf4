"""Rows of sound: decoded audio frames in, windows of one mono signal on the file's time axis out.

Channels are averaged, the samples laid out by their presentation times (gaps are silence, overlaps
are cut), then resampled, all in a stream: what is held is one window.
"""

from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame

from mmf.extract.sampling import EDGE, Grid
from mmf.extract.signals import Waves

JITTER = 0.010  # seconds; containers round times to a millisecond and more, a lost packet is 20
FEW_PLANES = 8  # PyAV 18 counts that many planes and more wrongly, and reads past their end


def mono(frame: AudioFrame) -> np.ndarray:
    """The mean of the frame's channels, float32 (samples,), integers scaled to -1…1."""
    if frame.format.is_planar and frame.layout.nb_channels >= FEW_PLANES:
        (frame,) = av.AudioResampler(frame.format.packed.name).resample(frame)
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T  # (channels, samples)
    if samples.dtype == np.uint8:
        return (samples.mean(axis=0, dtype=np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        full_scale = 2.0 ** (8 * samples.itemsize - 1)
        return (samples.mean(axis=0, dtype=np.float64) / full_scale).astype(np.float32)
    return np.nan_to_num(samples.mean(axis=0), posinf=0, neginf=0).astype(np.float32)


class SoundRows:
    """The rows of one Waves signal: audio frames in, (time, payload) out, in order."""

    def __init__(self, signal: Waves, start: float):
        self._signal = signal
        self._grid = Grid(start=start, fps=signal.fps, limit=signal.limit)
        self._rows = 0
        self._rate = 0  # of the source
        self._placed = 0  # samples at the source's rate since `start`
        self._resampler = av.AudioResampler("flt", "mono", signal.sample_rate)
        self._held = np.zeros(0, np.float32)  # at the signal's rate …
        self._held_from = 0  # … from this sample on

    def push(
        self, frame: AudioFrame, time: float | None, end: float
    ) -> Iterator[tuple[float, np.ndarray]]:
        """The windows that are complete and begin before `end` now that `frame` is there."""
        if self._full:
            return
        samples = mono(frame)
        if frame.sample_rate != self._rate:
            self._change_rate(frame.sample_rate)
        shift = 0
        if time is not None:
            shift = round((time - self._grid.start) * self._rate) - self._placed
        if self._placed == 0 or abs(shift) > JITTER * self._rate:
            for silent in range(
                0, max(shift, 0), self._rate
            ):  # a second at a time: gaps may be hours
                self._feed(np.zeros(min(self._rate, shift - silent), np.float32))
                yield from self._complete(end)
            samples = samples[max(-shift, 0) :]
        self._feed(samples)
        yield from self._complete(end)

    def finish(self, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows left before `end`, filled up with silence."""
        self._resample(None)
        for _ in range(self._rows, self._grid.rows_before(end)):
            yield self._next_row()

    def _change_rate(self, rate: int) -> None:
        self._resample(None)
        self._placed = round(self._placed * rate / self._rate) if self._rate else 0
        self._rate = rate
        self._resampler = av.AudioResampler("flt", "mono", self._signal.sample_rate)

    def _feed(self, samples: np.ndarray) -> None:
        self._placed += len(samples)
        if not len(samples):
            return
        if self._rate == self._signal.sample_rate:
            self._held = np.concatenate([self._held, samples])
            return
        frame = AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = self._rate
        self._resample(frame)

    def _resample(self, frame: AudioFrame | None) -> None:
        """Takes a frame, or None at the end, through the resampler."""
        made = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        self._held = np.concatenate([self._held, *made])

    def _complete(self, end: float) -> Iterator[tuple[float, np.ndarray]]:
        while (
            self._first_sample() + self._signal.samples <= self._held_from + len(self._held)
            and self._grid.time(self._rows) < end - EDGE
            and not self._full
        ):
            yield self._next_row()

    @property
    def _full(self) -> bool:
        return self._rows == self._signal.limit > 0

    def _first_sample(self) -> int:
        return round(self._rows / self._signal.fps * self._signal.sample_rate)

    def _next_row(self) -> tuple[float, np.ndarray]:
        first = self._first_sample() - self._held_from
        window = self._held[first : first + self._signal.samples]
        row = np.zeros(self._signal.samples, np.float32)
        row[: len(window)] = window
        time = self._grid.time(self._rows)
        self._rows += 1
        done = min(self._first_sample() - self._held_from, len(self._held))
        self._held, self._held_from = self._held[done:], self._held_from + done
        return time, row
