"""Where a file's cues come from, and the cues, in seconds of the file's own clock."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet

from mmf.extract.media import captions
from mmf.extract.media.closed_captions import ClosedCaptions, has_closed_captions
from mmf.extract.media.opening import Limits, Unusable, open_media
from mmf.extract.media.streams import seconds, subtitle_stream
from mmf.extract.signals import Cues

MAX_TEXT = 1 << 20  # bytes of all cues; twelve hours of speech are fewer

_BROKEN = (av.FFmpegError, OSError, ValueError, IndexError)


class CueRows:
    """The cues of one signal, from the first of these: a caption file, a stream, the pictures.

    The file is `given`, or lies beside the media at `path`. Closed captions in the pictures have no
    language, so they are taken where none is asked for.
    """

    def __init__(
        self,
        signal: Cues,
        container: InputContainer,
        path: str,
        given: str | None,
        limits: Limits,
        start: float,
    ):
        self._start = start
        self.cues: list[captions.Cue] = []
        self.malformed = 0
        self.left_out = 0  # cues beyond the text that a file may have
        self._room = MAX_TEXT
        self.stream: int | None = None  # of captions
        self.pictures: ClosedCaptions | None = None
        file = given or captions.beside(path, signal.language)
        stream = subtitle_stream(container, signal.language)
        # only where the sound may have to be read instead is there a need to look first
        sure = signal.sound is None
        if file is not None:
            found, self.malformed = _cues_of_file(file, start)
            self.cues = list(self._within(found))
        elif stream is not None and (sure or has_cues(path, stream.index, limits)):
            self.stream = stream.index
        elif not signal.language and (sure or has_closed_captions(path, limits)):
            self.pictures = ClosedCaptions()

    @property
    def are_none(self) -> bool:
        """Whether the file is known to have none."""
        return not self.cues and self.stream is None and self.pictures is None

    def take(self, packet: Packet, subtitles: Sequence[Any]) -> None:
        """Takes a packet of the stream, which was decoded to `subtitles`."""
        self.cues.extend(self._within(_cues_of_packet(packet, subtitles)))

    def _within(self, cues: Iterable[captions.Cue]) -> Iterator[captions.Cue]:
        """Those that there is room for."""
        for cue in cues:
            self._room -= len(cue.text.encode())
            if self._room >= 0:
                yield cue
            else:
                self.left_out += 1

    def finish(self) -> Iterator[tuple[float, str]]:
        """Time and text of all, in order; nothing more comes."""
        if self.pictures is not None:
            self.cues = list(self._within(self.pictures.cues(self._start)))
        for cue in sorted(self.cues, key=lambda cue: cue.start):
            yield cue.start, cue.text


def has_cues(path: str, stream: int, limits: Limits) -> bool:
    """Whether a stream of captions has a cue: it may be empty, or hold pictures of text.

    Reads up to the first one.
    """
    with open_media(path, limits) as source, suppress(*_BROKEN):
        captioned = source.container.streams[stream]
        decodable = captioned.codec_context is not None
        for packet in source.container.demux(captioned) if decodable else ():
            with suppress(*_BROKEN, EOFError):
                if any(_cues_of_packet(packet, packet.decode())):
                    return True
    return False


def _cues_of_file(path: str, start: float) -> tuple[list[captions.Cue], int]:
    try:
        cues, malformed = captions.read_captions(path)
    except OSError as error:
        raise Unusable("no_such_file", "captions", f"cannot read {path!r}: {error}.") from error
    # a caption file counts from where playing starts
    moved = [captions.Cue(start=c.start + start, end=c.end + start, text=c.text) for c in cues]
    return moved, malformed


def _cues_of_packet(packet: Packet, subtitles: Sequence[Any]) -> Iterator[captions.Cue]:
    if packet.pts is None:
        return
    start = seconds(packet.pts, packet.stream)
    end = seconds(packet.pts + (packet.duration or 0), packet.stream)
    for subtitle in subtitles:
        raw = getattr(subtitle, "dialogue", b"")  # a picture of text has none
        lines = (captions.plain(line) for line in captions.decode_text(raw).splitlines())
        text = "\n".join(line for line in lines if line)
        if text:
            yield captions.Cue(start=start, end=end, text=text)
