"""Decoding one media file: a single pass over its packets gives the rows of every signal asked for.

All modalities share one grid of times. It starts at the file's start (of its best video and best
audio stream, the earlier) and ends with their last packet, whether they are decoded or not: the
same file gives as many rows of sound as of pictures, in one run or in two. What is held is a few
frames and a window of sound, never a video.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import av
import numpy as np
from av.packet import Packet

from mmf.extract.media.clips import ClipRows
from mmf.extract.media.cues import CueRows
from mmf.extract.media.opening import (
    DEFAULT_LIMITS,
    Limits,
    Source,
    Unusable,
    declared_duration,
    open_media,
)
from mmf.extract.media.pictures import Picture, PictureRows
from mmf.extract.media.sound import SoundRows
from mmf.extract.media.streams import (
    Clock,
    audio_streams,
    best_stream,
    spoken_streams,
    step_of,
)
from mmf.extract.sampling import Grid
from mmf.extract.signals import Clips, Cues, Pictures, Signal, Waves

MAX_READ_ERRORS = 100  # in a row, before the rest of the file is given up
DECODING_ERRORS = (av.FFmpegError, ValueError, IndexError)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The file is open; its header declares this duration in seconds, or none."""

    duration: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the signal with this index; `payload` is an array, or a cue's text.

    Of cues it is a second of sound where there are no captions and speech stands for them.
    """

    signal: int
    row: int
    time: float
    payload: np.ndarray | str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The file is through: rows per signal, and the reason for each signal that is not there."""

    rows: tuple[int, ...]
    missing: dict[int, str]


@dataclass(kw_only=True)
class Facts:
    """What decoding showed of the file so far."""

    size_bytes: int = 0
    duration: float | None = None
    frames: int = 0
    bad_packets: int = 0  # skipped because they did not decode; malformed cues of a file are some
    decode_seconds: float | None = None  # CPU of the decoder's process, where it has one


@dataclass(frozen=True, kw_only=True)
class Request:
    """How a file is to be decoded, beside what is asked of it."""

    limits: Limits = DEFAULT_LIMITS
    allow_partial: bool = False  # take a file that ends before its header says
    captions: str | None = None  # the caption file, where it is not to be looked for
    only: Mapping[int, Collection[int]] | None = None  # by signal the rows to give; None: all
    exactly: bool = False  # where nothing is decoded: believe packets alone
    facts: Facts = field(default_factory=Facts)  # filled in on the way


def decode(
    path: str, signals: Sequence[Signal], request: Request | None = None
) -> Iterator[Opened | Row | Done]:
    """Opened, then the rows of every signal as they are settled, then Done.

    Raises Unusable where the file cannot be used; the rows that came before are then to be dropped.
    """
    request = request or Request()
    end = None
    if any(isinstance(s, Pictures) and s.needs_end for s in signals):
        end = _find_end(path, request.limits)
    with open_media(path, request.limits) as source:
        request.facts.size_bytes = source.size_bytes
        yield Opened(duration=declared_duration(source.container))
        one_pass = Pass(source, signals, request, end)
        one_pass.find_captions(path)
        yield from one_pass.rows()
        yield Done(rows=tuple(one_pass.counts), missing=one_pass.missing)


def _find_end(path: str, limits: Limits) -> float:
    """Where the file ends, told by its packets; none is decoded."""
    with open_media(path, limits) as source:
        container = source.container
        best = [best_stream(container, kind) for kind in ("video", "audio")]
        clock = Clock([stream for stream in best if stream is not None])
        with suppress(*DECODING_ERRORS):  # the pass that decodes says what is wrong
            for packet in container.demux():
                clock.see(packet)
        return clock.end


class Pass:
    """The one pass over the packets, and what has been gathered in it."""

    def __init__(
        self, source: Source, signals: Sequence[Signal], request: Request, end: float | None
    ):
        container = source.container
        self.source, self.container = source, container
        self.signals, self.request, self.facts = signals, request, request.facts
        self.video, audio = best_stream(container, "video"), best_stream(container, "audio")
        self.clock = Clock([s for s in (self.video, audio) if s is not None])
        self.counts = [0] * len(signals)
        self.missing: dict[int, str] = {}
        # by the index of their signal
        self.pictures: dict[int, PictureRows | ClipRows] = {}
        self.sounds: dict[int, SoundRows] = {}
        self.cues: dict[int, CueRows] = {}
        self.shown: float | None = None  # the last picture's time
        self._packets_of_sound: Counter[int] = Counter()  # by stream
        self._frames_of_sound: Counter[int] = Counter()
        # where not all rows are wanted, those that are, by signal
        wanted = {i: frozenset(rows) for i, rows in (request.only or {}).items()}
        self._numbers = {i: iter(sorted(rows)) for i, rows in wanted.items()}
        for index, signal in enumerate(signals):
            only = wanted.get(index)
            if only is not None and not only:
                continue
            tracks = audio_streams(container, signal.track) if isinstance(signal, Waves) else []
            if isinstance(signal, Waves) and tracks:
                of = [stream.index for stream in tracks]
                self.sounds[index] = SoundRows(signal, self.clock.start, of, only)
            elif isinstance(signal, Pictures) and self.video is not None:
                grid = grid_of(signal, self.clock.start, end, step_of(self.video))
                if isinstance(signal, Clips):
                    self.pictures[index] = ClipRows(signal, grid, only)
                else:
                    self.pictures[index] = PictureRows(signal, grid, only)
            elif not isinstance(signal, Cues):
                self.missing[index] = "no_such_stream"

    def find_captions(self, path: str) -> None:
        """Where each Cues signal's cues come from; the sound, where none are and it is wanted."""
        given, limits, start = self.request.captions, self.request.limits, self.clock.start
        for index, signal in enumerate(self.signals):
            if not isinstance(signal, Cues):
                continue
            rows = CueRows(signal, self.container, path, given, limits, start)
            self.cues[index] = rows
            self.facts.bad_packets += rows.malformed
            if signal.sound and rows.are_none:
                spoken = spoken_streams(self.container, signal.language)
                if of := [stream.index for stream in spoken]:
                    self.sounds[index] = SoundRows(signal.sound, start, of)

    def rows(self) -> Iterator[Row]:
        """Every row of every signal."""
        decoders = self.decoders()
        captioned = [rows.pictures for rows in self.cues.values() if rows.pictures is not None]
        for packet in self.packets():
            before = self.clock.end
            self.clock.see(packet)
            self._check_clock(before)
            if captioned and self.video and packet.stream.index == self.video.index:
                for pictures in captioned:
                    pictures.see(packet)
            rows_of = decoders.get(packet.stream.index)
            if rows_of is not None:
                yield from rows_of(packet)
        self.facts.duration = self.clock.end - self.clock.start
        if not self.request.allow_partial:
            self._check_whole()
        yield from self._last_rows()

    def _check_clock(self, before: float) -> None:
        """A single damaged time must not become hours of rows; nor may a file be endless."""
        limits, end = self.request.limits, self.clock.end
        if end - self.clock.start > limits.max_duration:
            raise Unusable("limit_duration", "decode", f"longer than {limits.max_duration:.0f} s.")
        if end - before > limits.max_gap:
            raise Unusable(
                "limit_gap",
                "decode",
                f"its clock jumps by {end - before:.0f} s; at most {limits.max_gap:.0f} s.",
            )

    def _check_whole(self) -> None:
        if self.source.cut_short:
            raise Unusable("truncated", "decode", "shorter than its header says, in bytes.")
        self.clock.check_whole(self.container)

    def decoders(self) -> dict[int, Callable[[Packet], Iterator[Row]]]:
        """What is to be done with the packets of each stream that is decoded."""
        decoders: dict[int, Callable[[Packet], Iterator[Row]]] = {}
        if self.pictures and self.video is not None:
            decoders[self.video.index] = self.picture_rows
        for sounds in self.sounds.values():
            decoders.update(dict.fromkeys(sounds.tracks, self._sound_rows))
        streams = [rows.stream for rows in self.cues.values() if rows.stream is not None]
        decoders.update(dict.fromkeys(streams, self._take_cues))
        for index in decoders:
            codec = self.container.streams[index].codec_context
            if codec is None:
                raise Unusable("undecodable", "open", f"there is no decoder for stream {index}.")
            if codec.type == "video":
                codec.skip_frame = self._skipped()
            if codec.type != "subtitle":
                codec.thread_count = 1
                codec.options = {"max_pixels": str(self.request.limits.max_pixels)}
        return decoders

    def _skipped(self) -> Literal["NONKEY", "NONREF", "DEFAULT"]:
        """Which frames no signal needs, as FFmpeg calls them."""
        asked = [s for s in self.signals if isinstance(s, Pictures)]
        if all(signal.sample == "keyframes" for signal in asked):
            return "NONKEY"
        return "NONREF" if any(signal.decode == "fast" for signal in asked) else "DEFAULT"

    def packets(self) -> Iterator[Packet]:
        """Every packet; behind a damaged place reading goes on."""
        errors = 0
        while errors < MAX_READ_ERRORS:
            try:
                for packet in self.container.demux():
                    errors = 0
                    yield packet
                return
            except DECODING_ERRORS:
                errors += 1
                self.facts.bad_packets += 1
            except OSError as error:
                raise Unusable("read_error", "decode", f"cannot read on: {error}.") from error

    def _decoded(self, packet: Packet) -> Sequence[Any]:
        try:
            return packet.decode()
        except EOFError:  # flushed twice
            return ()
        except MemoryError:  # the limit's fault, not the packet's: rows must not hang on it
            raise
        except DECODING_ERRORS:
            self.facts.bad_packets += 1
            return ()

    def picture_rows(self, packet: Packet) -> Iterator[Row]:
        """The rows that are settled now that this packet of the video is there."""
        for frame in self._decoded(packet):
            self.facts.frames += 1
            if self.facts.frames > self.request.limits.max_frames:
                most = self.request.limits.max_frames
                raise Unusable("limit_frames", "decode", f"more than {most} frames.")
            time = _time_of(frame)
            if time is None:
                time = (self.shown or self.clock.start) + step_of(packet.stream)
            if self.shown is not None and time <= self.shown:
                self.facts.bad_packets += time < self.shown  # clocks that jump back are a fault
                continue
            self.shown = time
            picture = Picture(frame, time)
            for index, rows in self.pictures.items():
                yield from self.numbered(index, rows.push(picture, self.clock.end))

    def _sound_rows(self, packet: Packet) -> Iterator[Row]:
        stream = packet.stream.index
        self._packets_of_sound[stream] += bool(packet.size)
        for frame in self._decoded(packet):
            self._frames_of_sound[stream] += 1
            for index, rows in self.sounds.items():
                if stream in rows.tracks:
                    made = rows.push(frame, _time_of(frame), self.clock.end, stream)
                    yield from self.numbered(index, made)

    def _take_cues(self, packet: Packet) -> Iterator[Row]:
        subtitles = self._decoded(packet)
        for rows in self.cues.values():
            if rows.stream == packet.stream.index:
                rows.take(packet, subtitles)
        yield from ()  # cues come in order of time, so at the end

    def _last_rows(self) -> Iterator[Row]:
        if self.pictures and not self.facts.frames:
            raise Unusable("undecodable", "decode", "no frame of the video could be decoded.")
        for stream, packets in self._packets_of_sound.items():
            if packets and not self._frames_of_sound[stream]:
                raise Unusable("undecodable", "decode", "nothing of the sound could be decoded.")
        for index, pictures in self.pictures.items():
            yield from self.numbered(index, pictures.finish(self.clock.end))
        for index, sounds in self.sounds.items():
            if any(self._packets_of_sound[stream] for stream in sounds.tracks):
                yield from self.numbered(index, sounds.finish(self.clock.end))
            else:
                self.missing[index] = "no_such_stream"
        for index, cues in self.cues.items():
            yield from self.numbered(index, cues.finish())
            self.facts.bad_packets += cues.left_out
            if not self.counts[index]:
                self.missing[index] = "no_captions"

    def numbered(
        self, index: int, rows: Iterable[tuple[float, np.ndarray] | tuple[float, str]]
    ) -> Iterator[Row]:
        """What a signal's rows are called: by their number among all."""
        for time, payload in rows:
            number = self.counts[index]
            if index in self._numbers:
                number = next(self._numbers[index])
            yield Row(signal=index, row=number, time=time, payload=payload)
            self.counts[index] += 1


def grid_of(signal: Pictures, start: float, end: float | None, step: float) -> Grid:
    """The times of a signal's rows in a file whose frames are `step` seconds apart."""
    span = signal.frames * signal.stride * step if isinstance(signal, Clips) else 0.0
    if isinstance(signal, Clips) and signal.views:
        return Grid.spread(start, (end or start) - span, signal.views)
    if signal.segments:
        return Grid.middles(start, end or start, signal.segments).earlier(span / 2)
    return Grid(start=start, fps=signal.fps, limit=signal.limit)


def _time_of(frame: Any) -> float | None:
    ticks = frame.pts if frame.pts is not None else frame.dts
    base = frame.time_base
    return None if ticks is None else ticks * base.numerator / base.denominator
