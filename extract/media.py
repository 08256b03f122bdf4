"""Decoding one media file: a single pass over its packets gives the rows of every signal asked for.

All modalities share one grid of times. It starts at the file's start (of its best video and best
audio stream, the earlier) and ends with their last packet, whether they are decoded or not: the
same file gives as many rows of sound as of pictures, in one run or in two. What is held is a few
frames and a window of sound, never a video.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from mmf.extract import captions
from mmf.extract.opening import Limits, Unusable, declared_duration, open_media
from mmf.extract.pictures import Picture, PictureRows, frame_time
from mmf.extract.signals import Cues, FramePairs, Frames, Signal, Waves
from mmf.extract.sound import SoundRows

# containers whose header states a duration that does not shrink when the file is cut
DECLARING = ("mov", "matroska", "wav", "flac", "flv", "asf")
WHOLE = 0.98  # of the declared duration, or all but …
SLACK = 0.1  # … this many seconds
MAX_READ_ERRORS = 100  # in a row, before the rest of the file is given up
DECODING_ERRORS = (av.FFmpegError, ValueError, IndexError)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The file opened; `duration` seconds are promised by its header, or None."""

    duration: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the signal with this index; `payload` is an array, or a cue's text."""

    signal: int
    row: int
    time: float
    payload: np.ndarray | str


@dataclass(kw_only=True)
class Facts:
    """What decoding showed of the file so far."""

    size_bytes: int = 0
    duration: float | None = None
    frames: int = 0
    bad_packets: int = 0


@dataclass(frozen=True, kw_only=True)
class Done:
    """The file is through: rows per signal, and the reason for each signal that is not there."""

    rows: tuple[int, ...]
    missing: dict[int, str] = field(default_factory=dict)


def decode(
    path: str,
    signals: Sequence[Signal],
    facts: Facts | None = None,
    *,
    limits: Limits = Limits(),
    allow_partial: bool = False,
    captions_path: str | None = None,
) -> Iterator[Opened | Row | Done]:
    """Opened, then the rows of every signal as they are settled, then Done.

    `facts` is filled in on the way. Raises Unusable where the file cannot be used; the rows that
    came before are then to be dropped. `allow_partial` takes a file that ends too early.
    """
    facts = facts if facts is not None else Facts()
    with open_media(path, limits) as (container, facts.size_bytes):
        yield Opened(duration=declared_duration(container))
        one_pass = _Pass(container, signals, facts, limits)
        one_pass.find_captions(path, captions_path)
        yield from one_pass.rows()
        if not allow_partial:
            one_pass.check_whole()
        yield Done(rows=tuple(one_pass.counts), missing=one_pass.missing)


class _Pass:
    def __init__(
        self, container: InputContainer, signals: Sequence[Signal], facts: Facts, limits: Limits
    ):
        self.container, self.signals, self.facts, self.limits = container, signals, facts, limits
        self.video, self.audio = best_stream(container, "video"), best_stream(container, "audio")
        self.clock = Clock([s for s in (self.video, self.audio) if s is not None])
        self.counts = [0] * len(signals)
        self.missing: dict[int, str] = {}
        self.pictures: dict[int, PictureRows] = {}
        self.sounds: dict[int, SoundRows] = {}
        self.cues: dict[int, list[captions.Cue]] = {}
        self.subtitles: dict[int, int] = {}  # signal -> the stream that has its cues
        self.decoded_audio = False
        self._picture_time: float | None = None
        for index, signal in enumerate(signals):
            if isinstance(signal, Waves) and self.audio is not None:
                self.sounds[index] = SoundRows(signal, self.clock.start)
            elif isinstance(signal, Frames | FramePairs) and self.video is not None:
                self.pictures[index] = PictureRows(signal, self.clock.start)
            elif not isinstance(signal, Cues):
                self.missing[index] = "no_such_stream"

    def find_captions(self, path: str, given: str | None) -> None:
        """Where each Cues signal's cues come from: the file given, one beside, a stream."""
        for index, signal in enumerate(self.signals):
            if not isinstance(signal, Cues):
                continue
            source = given or captions.beside(path, signal.language)
            if source is not None:
                self.cues[index] = _cues_of_file(source, self.clock.start)
                continue
            stream = subtitle_stream(self.container, signal.language)
            if stream is None:
                self.missing[index] = "no_captions"
            else:
                self.cues[index] = []
                self.subtitles[index] = stream.index

    def rows(self) -> Iterator[Row]:
        """Every row of every signal."""
        decoders = self._decoders()
        for packet in self._packets():
            self.clock.see(packet)
            if self.clock.end - self.clock.start > self.limits.max_duration:
                raise Unusable(
                    "limit_duration",
                    "decode",
                    f"longer than the {self.limits.max_duration:.0f} s that are read.",
                )
            rows_of = decoders.get(packet.stream_index)
            if rows_of is not None:
                yield from rows_of(packet)
        self.facts.duration = self.clock.end - self.clock.start
        yield from self._last_rows()

    def check_whole(self) -> None:
        """Raises Unusable where the file ends well before its header says."""
        declared = declared_duration(self.container)
        name = self.container.format.name.split(",")[0]
        if declared is None or name not in DECLARING:
            return
        found = self.clock.seen_until - self.clock.start
        if name == "matroska":  # counts from zero, not from the first packet
            found = max(found, self.clock.seen_until)
        if found < WHOLE * declared and found < declared - SLACK:
            raise Unusable(
                "truncated",
                "decode",
                f"ends after {found:.2f} s of the {declared:.2f} s that its header declares.",
            )

    def _decoders(self) -> dict[int, Callable[[Packet], Iterator[Row]]]:
        decoders: dict[int, Callable[[Packet], Iterator[Row]]] = {}
        if self.pictures and self.video is not None:
            decoders[self.video.index] = self._picture_rows
        if self.sounds and self.audio is not None:
            decoders[self.audio.index] = self._sound_rows
        for index in set(self.subtitles.values()):
            decoders[index] = self._take_cues
        for index in decoders:
            codec = self.container.streams[index].codec_context
            if codec is None:
                raise Unusable("undecodable", "open", f"no decoder for stream {index}.")
            if codec.type != "subtitle":
                codec.thread_count = 1
                codec.options = {"max_pixels": str(self.limits.max_pixels)}
        return decoders

    def _packets(self) -> Iterator[Packet]:
        errors = 0
        while errors < MAX_READ_ERRORS:
            try:
                for packet in self.container.demux():
                    errors = 0
                    yield packet
                return
            except DECODING_ERRORS:  # one damaged place; reading goes on behind it
                errors += 1
                self.facts.bad_packets += 1

    def _frames_of(self, packet: Packet) -> Sequence[Any]:
        try:
            return packet.decode()
        except EOFError:  # flushed twice
            return ()
        except DECODING_ERRORS:
            self.facts.bad_packets += 1
            return ()

    def _picture_rows(self, packet: Packet) -> Iterator[Row]:
        for frame in self._frames_of(packet):
            self.facts.frames += 1
            time = frame_time(frame, self._picture_time, self.clock.step(packet.stream))
            if self._picture_time is not None and time <= self._picture_time:
                continue  # shown at no time of its own
            self._picture_time = time
            picture = Picture(frame, time)
            for index, rows in self.pictures.items():
                yield from self._numbered(index, rows.push(picture))

    def _sound_rows(self, packet: Packet) -> Iterator[Row]:
        for frame in self._frames_of(packet):
            self.decoded_audio = True
            ticks = frame.pts if frame.pts is not None else frame.dts
            base = frame.time_base
            for index, rows in self.sounds.items():
                time = None if ticks is None else ticks * base.numerator / base.denominator
                yield from self._numbered(index, rows.push(frame, time, self.clock.end))

    def _take_cues(self, packet: Packet) -> Iterator[Row]:
        found = list(_cues_of_packet(packet, self._frames_of(packet)))
        for index, stream in self.subtitles.items():
            if stream == packet.stream_index:
                self.cues[index].extend(found)
        yield from ()

    def _last_rows(self) -> Iterator[Row]:
        if self.pictures and not self.facts.frames:
            raise Unusable(
                "undecodable", "decode", "no frame of the video stream could be decoded."
            )
        if self.sounds and not self.decoded_audio:
            raise Unusable("undecodable", "decode", "nothing of the sound could be decoded.")
        for index, rows in {**self.pictures, **self.sounds}.items():
            yield from self._numbered(index, rows.finish(self.clock.end))
        for index, cues in self.cues.items():
            if not cues:
                self.missing[index] = "no_captions"
            in_order = sorted(cues, key=lambda cue: cue.start)
            yield from self._numbered(index, ((cue.start, cue.text) for cue in in_order))

    def _numbered(
        self, index: int, rows: Iterator[tuple[float, np.ndarray]] | Iterator[tuple[float, str]]
    ) -> Iterator[Row]:
        for time, payload in rows:
            yield Row(signal=index, row=self.counts[index], time=time, payload=payload)
            self.counts[index] += 1


class Clock:
    """Where the file's time starts and ends, told by its best streams' packets."""

    def __init__(self, streams: Sequence[Stream]):
        starts = [_seconds(s.start_time, s) for s in streams if s.start_time is not None]
        self.start = min(starts, default=0.0)
        self.end = self.start  # of the best streams, what is discarded left out
        self.seen_until = self.start  # by any stream
        self._best = {s.index for s in streams}
        self._last: dict[int, float] = {}

    def see(self, packet: Packet) -> None:
        """Moves the end to where the packet ends."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is None:
            return
        stream = packet.stream
        time = _seconds(ticks, stream)
        if packet.duration:
            until = _seconds(ticks + packet.duration, stream)
        else:
            until = time + (
                self.step(stream) or max(0.0, time - self._last.get(stream.index, time))
            )
        self._last[stream.index] = time
        self.seen_until = max(self.seen_until, until)
        if stream.index in self._best and not packet.is_discard:
            self.end = max(self.end, until)

    def step(self, stream: Stream) -> float:
        """Seconds from frame to frame where only the header tells; 0 where it does not."""
        rate = getattr(stream, "average_rate", None)
        return float(1 / rate) if rate else 0.0


def best_stream(container: InputContainer, kind: str) -> Stream | None:
    """FFmpeg's best stream of this kind; a cover picture is no video."""
    if not any(_is_kind(s, kind) for s in container.streams):
        return None
    best = container.streams.best(kind)  # type: ignore[arg-type]
    if best is not None and _is_kind(best, kind):
        return best
    return next(s for s in container.streams if _is_kind(s, kind))


def _is_kind(stream: Stream, kind: str) -> bool:
    return stream.type == kind and not stream.disposition & Disposition.attached_pic


def subtitle_stream(container: InputContainer, language: str) -> Stream | None:
    """The first subtitle stream of this language; '' takes the first of any."""
    for stream in container.streams.subtitles:
        if not language or captions.same_language(stream.language or "", language):
            return stream
    return None


def _seconds(ticks: int, stream: Stream) -> float:
    base = stream.time_base
    return ticks * base.numerator / base.denominator if base else 0.0


def _cues_of_file(path: str, start: float) -> list[captions.Cue]:
    try:
        cues, _ = captions.read_captions(path)
    except OSError as error:
        raise Unusable("no_such_file", "captions", f"cannot read {path!r}: {error}.") from error
    # a caption file counts from where playing starts
    return [captions.Cue(start=c.start + start, end=c.end + start, text=c.text) for c in cues]


def _cues_of_packet(packet: Packet, subtitles: Sequence[Any]) -> Iterator[captions.Cue]:
    if packet.pts is None:
        return
    start = _seconds(packet.pts, packet.stream)
    end = _seconds(packet.pts + (packet.duration or 0), packet.stream)
    for subtitle in subtitles:
        raw = getattr(subtitle, "dialogue", b"")  # a bitmap has none
        lines = (captions.plain(line) for line in captions.decode_text(raw).splitlines())
        text = "\n".join(line for line in lines if line)
        if text:
            yield captions.Cue(start=start, end=end, text=text)
