"""The cues of a caption file and of a stream of captions, in seconds of the file's own clock."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import av
from av.packet import Packet

from mmf.extract.media import captions
from mmf.extract.media.opening import Limits, Unusable, open_media
from mmf.extract.media.streams import seconds

_BROKEN = (av.FFmpegError, OSError, ValueError, IndexError)


def has_cues(path: str, stream: int, limits: Limits) -> bool:
    """Whether a stream of captions has a cue: it may be empty, or hold pictures of text.

    Reads up to the first one.
    """
    with open_media(path, limits) as source, suppress(*_BROKEN):
        captioned = source.container.streams[stream]
        decodable = captioned.codec_context is not None
        for packet in source.container.demux(captioned) if decodable else ():
            with suppress(*_BROKEN, EOFError):
                if any(cues_of_packet(packet, packet.decode())):
                    return True
    return False


def cues_of_file(path: str, start: float) -> tuple[list[captions.Cue], int]:
    """The cues of a caption file and how many are malformed, for media that begin at `start`."""
    try:
        cues, malformed = captions.read_captions(path)
    except OSError as error:
        raise Unusable("no_such_file", "captions", f"cannot read {path!r}: {error}.") from error
    # a caption file counts from where playing starts
    moved = [captions.Cue(start=c.start + start, end=c.end + start, text=c.text) for c in cues]
    return moved, malformed


def cues_of_packet(packet: Packet, subtitles: Sequence[Any]) -> Iterator[captions.Cue]:
    """The cues of one packet of a stream of captions, which was decoded to `subtitles`."""
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
