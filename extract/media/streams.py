"""Which of a file's streams are read, and where its time starts and ends."""

from collections.abc import Sequence

from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from mmf.extract.media.captions import same_language
from mmf.extract.media.opening import WHOLE, Unusable, declared_duration

# containers whose header states a duration that does not shrink when the file is cut
DECLARING = ("mov", "matroska", "wav", "flac", "flv", "asf")
SLACK = 0.1  # seconds that may be lacking, however short the file


class Clock:
    """Where the file's time starts and ends: told by the packets of its best video and audio.

    They tell it whether they are decoded or not, so every modality has the same rows.
    """

    def __init__(self, best: Sequence[Stream]):
        starts = [seconds(s.start_time, s) for s in best if s.start_time is not None]
        self.start = min(starts, default=0.0)
        self.end = self.start  # of the best streams, what is discarded left out
        self._until = self.start  # of any stream
        self._best = {stream.index for stream in best}
        self._last: dict[int, float] = {}  # each stream's last packet

    def see(self, packet: Packet) -> None:
        """Moves the end to where the packet ends."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is None:
            return
        stream = packet.stream
        time = seconds(ticks, stream)
        if packet.duration:
            until = seconds(ticks + packet.duration, stream)
        else:
            until = time + (step_of(stream) or max(0.0, time - self._last.get(stream.index, time)))
        self._last[stream.index] = time
        self._until = max(self._until, until)
        if stream.index in self._best and not packet.is_discard:
            self.end = max(self.end, until)

    def check_whole(self, container: InputContainer) -> None:
        """Raises Unusable where the packets end well before the header says."""
        declared = declared_duration(container)
        kind = container.format.name.split(",")[0]
        if declared is None or kind not in DECLARING:
            return
        found = self._until - self.start
        if kind == "matroska":  # declares the end of the last packet, counted from zero
            found = max(found, self._until)
        if found < WHOLE * declared and found < declared - SLACK:
            raise Unusable(
                "truncated",
                "decode",
                f"ends after {found:.2f} s of the {declared:.2f} s that its header declares.",
            )


def seconds(ticks: int, stream: Stream) -> float:
    """A stream's time in seconds, rounded once."""
    base = stream.time_base
    return ticks * base.numerator / base.denominator if base else 0.0


def step_of(stream: Stream) -> float:
    """Seconds from frame to frame as the header has it; 0 where it does not."""
    rate = getattr(stream, "average_rate", None)
    return float(1 / rate) if rate else 0.0


def best_stream(container: InputContainer, kind: str) -> Stream | None:
    """FFmpeg's best stream of this kind ('video', 'audio'); a cover picture is no video."""
    fitting = [stream for stream in container.streams if _is_of(kind, stream)]
    if not fitting:
        return None
    best = container.streams.best(kind)  # type: ignore[arg-type]
    return best if best is not None and _is_of(kind, best) else fitting[0]


def _is_of(kind: str, stream: Stream) -> bool:
    return stream.type == kind and not stream.disposition & Disposition.attached_pic


def audio_streams(container: InputContainer, track: str) -> Sequence[Stream]:
    """The streams that `Waves.track` means; none where there is none."""
    fitting = [stream for stream in container.streams.audio if _is_of("audio", stream)]
    if track.startswith("lang="):
        language = track.removeprefix("lang=")
        return [s for s in fitting if same_language(s.language or "", language)][:1]
    if track.isdecimal():
        return fitting[int(track) :][:1]
    best = best_stream(container, "audio")
    return list(fitting) if track == "all" else [best] if best else []


def spoken_streams(container: InputContainer, language: str) -> Sequence[Stream]:
    """The sound in which one looks for words: marked as of this language, else the best stream."""
    marked = audio_streams(container, f"lang={language}") if language else []
    return marked or audio_streams(container, "")


def subtitle_stream(container: InputContainer, language: str) -> Stream | None:
    """The first subtitle stream of this language; '' takes the first of any."""
    for stream in container.streams.subtitles:
        if not language or same_language(stream.language or "", language):
            return stream
    return None
