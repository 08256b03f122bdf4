"""Rows of sound: decoded audio frames in, windows of one mono signal on the file's time axis out.

Channels are averaged, the samples laid out by their presentation times (gaps are silence, overlaps
are cut), then resampled, all in a stream: what is held is one window.
"""

from collections.abc import Collection, Iterator, Sequence

import av
import numpy as np
from av.audio.frame import AudioFrame

from mmf.extract.sampling import EDGE, Grid
from mmf.extract.signals import Waves

JITTER = 0.010  # seconds; containers round times to a millisecond and more, a lost packet is 20
BEHIND = 60.0  # seconds that one track of several may come after another before it counts as silent
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


class _Track:
    """One audio stream on the axis: its samples, mono and at the signal's rate, in order."""

    def __init__(self, signal: Waves, start: float):
        self._sample_rate, self._start = signal.sample_rate, start
        self._rate = 0  # of the source
        self._placed = 0  # samples at the source's rate since `start`
        self._resampler = av.AudioResampler("flt", "mono", signal.sample_rate)
        self._held = np.zeros(0, np.float32)  # at the signal's rate …
        self._held_from = 0  # … from this sample on

    @property
    def until(self) -> int:
        """The sample that comes next."""
        return self._held_from + len(self._held)

    def push(self, frame: AudioFrame, time: float | None) -> Iterator[None]:
        """Lays the frame out; yields whenever samples have come, so that they may be taken."""
        samples = mono(frame)
        if frame.sample_rate != self._rate:
            self._change_rate(frame.sample_rate)
        shift = 0
        if time is not None:
            shift = round((time - self._start) * self._rate) - self._placed
        if self._placed == 0 or abs(shift) > JITTER * self._rate:
            for silent in range(
                0, max(shift, 0), self._rate
            ):  # a second at a time: gaps may be hours
                self._feed(np.zeros(min(self._rate, shift - silent), np.float32))
                yield
            samples = samples[max(-shift, 0) :]
        self._feed(samples)
        yield

    def flush(self) -> None:
        """Brings out what the resampler holds back; nothing more comes."""
        if self._rate:
            self._resample(None)

    def fill(self, until: int) -> None:
        """Silence up to this sample: the track is behind the others, or has ended."""
        lacking = until - self.until
        if lacking <= 0:
            return
        self._held = np.concatenate([self._held, np.zeros(lacking, np.float32)])
        self._placed += round(lacking * (self._rate or self._sample_rate) / self._sample_rate)

    def window(self, first: int, count: int) -> np.ndarray:
        """Up to `count` samples from number `first` on."""
        return self._held[first - self._held_from :][:count]

    def forget(self, before: int) -> None:
        """Gives up the samples before number `before`."""
        done = min(before - self._held_from, len(self._held))
        self._held, self._held_from = self._held[done:], self._held_from + done

    def _change_rate(self, rate: int) -> None:
        self.flush()
        old = self._rate or self._sample_rate
        self._placed = round(self._placed * rate / old)
        self._rate = rate
        self._resampler = av.AudioResampler("flt", "mono", self._sample_rate)

    def _feed(self, samples: np.ndarray) -> None:
        self._placed += len(samples)
        if not len(samples):
            return
        if self._rate == self._sample_rate:
            self._held = np.concatenate([self._held, samples])
            return
        frame = AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = self._rate
        self._resample(frame)

    def _resample(self, frame: AudioFrame | None) -> None:
        """Takes a frame, or None at the end, through the resampler."""
        made = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        self._held = np.concatenate([self._held, *made])


class SoundRows:
    """The rows of one Waves signal: audio frames in, (time, payload) out, in order.

    Of several `streams` (their indices) the mean is taken; one that has nothing at a time is silent
    there. With `only`, only these rows.
    """

    def __init__(
        self,
        signal: Waves,
        start: float,
        streams: Sequence[int] = (0,),
        only: Collection[int] | None = None,
    ):
        self._signal, self._only = signal, only
        self._grid = Grid(start=start, fps=signal.fps, limit=signal.limit)
        self._rows = 0
        self.tracks = {index: _Track(signal, start) for index in streams}

    def push(
        self, frame: AudioFrame, time: float | None, end: float, stream: int = 0
    ) -> Iterator[tuple[float, np.ndarray]]:
        """The windows that are complete and begin before `end` now that `frame` is there."""
        if self._full:
            return
        track = self.tracks[stream]
        for _ in track.push(frame, time):
            for other in self.tracks.values():
                other.fill(track.until - round(BEHIND * self._signal.sample_rate))
            yield from self._complete(end)

    def finish(self, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows left before `end`, filled up with silence."""
        for track in self.tracks.values():
            track.flush()
        for _ in range(self._rows, self._grid.rows_before(end)):
            yield from self._next_row()

    def _complete(self, end: float) -> Iterator[tuple[float, np.ndarray]]:
        while (
            self._first_sample() + self._signal.samples <= self._until
            and self._grid.time(self._rows) < end - EDGE
            and not self._full
        ):
            yield from self._next_row()

    @property
    def _until(self) -> int:
        return min(track.until for track in self.tracks.values())

    @property
    def _full(self) -> bool:
        return self._rows == self._signal.limit > 0

    def _first_sample(self) -> int:
        return round(self._rows / self._signal.fps * self._signal.sample_rate)

    def _next_row(self) -> Iterator[tuple[float, np.ndarray]]:
        first = self._first_sample()
        row = np.zeros(self._signal.samples, np.float32)
        for track in self.tracks.values():
            window = track.window(first, self._signal.samples)
            row[: len(window)] += window
        if len(self.tracks) > 1:
            row /= len(self.tracks)
        number, time = self._rows, self._grid.time(self._rows)
        self._rows += 1
        for track in self.tracks.values():
            track.forget(self._first_sample())
        if self._only is None or number in self._only:
            yield time, row
